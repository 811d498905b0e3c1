"""Access: what a decision costs a hit, in the process."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import TYPE_CHECKING

from image_repo.access.api_keys import ApiKeys, ClosingMarker
from image_repo.access.authenticator import Authenticator
from image_repo.access.control import AccessControl, Action, Rules
from image_repo.access.folder_rules import FolderRule, FolderRules
from image_repo.access.principal import Principal, Role, of_owner
from image_repo.access.rules import RoleRules
from image_repo.access.scope_rules import ScopeRules
from image_repo.access.sessions import Sessions
from image_repo.access.share_links import ShareLinks
from image_repo.access.signed_cookies import CookieSigner
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.model.record import MEDIA_TYPE, Record
from image_repo.repository.owners import Owners, read_owner
from image_repo.repository.ttl_cache import TtlCache
from image_repo.stores.disk import DiskStore
from image_repo.web.identity import identify_by
from image_repo.web.sessions import SESSION_COOKIE

from bench.report import Section, Table, middle, spread

if TYPE_CHECKING:
    from bench.__main__ import Bench

_CALLS = 20_000
#: characters of a token of a real provider
_TOKEN_CHARS = 800
#: the goals, in µs: callers without credentials may read; a token seen before
_ANONYMOUS, _TOKEN = 1.0, 3.0


_READER = of_owner(Principal("ann", frozenset({"reader"})), "ann")


class _Accepts:
    """Accepts every token for an hour."""

    def verify(self, token: str) -> tuple[Principal, float]:
        return _READER, 1e12


def run(bench: Bench) -> Section:
    section = Section("access", "Access: identifying and authorising one hit, in the process")
    store = DiskStore(bench.folder / "access", secrets=())
    store.check(create=True)
    epochs = InvalidationEpochs(None)
    marker = ClosingMarker(store, epochs, None, 3600.0)
    sessions = Sessions(CookieSigner(["a secret of the bench"], "session", 3600))
    authenticator = Authenticator(ApiKeys(store, epochs, 3600.0), ShareLinks(()), _Accepts(), sessions=sessions)
    token = {"HTTP_AUTHORIZATION": "Bearer " + "x" * _TOKEN_CHARS}
    session = sessions.begin(_READER)
    cookie = {"HTTP_COOKIE": f"a=b; {SESSION_COOKIE}={session}"}
    folders = [FolderRule(f"closed/{number}/", "anonymous", Role.NONE) for number in range(10)]
    store.put("ann/north.json", Record.description("ann/north", {}, "ann").dump(), media_type=MEDIA_TYPE)
    owners = Owners(store, epochs, TtlCache(epochs, None, "owner", read_owner, freshness=3600.0), 3600.0)
    cases: dict[str, tuple[Rules, dict[str, str]]] = {
        "nothing configured": (RoleRules(marker.anonymous_role), {}),
        "anonymous: read": (RoleRules(lambda: Role.READER), {}),
        "anonymous: read, ten rules by folder": (FolderRules(lambda: Role.READER, folders), {}),
        "a token seen before": (RoleRules(lambda: Role.NONE), token),
        "a session seen before": (RoleRules(lambda: Role.NONE), cookie),
        "a token seen before, users kept apart": (ScopeRules(RoleRules(lambda: Role.NONE), owners.owner_of), token),
    }
    table = Table("", ["", "µs"])
    figures = {}
    for name, (rules, headers) in cases.items():
        figures[name] = _measure(AccessControl(rules), authenticator, headers, bench.rounds)
        table.rows.append([name, spread(figures[name], 1e6)])
    section.tables.append(table)
    section.goal(
        "callers without credentials may read", (middle(figures["anonymous: read"]) or 0) * 1e6, _ANONYMOUS, " µs"
    )
    for name in ("a token seen before", "a session seen before", "a token seen before, users kept apart"):
        section.goal(name, (middle(figures[name]) or 0) * 1e6, _TOKEN, " µs")
    return section


def _measure(access: AccessControl, authenticator: Authenticator, headers: dict[str, str], rounds: int) -> list[float]:
    """Return seconds of CPU of a call, for each round."""
    identify = identify_by(authenticator)
    environ = {"PATH_INFO": "/images/north", "QUERY_STRING": "xsize=300", **headers}

    def hit() -> object:
        return access.authorise(identify(environ), Action.READ, "ann/north")

    return [_best(hit) for _ in range(rounds)]


def _best(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, timer=time.thread_time, number=_CALLS, repeat=7)) / _CALLS
