"""What tests share: the real servers, each started once and only when a test asks for it."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from logging.handlers import WatchedFileHandler

import pytest
from hypothesis import HealthCheck, settings
from servers import launch
from servers.faults import FaultProxy
from servers.ports import free_port

from image_repo import render
from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.stores.s3 import S3Store
from image_repo.stores.s3_client import S3Client
from image_repo.stores.swift import SwiftStore
from image_repo.stores.swift_pool import ConnectionPool

# Of a commit, each run tries the same examples, however busy the machine is.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("repeatable")

#: for tests that provoke a timeout
QUICK = {"timeout": 1.5, "connect_timeout": 1.0}


@dataclass(frozen=True)
class Swift:
    """A running Swift.

    :param settings: for a store, with the user who owns the account AUTH_test
    """

    url: str
    port: int
    settings: PersistentStoreConfiguration


def _settings(authurl: str, **changes: object) -> PersistentStoreConfiguration:
    credentials = Credentials(authurl=authurl, username="test:tester", password="testing")
    return replace(PersistentStoreConfiguration(kind="swift", credentials=credentials), **changes)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files whose tests need servers: they take longest, and no process waits for one at the end."""
    files = {item.path for item in items if item.get_closest_marker("servers")}
    items.sort(key=lambda item: item.path not in files)


@pytest.fixture(scope="session")
def start_swift() -> Callable[..., object]:
    """Starts one more Swift: a context manager that gives a :class:`Swift`."""

    @contextmanager
    def start(*arguments: str) -> Iterator[Swift]:
        with launch.running("swift_up.py", *arguments) as server:
            yield Swift(server["url"], server["port"], _settings(server["auth"]))

    return start


@pytest.fixture(scope="session")
def swift(start_swift: Callable[..., object]) -> Iterator[Swift]:
    """A Swift that all tests use; each takes containers of its own."""
    with start_swift() as running:  # type: ignore[attr-defined]
        yield running


def s3_settings(url: str, **changes: object) -> PersistentStoreConfiguration:
    """Settings of a store at an endpoint of S3, with the user of Swift's tests; moto takes any."""
    credentials = Credentials(access_key_id="test:tester", secret_access_key="testing", endpoint=url)
    return replace(PersistentStoreConfiguration(kind="s3", credentials=credentials), **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of a moto that all tests use; each takes buckets of its own."""
    with launch.running("moto_up.py") as server:
        yield server["url"]


@pytest.fixture(scope="session")
def keystone() -> Iterator[dict[str, str]]:
    """A Keystone, and a Swift that asks it: url, swift, project_id and the application credential of user demo."""
    port = free_port()
    with (
        launch.running("keystone_up.py", "--port", str(free_port()), "--swift", f"http://127.0.0.1:{port}") as server,
        launch.running("swift_up.py", "--port", str(port), "--keystone", server["url"]),
    ):
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database in a PostgreSQL that all tests use; each repository has a schema of its own there."""
    with launch.running("pg_up.py") as server:
        yield server["url"]


_numbers = itertools.count()


@pytest.fixture
def container() -> str:
    """The name of a container that no other test uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def swift_store(swift: Swift, container: str) -> Iterator[SwiftStore]:
    """A store over a new container."""
    with opened(swift.settings, container) as store:
        yield store


@pytest.fixture
def faulty(swift: Swift, container: str) -> Iterator[tuple[SwiftStore, FaultProxy]]:
    """A store over a new container that is reached through a proxy, with short timeouts; and the proxy."""
    with FaultProxy(swift.port) as proxy:
        credentials = replace(swift.settings.credentials, authurl=f"http://127.0.0.1:{proxy.port}/auth/v1.0")
        settings = replace(swift.settings, credentials=credentials, **QUICK)  # type: ignore[arg-type]
        with opened(settings, container) as store:
            yield store, proxy


@pytest.fixture
def faulty_bucket(moto: str, container: str) -> Iterator[tuple[S3Store, FaultProxy]]:
    """A store over a new bucket that is reached through a proxy, with short timeouts; and the proxy."""
    with FaultProxy(int(moto.rpartition(":")[2])) as proxy:
        settings = s3_settings(f"http://127.0.0.1:{proxy.port}", **QUICK)
        with opened_bucket(settings, container) as store:
            yield store, proxy


class opened:
    """A store whose container exists, closed at the end."""

    def __init__(self, settings: PersistentStoreConfiguration, container: str, **options: int) -> None:
        pool = ConnectionPool(settings, settings.credentials)
        self.store = SwiftStore(pool, settings, container, **options)

    def __enter__(self) -> SwiftStore:
        self.store.check(create=True)
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


@contextmanager
def opened_bucket(settings: PersistentStoreConfiguration, bucket: str, **parameters: int) -> Iterator[S3Store]:
    """A store whose bucket exists, closed at the end."""
    store = S3Store(S3Client(settings), bucket, **parameters)
    store.check(create=True)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture(scope="session", autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    """What the tests have started ends with them: a server that cannot stop would hang here."""
    yield
    left = [thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    for thread in left:
        thread.join(5)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture(autouse=True)
def imaging_library_is_configured() -> None:
    """Configure it for each test, as each process does: pytest undoes filters of warnings with each test."""
    render.configure()


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """Undo what the command sets for its process: its tests run in this one."""
    levels = {logger: logger.level for logger in _loggers()}
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if type(handler).__module__.startswith("image_repo") or isinstance(handler, WatchedFileHandler):
            root.removeHandler(handler)
            handler.close()
    for logger in _loggers():
        logger.setLevel(levels.get(logger, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    named = list(logging.getLogger().manager.loggerDict.values())
    return [logging.getLogger(), *(logger for logger in named if isinstance(logger, logging.Logger))]
