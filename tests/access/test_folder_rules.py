"""Rules by folder: the longest decides, an embargo ends, and what a list shows is what may be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_repo.access.control import Action, Denial, Grant
from image_repo.access.folder_rules import FolderRule, FolderRules
from image_repo.access.principal import ADMIN, ANONYMOUS, Principal, Role
from image_repo.catalogue.evaluator import holds

READER, WRITER = Principal("r", frozenset({"reader"})), Principal("w", frozenset({"writer"}))
ANN = Principal("ann", frozenset({"reader"}))
RULES = (
    FolderRule("closed/", "anonymous", Role.NONE),
    FolderRule("closed/open/", "anonymous", Role.READER),
    FolderRule("secret/", "everybody", Role.NONE),
    FolderRule("secret/", "ann", Role.WRITER),
    FolderRule("inbox/", "reader", Role.WRITER),
)


def rules(anonymous: Role = Role.READER, *more: FolderRule, now: float = 0.0) -> FolderRules:
    return FolderRules(lambda: anonymous, (*RULES, *more), lambda: now)


@pytest.mark.parametrize(
    ("caller", "action", "target", "decision"),
    [
        (ANONYMOUS, Action.READ, "a", Grant()),
        (ANONYMOUS, Action.READ, "closed/a", Denial.UNAUTHENTICATED),
        (ANONYMOUS, Action.READ, "closedx/a", Grant()),
        (ANONYMOUS, Action.READ, "closed/open/a", Grant()),
        (ANONYMOUS, Action.WRITE, "closed/open/a", Denial.UNAUTHENTICATED),
        (READER, Action.READ, "a", Grant()),
        (READER, Action.READ, "closed/a", Grant(is_shared=False)),
        (READER, Action.READ, "secret/a", Denial.FORBIDDEN),
        (WRITER, Action.WRITE, "a", Grant(is_shared=False)),
        (WRITER, Action.WRITE, "secret/a", Denial.FORBIDDEN),
        (ANN, Action.WRITE, "secret/a", Grant(is_shared=False)),
        (ANN, Action.WRITE, "a", Denial.FORBIDDEN),
        (READER, Action.WRITE, "inbox/a", Grant(is_shared=False)),
        (READER, Action.WRITE, "", Grant(is_shared=False)),
        (ANONYMOUS, Action.WRITE, "", Denial.UNAUTHENTICATED),
        (ADMIN, Action.DELETE, "secret/a", Grant(is_shared=False)),
        (ADMIN, Action.ADMINISTER, "", Grant(is_shared=False)),
        (WRITER, Action.ADMINISTER, "", Denial.FORBIDDEN),
        (ANONYMOUS, Action.LIST, "secret/", Denial.UNAUTHENTICATED),
        (READER, Action.LIST, "secret/", Denial.FORBIDDEN),
        (ANN, Action.LIST, "secret/deep/", Grant(is_shared=False)),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value) or "anything",
)
def test_the_longest_folder_decides(caller: Principal, action: Action, target: str, decision: Grant | Denial) -> None:
    assert rules().decide(caller, action, target) == decision


def test_a_list_of_a_closed_folder_is_allowed_where_something_below_is_open() -> None:
    grant = rules().decide(ANONYMOUS, Action.LIST, "closed/")
    assert isinstance(grant, Grant)
    assert not grant.visible.is_empty


def test_an_embargo_ends() -> None:
    embargo = FolderRule("new/", "anonymous", Role.NONE, until=1000.0)
    now = [999.0]
    by_clock = FolderRules(lambda: Role.READER, [embargo], lambda: now[0])
    assert by_clock.decide(ANONYMOUS, Action.READ, "new/a") is Denial.UNAUTHENTICATED
    assert by_clock.decide(READER, Action.READ, "new/a") == Grant(is_shared=False)
    now[0] = 1000.0
    for caller in (ANONYMOUS, READER):
        assert by_clock.decide(caller, Action.READ, "new/a") == Grant()
    listed = by_clock.decide(ANONYMOUS, Action.LIST, "")
    assert listed == Grant()


def test_a_server_that_closes_is_closed_below_its_rules_too() -> None:
    base = [Role.WRITER]
    changing = FolderRules(lambda: base[0], RULES)
    assert changing.decide(ANONYMOUS, Action.WRITE, "a") == Grant()
    base[0] = Role.NONE
    assert changing.decide(ANONYMOUS, Action.WRITE, "a") is Denial.UNAUTHENTICATED
    assert changing.decide(ANONYMOUS, Action.READ, "closed/open/a") == Grant()


def test_a_key_ends_at_its_folder_and_at_the_rules() -> None:
    key = Principal("key:x", frozenset({"writer"}), "a/")
    rule = FolderRule("a/b/", "key:x", Role.READER)
    decide = rules(Role.NONE, rule).decide
    assert decide(key, Action.WRITE, "a/x") == Grant(is_shared=False)
    assert decide(key, Action.WRITE, "a/b/x") is Denial.FORBIDDEN
    assert decide(key, Action.READ, "b/x") is Denial.FORBIDDEN
    grant = decide(key, Action.LIST, "")
    assert isinstance(grant, Grant)
    assert grant.visible.prefix == "a/"


SEGMENT = st.text("ab-]^.", min_size=1, max_size=2)
FOLDER = st.lists(SEGMENT, max_size=3).map(lambda parts: "".join(part + "/" for part in parts))
RULE = st.builds(
    FolderRule,
    FOLDER,
    st.sampled_from(["anonymous", "everybody", "reader", "r"]),
    st.sampled_from([Role.NONE, Role.READER, Role.WRITER]),
    st.sampled_from([1.0, math.inf]),
)


@given(
    st.lists(RULE, max_size=5),
    st.sampled_from([Role.NONE, Role.READER]),
    st.sampled_from([ANONYMOUS, READER, WRITER]),
    st.lists(st.tuples(FOLDER, SEGMENT).map("".join), min_size=1, max_size=6),
)
def test_what_a_list_shows_is_what_may_be_read(
    some: list[FolderRule], base: Role, caller: Principal, names: list[str]
) -> None:
    decide = FolderRules(lambda: base, some, lambda: 2.0).decide
    grant = decide(caller, Action.LIST, "")
    for name in names:
        may_read = isinstance(decide(caller, Action.READ, name), Grant)
        assert may_read is (isinstance(grant, Grant) and holds(grant.visible, {"name": name}))
