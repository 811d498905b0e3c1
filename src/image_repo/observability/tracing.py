"""Tracing by OpenTelemetry, with the extra ``otel`` and the setting ``telemetry``.

One span for each request that reaches the application; hits of the fast path have none and are counted in ``/metrics``.
``OTEL_EXPORTER_OTLP_*`` configure the exporter. The query string is not an attribute: it may hold the signature of a
temporary URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from image_repo import __version__
from image_repo.errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def traced(inner: WSGIApplication) -> WSGIApplication:
    """Return the application with a span around each request.

    :raises ConfigurationError: when the extra is not installed
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(["telemetry: true needs the extra: pip install 'image_repo[otel]'"]) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "image_repo", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _Traced(inner, provider.get_tracer("image_repo", __version__))


class _Traced:
    """Semantic conventions for HTTP spans, version 1.27."""

    def __init__(self, inner: WSGIApplication, tracer: Any) -> None:
        self._inner = inner
        self._tracer = tracer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        from opentelemetry import propagate, trace  # noqa: PLC0415

        carrier = {name[5:].replace("_", "-").lower(): environ[name] for name in _CONTEXT if name in environ}
        method = environ["REQUEST_METHOD"]
        attributes = {"http.request.method": method, "url.path": environ.get("PATH_INFO", "")}
        with self._tracer.start_as_current_span(
            method, context=propagate.extract(carrier), kind=trace.SpanKind.SERVER, attributes=attributes
        ) as span:
            return self._inner(environ, _recording(span, start_response))


#: W3C Trace Context
_CONTEXT = ("HTTP_TRACEPARENT", "HTTP_TRACESTATE")


def _recording(span: Any, start_response: StartResponse) -> StartResponse:
    def begin(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:
        span.set_attribute("http.response.status_code", int(status[:3]))
        layer = dict(headers).get("Cache-Status", "").rpartition("detail=")[2]
        if layer:
            span.set_attribute("image_repo.layer", layer)
        return start_response(status, headers, *error)

    return begin
