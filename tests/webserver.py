"""The application on a real socket, over a folder of its own, and a client that sends exactly what it is told."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from werkzeug.serving import WSGIRequestHandler, make_server

from image_repo import wiring
from image_repo.catalogue.indexer import SweepState
from image_repo.config import Config, LocalCacheConfiguration, PersistentStoreConfiguration
from image_repo.errors import CatalogueUnavailable
from image_repo.repository.repository import Repository
from image_repo.web.app import create_app


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def image(self) -> Image.Image:
        picture = Image.open(BytesIO(self.body))
        picture.load()
        return picture

    @property
    def layer(self) -> str:
        return self.headers["Cache-Status"].rpartition("detail=")[2]

    @property
    def slug(self) -> str:
        assert self.headers["Content-Type"] == "application/problem+json", self.body[:300]
        return self.json()["type"].removeprefix("/problems/")


class Client:
    """Sends requests to one server; a path goes out as it stands."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named, encode_chunked="Transfer-Encoding" in named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self("GET", path, **headers)

    def put(self, path: str, body: bytes, **headers: str) -> Answer:
        return self("PUT", path, body, **{"Content_Type": "image/jpeg", **headers})

    def delete(self, path: str, **headers: str) -> Answer:
        return self("DELETE", path, **headers)

    def form(self, path: str, *parts: tuple[str, str | None, bytes], **headers: str) -> Answer:
        """Sends parts (name, filename or None, bytes) as a form."""
        lines = []
        for name, filename, value in parts:
            file_parameter = f'; filename="{filename}"' if filename is not None else ""
            lines += [b"--b", f'Content-Disposition: form-data; name="{name}"{file_parameter}'.encode(), b"", value]
        body = b"\r\n".join([*lines, b"--b--", b""])
        return self("POST", path, body, **{"Content_Type": "multipart/form-data; boundary=b", **headers})


class _Response:
    """The body of a response, which is closed once however often that is called."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        body, self._body = self._body, ()
        if hasattr(body, "close"):
            body.close()


class _Handler(WSGIRequestHandler):
    """Closes the response of each request.

    Werkzeug reads the rest of a request first, and leaves the response open when the client has reset the connection.
    """

    def run_wsgi(self) -> None:
        with ExitStack() as self._responses:
            super().run_wsgi()

    def make_environ(self) -> dict[str, Any]:
        return {**super().make_environ(), "test.responses": self._responses}

    def log_request(self, *args: object) -> None:
        pass


@contextmanager
def listening(app: Any, port: int = 0) -> Iterator[int]:
    """Serve a WSGI application in threads of this process; gives the port."""

    def application(environ: dict[str, Any], start_response: Any) -> _Response:
        return environ["test.responses"].enter_context(closing(_Response(app(environ, start_response))))

    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Served:
    """A running application."""

    client: Client
    repo: Repository
    config: Config
    folder: Path


def embedded(folder: Path, **changes: Any) -> Config:
    """A configuration whose every folder lies in one."""
    base = Config(
        persistent_store_configuration=PersistentStoreConfiguration(kind="disk", path=str(folder / "data")),
        local_cache_configuration=LocalCacheConfiguration(cache_path=str(folder / "cache")),
        local_file_cache_path=str(folder / "shared"),
        pid_file=str(folder / "pid"),
    )
    return replace(base, **changes)


@contextmanager
def serving(config: Config, folder: Path, *, reachable: bool = True) -> Iterator[Served]:
    """Starts the application in threads of this process.

    :param reachable: whether the store is, while it starts
    """
    stores = wiring.build_stores(config)
    assert (wiring.prepare(config, stores) == []) is reachable
    repo = wiring.build(config)
    if config.catalogue.enabled:
        with suppress(CatalogueUnavailable):
            # It was held against the container, long ago: what tests put there behind its back, they have it follow.
            SweepState(0.0, 0.0).save(repo.indexer.index)
    with closing(repo), listening(create_app(repo, config)) as port:
        yield Served(Client("127.0.0.1", port), repo, config, folder)
