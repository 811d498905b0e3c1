"""A store that is silent: each request has two seconds for all its calls, from the first request on."""

from __future__ import annotations

import subprocess
import sys
import time

import pictures
import pytest
from swiftserved import NO_MEMORY, SwiftSite, house, timed

ORIGINAL = pictures.jpeg(pictures.photo(120, 80))
#: seconds that a request may take while the store is silent, with some for a busy machine
SILENCE_S = 3.5
HOT_S = 0.05


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path, timeout=2.0, connect_timeout=2.0) as building:
        yield building


@pytest.mark.servers
def test_a_hot_picture_is_served_at_once_by_the_first_request_to_a_silent_store(building: SwiftSite) -> None:
    took = []
    for turn in range(5):
        with building.node(f"node-{turn}") as served:
            if turn == 0:
                assert served.client.put("/images/a", ORIGINAL).status == 201
            path = "/images/a?w=60"
            for _ in range(20):
                assert served.client.get(path).status == 200
            # It is hot, and its resolution is not fresh any more.
            until = time.monotonic() + 2 * building.config.freshness
            while time.monotonic() < until:
                time.sleep(0.01)
            building.proxy.fail("blackhole")
            answer, seconds = timed(served.client, path)
            building.proxy.heal()
            assert answer.status == 200
            took.append(seconds)
    assert min(took) < HOT_S


@pytest.mark.servers
@pytest.mark.parametrize("request_", ["an unknown picture", "an upload", "a variant of a known picture"])
def test_what_needs_a_silent_store_is_503_in_time_from_the_first_request_on(building: SwiftSite, request_: str) -> None:
    with building.node(**NO_MEMORY) as served:
        client = served.client
        assert client.put("/images/a", ORIGINAL).status == 201
        assert client.get("/images/a?w=60").status == 200
        building.proxy.fail("blackhole")
        began = time.monotonic()
        if request_ == "an upload":
            answer = client.put("/images/b", ORIGINAL)
        else:
            answer = client.get("/images/b" if request_ == "an unknown picture" else "/images/a?w=61")
        assert time.monotonic() - began < SILENCE_S
        assert answer.status in (200, 503)  # the variant may be made from what is on this node
        assert answer.status == 200 or answer.headers["Retry-After"]
        assert answer.status == 503 or request_ == "a variant of a known picture"
        building.proxy.heal()


@pytest.mark.servers
def test_a_commit_that_is_not_answered_says_so_and_can_be_repeated(building: SwiftSite) -> None:
    with building.node() as served:
        assert served.client.put("/images/warm", ORIGINAL).status == 201  # the lease is there
        building.proxy.fail("stall", match=b"/a.jpg HTTP/1.1\r\n")
        answer = served.client.put("/images/a", ORIGINAL)
        assert answer.status == 503
        building.proxy.heal()
        building.proxy.fail("stall", match=b"PUT /v1/AUTH_test/" + building.origin._container.encode() + b"/b.jpg")
        answer = served.client.put("/images/b", ORIGINAL)
        assert answer.status == 503
        assert "outcome is unknown" in answer.json()["detail"]
        assert answer.headers["Retry-After"]
        building.proxy.heal()
        assert served.client.put("/images/b", ORIGINAL).status in (200, 201)
        assert served.client.get("/images/b").status == 200


def test_too_many_open_files_of_our_own_do_not_open_the_circuit(tmp_path) -> None:
    code = """
import os, resource, sys
from pathlib import Path
from image_repo.errors import StoreUnavailable
from image_repo.stores.base import OutOfDescriptors
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.stores.disk import DiskStore

store = CircuitBreaker(DiskStore(Path(sys.argv[1])), failures=3)
store.check(create=True)
store.put("a.jpg", b"picture", media_type="image/jpeg")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
files = []
try:
    while True:
        files.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for _ in range(5):
    try:
        store.head("a.jpg")
    except OutOfDescriptors:
        print("none left")
for file in files:
    os.close(file)
print(store.head("a.jpg").size)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "originals"], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split("\n") == ["none left"] * 5 + ["7", ""], done.stderr
