"""API keys: made, found, revoked; and the marker that keeps a server closed once one was made."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from image_repo.access.api_keys import PREFIX, ApiKeys, ClosingMarker, new_key
from image_repo.access.authenticator import Authenticator
from image_repo.access.control import Action, Denial, Grant
from image_repo.access.principal import Principal, Role
from image_repo.access.rules import RoleRules
from image_repo.access.share_links import ShareLinks
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.errors import BadName, BadParameter, InvalidToken, KeyNotFound, NameConflict, StoreUnavailable
from image_repo.stores.disk import DiskStore


class Unreachable(DiskStore):
    """A store that a test cuts off."""

    cut_off = False

    def head(self, key: str) -> Any:
        self._check()
        return super().head(key)

    def get(self, key: str) -> Any:
        self._check()
        return super().get(key)

    def _check(self) -> None:
        if self.cut_off:
            raise StoreUnavailable("It is cut off.")


@pytest.fixture
def store(tmp_path: Path) -> Unreachable:
    store = Unreachable(tmp_path / "data", secrets=())
    store.check(create=True)
    return store


def keys_of(store: DiskStore, folder: Path, freshness: float = 3600.0) -> ApiKeys:
    """The keys as one process of a node sees them."""
    return ApiKeys(store, InvalidationEpochs(folder / "marks"), freshness)


def marker_of(store: DiskStore, folder: Path) -> ClosingMarker:
    return ClosingMarker(store, InvalidationEpochs(folder / "marks"), folder / "access", 3600.0)


def test_a_key_is_accepted_as_what_it_was_made_for(store: Unreachable, tmp_path: Path) -> None:
    keys = keys_of(store, tmp_path)
    text = keys.add(new_key("robot", "writer", "robots"))
    assert text.startswith("ir_")
    assert len(text) >= 3 + 256 / 6
    principal, _ = keys.verify(text)
    assert (principal.name, principal.roles, principal.prefix) == ("key:robot", {"writer"}, "robots/")


def test_the_container_holds_no_key(store: Unreachable, tmp_path: Path) -> None:
    text = keys_of(store, tmp_path).add(new_key("robot", "writer"))
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(PREFIX.strip("/") in str(path) for path in files)
    assert not [path for path in files if text in str(path) or text.encode() in path.read_bytes()]


def test_names_are_unique(store: Unreachable, tmp_path: Path) -> None:
    keys = keys_of(store, tmp_path)
    keys.add(new_key("robot", "writer"))
    with pytest.raises(NameConflict):
        keys.add(new_key("robot", "reader"))
    assert [key.role for key in keys.all()] == ["writer"]


def test_a_revoked_key_is_refused_by_every_process_of_the_node_at_once(store: Unreachable, tmp_path: Path) -> None:
    first, second = (Authenticator(keys_of(store, tmp_path), ShareLinks(())) for _ in range(2))
    text = first.keys.add(new_key("robot", "writer"))
    for process in (first, second):
        for _ in range(2):
            assert process.principal(f"Bearer {text}").name == "key:robot"
    first.keys.revoke("robot")
    for process in (first, second):
        with pytest.raises(InvalidToken, match="revoked"):
            process.principal(f"Bearer {text}")
    with pytest.raises(KeyNotFound):
        first.keys.revoke("robot")


def test_a_key_revoked_on_another_node_is_refused_after_freshness(store: Unreachable, tmp_path: Path) -> None:
    now = [time.time()]
    here = Authenticator(
        ApiKeys(store, InvalidationEpochs(tmp_path / "here"), 5.0, lambda: now[0]),
        ShareLinks(()),
        clock=lambda: now[0],
    )
    there = ApiKeys(store, InvalidationEpochs(tmp_path / "there"), 5.0)
    text = there.add(new_key("robot", "writer"))
    assert here.principal(f"Bearer {text}").name == "key:robot"
    there.revoke("robot")
    now[0] += 5.1
    with pytest.raises(InvalidToken):
        here.principal(f"Bearer {text}")


def test_a_key_ends_with_its_date(store: Unreachable, tmp_path: Path) -> None:
    keys = keys_of(store, tmp_path)
    today = datetime.now(UTC).date()
    ended = keys.add(new_key("ended", "writer", expires=today.isoformat()))
    holds = keys.add(new_key("holds", "writer", expires=(today + timedelta(days=1)).isoformat()))
    with pytest.raises(InvalidToken, match="expired"):
        keys.verify(ended)
    _, until = keys.verify(holds)
    assert until <= datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC).timestamp()


@pytest.mark.parametrize("text", ["ir_", "ir_x", "ir_" + "A" * 43, "ir_../closed", "ir_closed"])
def test_an_unknown_key_is_refused(store: Unreachable, tmp_path: Path, text: str) -> None:
    keys = keys_of(store, tmp_path)
    keys.add(new_key("robot", "admin"))
    with pytest.raises(InvalidToken):
        keys.verify(text)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("a/b", "writer"), BadParameter),
        (("", "writer"), BadParameter),
        (("a", "owner"), BadParameter),
        (("a", "none"), BadParameter),
        (("a", "writer", "../x"), BadName),
        (("a", "writer", "", "soon"), BadParameter),
    ],
)
def test_what_no_key_can_be_is_refused(arguments: tuple[str, ...], problem: type[Exception]) -> None:
    with pytest.raises(problem):
        new_key(*arguments)


def test_known_keys_go_on_while_the_container_cannot_be_reached(store: Unreachable, tmp_path: Path) -> None:
    keys = keys_of(store, tmp_path, freshness=0.0)
    text = keys.add(new_key("robot", "writer"))
    assert keys.verify(text)[0].name == "key:robot"
    store.cut_off = True
    assert keys.verify(text)[0].name == "key:robot"
    with pytest.raises(StoreUnavailable):
        keys.verify("ir_" + "A" * 43)


# -- the marker ------------------------------------------------------------------------


def test_the_first_key_closes_at_once_and_for_good(store: Unreachable, tmp_path: Path) -> None:
    marker, keys = marker_of(store, tmp_path), keys_of(store, tmp_path)
    assert marker.anonymous_role() is Role.WRITER
    keys.add(new_key("robot", "writer"))
    assert marker.anonymous_role() is Role.NONE
    keys.revoke("robot")
    assert marker.anonymous_role() is Role.NONE
    assert marker_of(store, tmp_path).anonymous_role() is Role.NONE


def test_without_the_marker_it_is_as_this_node_knew_it_last(store: Unreachable, tmp_path: Path) -> None:
    assert marker_of(store, tmp_path).anonymous_role() is Role.WRITER
    store.cut_off = True
    assert marker_of(store, tmp_path).anonymous_role() is Role.WRITER
    (tmp_path / "access").unlink()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            marker_of(store, tmp_path).anonymous_role()
    store.cut_off = False
    keys_of(store, tmp_path).add(new_key("robot", "writer"))
    assert marker_of(store, tmp_path).anonymous_role() is Role.NONE
    store.cut_off = True
    assert marker_of(store, tmp_path).anonymous_role() is Role.NONE


def test_a_hit_does_not_wait_for_the_container(store: Unreachable, tmp_path: Path) -> None:
    now = [100.0]
    looked, go_on = threading.Event(), threading.Event()
    marker = ClosingMarker(store, InvalidationEpochs(None), None, 5.0, lambda: now[0])
    assert marker.anonymous_role() is Role.WRITER
    head = store.head

    def slow(key: str) -> Any:
        looked.set()
        go_on.wait(20)
        return head(key)

    store.head = slow  # type: ignore[method-assign]
    now[0] += 6
    assert marker.anonymous_role() is Role.WRITER
    assert looked.wait(20)
    assert marker.anonymous_role() is Role.WRITER
    go_on.set()


# -- keys that end at a folder ---------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "target", "allowed"),
    [
        (Action.READ, "robots/a", True),
        (Action.READ, "robotsx/a", False),
        (Action.READ, "robots", False),
        (Action.READ, "other", False),
        (Action.WRITE, "robots/a/b", True),
        (Action.WRITE, "other/a", False),
        (Action.WRITE, "sha256:" + "0" * 64, False),
        (Action.DELETE, "robots/a", True),
        (Action.DELETE, ".artifacts/sha256/x", False),
        (Action.READ, ".snapshots/x", False),
        (Action.LIST, "", True),
        (Action.LIST, "robots/", True),
        (Action.LIST, "robots/a/", True),
        (Action.LIST, "robotsx/", False),
        (Action.LIST, ".artifacts/", False),
        (Action.WRITE, "", True),
        (Action.ADMINISTER, "", False),
    ],
    ids=lambda value: getattr(value, "name", str(value) or "anything"),
)
def test_a_key_ends_at_its_folder(action: Action, target: str, allowed: bool) -> None:
    rules = RoleRules(lambda: Role.NONE)
    decision = rules.decide(Principal("key:x", frozenset({"admin"}), "robots/"), action, target)
    assert (decision.__class__ is Grant) is allowed
    assert allowed or decision is Denial.FORBIDDEN


@pytest.mark.parametrize("target", ["", "a/"])
def test_a_list_above_its_folder_shows_its_folder_alone(target: str) -> None:
    grant = RoleRules(lambda: Role.NONE).decide(Principal("key:x", frozenset({"reader"}), "a/b/"), Action.LIST, target)
    assert isinstance(grant, Grant)
    assert (grant.visible.prefix, grant.is_shared) == ("a/b/", False)


def test_a_key_in_the_container_that_cannot_be_read_is_none(store: Unreachable, tmp_path: Path) -> None:
    keys = keys_of(store, tmp_path)
    store.put(PREFIX + "0" * 64, json.dumps({"nonsense": 1}).encode(), media_type="application/json")
    assert keys.all() == []
