"""Rules by folder: what some callers may below it, in place of what their role allows; the longest folder decides."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from image_repo.access.control import Action, Denial, Grant
from image_repo.access.principal import Principal, Role
from image_repo.access.rules import NEEDED, PRIVATE, SHARED, deny, grant_by_link, role_of, within
from image_repo.catalogue.query import Condition, Filter
from image_repo.model import regex

#: callers whose tables are remembered
_MAX_CALLERS = 1024
#: in a rule: callers without credentials, and all callers
ANONYMOUS, EVERYBODY = "anonymous", "everybody"


@dataclass(frozen=True, slots=True)
class FolderRule:
    """One rule.

    :param prefix: a folder with its ``/``; empty for everything
    :param who: ``anonymous``, ``everybody``, a role, or the name of a caller
    :param role: what they may there
    :param until: seconds since the epoch when it ends
    """

    prefix: str
    who: str
    role: Role
    until: float = math.inf


class _Table:
    """What one caller may: folder → role, and the role elsewhere under the empty text."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = sorted(roles.items(), key=lambda item: -len(item[0]))

    def role(self, target: str) -> Role:
        """Return the role at a target."""
        for prefix, role in self._roles:
            if target.startswith(prefix):
                return role
        raise AssertionError("the empty prefix is always there")

    def best_below(self, folder: str) -> Role:
        """Return the highest role in a folder or anywhere below it."""
        return max((self.role(folder), *(role for prefix, role in self._roles if prefix.startswith(folder))))

    @cached_property
    def visible(self) -> Filter:
        """The names that may be read."""
        labels = {prefix: role >= Role.READER for prefix, role in self._roles}
        if all(labels.values()):
            return Filter()
        pattern = "^" + _pattern(labels, "", is_allowed=False)
        return Filter((Condition(("name",), "regex", (pattern,), regex.searcher("name", pattern)),))


def _pattern(labels: Mapping[str, bool], begin: str, *, is_allowed: bool) -> str:
    """Return the regular expression of what may follow a beginning of names.

    :param labels: prefix → whether names that begin with it are allowed, where no longer prefix says otherwise
    """
    is_allowed = labels.get(begin, is_allowed)
    following = sorted({prefix[len(begin)] for prefix in labels if prefix.startswith(begin) and prefix != begin})
    if not following:
        return "" if is_allowed else "$."
    choices = [re.escape(char) + _pattern(labels, begin + char, is_allowed=is_allowed) for char in following]
    if is_allowed:
        escaped = "".join("\\" + char if char in "\\]^-[" else char for char in following)
        choices += ["$", f"[^{escaped}]"]
    return f"(?:{'|'.join(choices)})"


class FolderRules:
    """Rules by role and by folder.

    :param anonymous: returns the role of callers without credentials where no rule says otherwise
    """

    def __init__(
        self, anonymous: Callable[[], Role], rules: Sequence[FolderRule], clock: Callable[[], float] = time.time
    ) -> None:
        self._anonymous = anonymous
        self._rules = rules
        self._clock = clock
        self._base = Role.NONE
        self._ends = -math.inf
        self._active: tuple[FolderRule, ...] = ()
        self._tables: dict[tuple[str, frozenset[str]], _Table] = {}
        self._everybody = _Table({"": Role.NONE})

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        """Return the decision (measured: 1.2 µs for an open target under ten rules)."""
        now, base = self._clock(), self._anonymous()
        if now >= self._ends or base != self._base:
            self._reset(now, base)
        needed, everybody = NEEDED[action], self._everybody
        if _reaches(everybody, action, target) >= needed and action is not Action.LIST:
            return SHARED
        if (by_link := grant_by_link(principal, action, target)) is not None:
            return by_link
        own = everybody if principal.name is None else self._table(principal.name, principal.roles)
        if _reaches(own, action, target) < needed:
            return deny(principal, action, target)
        if action is Action.LIST and everybody.visible == own.visible:
            return Grant(visible=own.visible)
        grant = within(principal.prefix, action, target) if principal.prefix else PRIVATE
        if isinstance(grant, Grant) and action is Action.LIST:
            return Grant(is_shared=False, visible=grant.visible & own.visible)
        return grant

    def _reset(self, now: float, base: Role) -> None:
        self._active = tuple(rule for rule in self._rules if rule.until > now)
        self._ends = min((rule.until for rule in self._active), default=math.inf)
        self._base = base
        self._tables = {}
        self._everybody = self._make(None, frozenset())

    def _table(self, name: str, roles: frozenset[str]) -> _Table:
        tables = self._tables
        table = tables.get((name, roles))
        if table is None:
            if len(tables) >= _MAX_CALLERS:
                self._tables = tables = {}
            table = tables[name, roles] = self._make(name, roles)
        return table

    def _make(self, name: str | None, roles: frozenset[str]) -> _Table:
        """Return the table of a caller, who may at least what callers without credentials may."""
        prefixes = {rule.prefix for rule in self._active} | {""}
        anonymous = self._roles({ANONYMOUS, EVERYBODY}, self._base)
        role = role_of(roles)
        if name is None:
            return _Table({prefix: anonymous(prefix) for prefix in prefixes})
        if role is Role.ADMIN:
            return _Table({"": Role.ADMIN})
        own = self._roles({EVERYBODY, name, role.name.lower()}, max(role, self._base))
        return _Table({prefix: max(own(prefix), anonymous(prefix)) for prefix in prefixes})

    def _roles(self, who: set[str], base: Role) -> Callable[[str], Role]:
        """Return what gives the role at a prefix: that of the longest rule for these callers, of equals the last."""
        rules = {rule.prefix: rule.role for rule in self._active if rule.who in who}

        def role(prefix: str) -> Role:
            matching = [length for length in rules if prefix.startswith(length)]
            return rules[max(matching, key=len)] if matching else base

        return role


def _reaches(table: _Table, action: Action, target: str) -> Role:
    """Return the role that counts for an action: for a folder, and before the target is known, the best below it."""
    is_folder = not target or (action is Action.LIST and target.endswith("/"))
    if is_folder and action is not Action.ADMINISTER:
        return table.best_below(target)
    return table.role(target)
