"""Traces: a span for each request, without what a query may hold, sent to a collector that really listens."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pictures
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from webserver import embedded, serving


@pytest.fixture
def collector():
    bodies, arrived = [], threading.Event()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server, bodies, arrived
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_is_a_span_of_the_callers_trace(tmp_path, collector, monkeypatch):
    server, bodies, arrived = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    trace = "0af7651916cd43dd8448eb211c80319c"
    with serving(embedded(tmp_path, telemetry=True), tmp_path) as served:
        served.client.put("/images/a", pictures.jpeg())
        served.client.get("/images/a?w=20&v=secret", traceparent=f"00-{trace}-b7ad6b7169203331-01")
        by_trace = {}
        while trace not in by_trace and arrived.wait(10):
            arrived.clear()
            by_trace = {span.trace_id.hex(): span for body in bodies for span in spans(body)}
    members = {item.key: item.value.string_value or item.value.int_value for item in by_trace[trace].attributes}
    assert members["url.path"] == "/images/a"
    assert members["http.response.status_code"] == 200
    assert members["image_repo.layer"] == "rendered"
    assert b"secret" not in b"".join(bodies)


def spans(body):
    request = ExportTraceServiceRequest.FromString(body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
