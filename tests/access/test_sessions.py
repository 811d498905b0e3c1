"""Sessions: cookies that end, that no change survives, and that only their own purpose and secrets accept."""

from __future__ import annotations

import pytest

from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.access.sessions import Sessions
from image_repo.access.signed_cookies import CookieSigner

ANN = Principal("ann", frozenset({"reader", "writer"}), "lab/")


def _sessions(secrets: list[str], now: list[float], purpose: str = "session") -> Sessions:
    clock = lambda: now[0]  # noqa: E731
    return Sessions(CookieSigner(secrets, purpose, 60, clock), clock)


def test_a_session_is_its_principals_until_it_ends() -> None:
    now = [1_000.0]
    sessions = _sessions(["first"], now)
    cookie = sessions.begin(ANN)
    for moment, expected in ((1_000, ANN), (1_059.9, ANN), (1_060, ANONYMOUS), (9_999, ANONYMOUS)):
        now[0] = moment
        assert sessions.principal(cookie) == expected
        assert _sessions(["first"], now).principal(cookie) == expected


def test_a_secret_can_be_changed_without_ending_sessions() -> None:
    now = [0.0]
    cookie = _sessions(["old"], now).begin(ANN)
    assert _sessions(["new", "old"], now).principal(cookie) == ANN
    assert _sessions(["new"], now).principal(cookie) is ANONYMOUS


def test_a_cookie_of_another_purpose_is_none() -> None:
    now = [0.0]
    assert _sessions(["first"], now).principal(_sessions(["first"], now, "login").begin(ANN)) is ANONYMOUS


def test_every_changed_character_ends_it() -> None:
    sessions = _sessions(["first"], [0.0])
    cookie = sessions.begin(ANN)
    for at in range(len(cookie) - 1):  # the last one has two bits that say nothing
        changed = cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :]
        assert sessions.principal(changed) is ANONYMOUS


@pytest.mark.parametrize("text", ["", ".", "a", "a.b", "é.é", "x" * 5000, "e30." + "A" * 43])
def test_rubbish_is_no_session(text: str) -> None:
    assert _sessions(["first"], [0.0]).principal(text) is ANONYMOUS


@pytest.mark.parametrize("members", [{"name": "ann"}, {"name": "ann", "roles": [], "of_later_versions": 1}])
def test_a_session_of_another_version_has_to_log_in_again(members: dict[str, object]) -> None:
    signer = CookieSigner(["first"], "session", 60, lambda: 0.0)
    assert Sessions(signer, lambda: 0.0).principal(signer.sign(members)) is ANONYMOUS
