"""Principals: on whose behalf a request is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role holds the ones before it."""

    NONE = 0
    READER = 1
    WRITER = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller, or nobody in particular.

    :param name: unique per caller; None without credentials
    :param roles: what the caller is: ``reader``, ``writer`` or ``admin``
    :param prefix: the folder that the roles end at, with its ``/``; empty for everything
    :param shared: the image, or the folder with its ``/``, that may be read although no role says so
    """

    name: str | None = None
    roles: frozenset[str] = frozenset()
    prefix: str = ""
    shared: str | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether the request came without credentials."""
        return self.name is None


#: a request without credentials
ANONYMOUS = Principal()
#: the command line: its user can read the configuration and the store anyway
ADMIN = Principal("administrator", frozenset({"admin"}))
