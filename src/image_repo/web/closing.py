"""A WSGI response that runs a callback once it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


class Closing:
    """An answer after which something is done.

    :param afterwards: called when everything is sent, or the client is gone
    """

    def __init__(self, inner: Iterable[bytes], afterwards: Callable[[], None]) -> None:
        self._inner = inner
        self._afterwards = afterwards

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner
        # uWSGI sends the head with the first piece of the body: where there is none, it would only do so after close
        yield b""

    def close(self) -> None:
        """Called by the server."""
        try:
            if hasattr(self._inner, "close"):
                self._inner.close()
        finally:
            self._afterwards()
