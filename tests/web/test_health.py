"""Readiness tells of each part what is so."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import commands
import pytest
import requests
from disks import small_disk
from servers.ports import free_port
from webserver import Client, embedded, serving

from image_repo import wiring
from image_repo.config import CatalogueConfiguration
from image_repo.observability.metrics import Counters
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.web.health import Health


def wrong(client: Client) -> dict[str, str]:
    """The parts that are not well; the status says whether there are any."""
    answer = client.get("/readyz?verbose")
    parts = {part: state for part, state in answer.json()["parts"].items() if state != "ok"}
    assert (answer.status, answer.json()["ok"]) == ((503, False) if parts else (200, True))
    return parts


@pytest.mark.parametrize(("folder", "name"), [("data", "originals"), ("shared", "uploads")])
def test_a_full_disk_is_told(tmp_path: Path, folder: str, name: str) -> None:
    with small_disk(tmp_path / folder), serving(embedded(tmp_path), tmp_path) as server:
        assert set(wrong(server.client)) == {"space"}
        assert f"The disk of {name} is full: " in wrong(server.client)["space"]


def test_how_much_has_to_be_free_is_an_argument(tmp_path: Path) -> None:
    with serving(embedded(tmp_path), tmp_path) as server:
        assert Health(server.repo, server.config, min_free_bytes=1).parts()["space"] == "ok"
        assert "full" in Health(server.repo, server.config, min_free_bytes=1 << 60).parts()["space"]


def test_a_catalogue_that_does_not_answer_is_told(tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with serving(embedded(tmp_path, catalogue=CatalogueConfiguration(url=url)), tmp_path) as server:
        assert set(wrong(server.client)) == {"catalogue"}
        assert "\nimage_repo_catalogue_up 0\n" in server.client.get("/metrics").body.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of other users")
def test_a_folder_that_cannot_be_read_is_named_while_the_node_is_ready() -> None:
    with tempfile.TemporaryDirectory() as name, serving(embedded(Path(name)), Path(name)) as server:
        for folder in (Path(name), Path(name) / "data"):
            folder.chmod(0o755)
        closed = Path(name) / "data" / "lost+found"
        closed.mkdir(mode=0)
        os.seteuid(65534)
        try:
            list(server.repo.origin.keys())
        finally:
            os.seteuid(0)
        answer = server.client.get("/readyz?verbose")
        assert (answer.status, answer.json()["parts"]["store"]) == (200, "ok")
        assert str(closed) in answer.json()["passed_over"]


def test_a_catalogue_that_is_not_wanted_is_well(tmp_path: Path) -> None:
    with serving(embedded(tmp_path, catalogue=CatalogueConfiguration(enabled=False)), tmp_path) as server:
        assert wrong(server.client) == {}
        assert "image_repo_catalogue" not in server.client.get("/metrics").body.decode()


@pytest.mark.servers
def test_originals_that_cannot_be_listed_are_told_until_they_can_be(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 1}, catalogue={"reconcile": 1})
    url = f"http://{commands.listens_on(config)}/readyz?verbose"

    def state(part: str) -> str:
        return str(requests.get(url, timeout=30).json()["parts"][part])

    with commands.serving(config):
        commands.until(lambda: requests.get(url, timeout=30).status_code == 200, "all is well")
        (tmp_path / "originals").rename(tmp_path / "away")
        commands.until(lambda: "is not there" in state("store"), "the store is told")
        commands.until(lambda: "does not follow" in state("catalogue"), "so is the catalogue that cannot follow", 60)
        assert requests.get(url, timeout=30).status_code == 503
        (tmp_path / "away").rename(tmp_path / "originals")
        commands.until(lambda: requests.get(url, timeout=30).status_code == 200, "all is well again", 90)


def test_an_open_circuit_is_a_metric(tmp_path: Path) -> None:
    counters = Counters(tmp_path)
    origin = wiring.build_stores(embedded(tmp_path)).origin
    store = CircuitBreaker(origin, failures=1, pause=0.0, counters=counters)
    store.put("a.jpg", b"x", media_type="image/jpeg")
    (tmp_path / "data").rename(tmp_path / "away")
    with contextlib.suppress(Exception):
        store.head("a.jpg")
    assert '\nimage_repo_open_circuits{store="originals"} 1\n' in counters.text()
    (tmp_path / "away").rename(tmp_path / "data")
    commands.until(lambda: probe(store), "a probe closes it")
    assert '\nimage_repo_open_circuits{store="originals"} 0\n' in counters.text()
    counters.close()


def probe(store: CircuitBreaker) -> bool:
    with contextlib.suppress(Exception):
        return store.head("a.jpg") is not None
    return False
