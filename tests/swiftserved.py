"""The application over a real Swift, which it reaches through a proxy that fails on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conftest import Swift, opened
from servers.faults import FaultProxy
from webserver import Answer, Client, Served, embedded, serving

from image_repo.config import CatalogueConfiguration, Config, MemoryCacheConfiguration, SwiftCacheConfiguration
from image_repo.stores.swift import SwiftStore

#: seconds within which everything works again after the store does
RECOVERY = 30.0


@dataclass(frozen=True)
class SwiftSite:
    """A Swift behind a proxy, two containers in it, and a folder for each node that works with them.

    :param origin: the container of the originals, not through the proxy
    :param cache: the cache container, not through the proxy
    """

    proxy: FaultProxy
    origin: SwiftStore
    cache: SwiftStore
    config: Config
    folder: Path

    @contextmanager
    def node(self, name: str = "one", *, reachable: bool = True, **changes: Any) -> Iterator[Served]:
        """Runs a node, whose folder outlives it.

        :param reachable: whether the store is, while it starts
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config = replace(
            embedded(folder),
            persistent_store_configuration=self.config.persistent_store_configuration,
            swift_cache_configuration=self.config.swift_cache_configuration,
            freshness=self.config.freshness,
            serve_originals=True,
            create_new=True,
        )
        with serving(replace(config, **changes), folder, reachable=reachable) as served:
            yield served


@contextmanager
def house(swift: Swift, name: str, folder: Path, *, one: bool = False, **settings: Any) -> Iterator[SwiftSite]:
    """Two containers of their own, or one for both.

    :param settings: of the persistent store
    """
    with FaultProxy(swift.port) as proxy:
        credentials = replace(swift.settings.credentials, authurl=f"http://127.0.0.1:{proxy.port}/auth/v1.0")
        members: dict[str, Any] = {"timeout": 1.0, "connect_timeout": 0.5, "url_key_create": True, **settings}
        store = replace(swift.settings, credentials=credentials, container=name, **members)
        cache = SwiftCacheConfiguration(container=name if one else f"{name}-cache")
        config = Config(persistent_store_configuration=store, swift_cache_configuration=cache, freshness=0.2)
        with opened(swift.settings, name) as origin, opened(swift.settings, cache.container) as cache_store:
            yield SwiftSite(proxy, origin, cache_store, config, folder)


#: nothing is kept in memory, so that the next layer answers
NO_MEMORY = {"memory_cache_configuration": MemoryCacheConfiguration(max_size=0)}


def sharing(postgres: str) -> dict[str, Any]:
    """The settings of nodes that share a catalogue, which orders their writes."""
    return {"catalogue": CatalogueConfiguration(url=postgres)}


def until(done: Callable[[], bool], seconds: float = RECOVERY) -> float:
    """Asks until it is so; the seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, "not in time"
        time.sleep(0.02)
    return time.monotonic() - began


def timed(client: Client, path: str) -> tuple[Answer, float]:
    """An answer, and the seconds that it took."""
    began = time.monotonic()
    answer = client.get(path)
    return answer, time.monotonic() - began
