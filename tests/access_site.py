"""A server with the fast path on a real socket, whose callers are told apart by their credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from webserver import Client, embedded, listening

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.indexer import SweepState
from image_repo.config import AccessConfiguration, Config
from image_repo.model.names import ImageName
from image_repo.repository.repository import Repository
from image_repo.web.app import create_app
from image_repo.web.fast_path import FastPath
from image_repo.web.identity import by_credentials


@dataclass(frozen=True)
class Site:
    """A running server.

    :param passed: requests that passed the fast path
    """

    client: Client
    repo: Repository
    config: Config
    passed: list[str] = field(default_factory=list)

    def put(self, name: str, body: bytes) -> None:
        """Store a picture as the command line does."""
        with self.repo.writer.spool() as spool:
            spool.fill([body])
            self.repo.writer.put(ADMIN, ImageName(name), spool)


@contextmanager
def running_site(folder: Path, access: AccessConfiguration, **changes: Any) -> Iterator[Site]:
    """Start a server over an empty folder."""
    config = embedded(folder, access=access, **{"freshness": 3600.0, "serve_originals": True, **changes})
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config)
    SweepState(0.0, 0.0).save(repo.indexer.index)  # the catalogue is complete
    identify = by_credentials(repo)
    app, passed = create_app(repo, config, identify), []

    def application(environ: Any, start_response: Any) -> Any:
        passed.append(environ["REQUEST_URI"])
        return app.wsgi_app(environ, start_response)

    fast = FastPath(application, repo, identify, config.freshness)
    with closing(repo), listening(fast) as port:
        yield Site(Client("127.0.0.1", port), repo, config, passed)
