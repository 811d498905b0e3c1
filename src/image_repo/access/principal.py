"""Principals: on whose behalf a request is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from image_repo.model.names import ImageName
from image_repo.model.namespaces import namespace_of
from image_repo.model.record import Record


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
    :param owner: the only owner whose images it may see; None for any
    :param namespace: the folder with its ``/`` below which the names lie that it uses; empty where they are whole names
    """

    name: str | None = None
    roles: frozenset[str] = frozenset()
    prefix: str = ""
    shared: str | None = None
    owner: str | None = None
    namespace: str = ""

    @property
    def is_anonymous(self) -> bool:
        """Whether the request came without credentials."""
        return self.name is None

    def qualify(self, name: ImageName) -> ImageName:
        """Return the name in the container of a name that this caller uses.

        :raises BadName: when it is too long there
        """
        return name.below(self.namespace) if self.namespace else name

    def qualify_target(self, target: str) -> str:
        """Return the same for the target of an action: a name, a folder, or the key of something hidden.

        The empty target stands for anything (:class:`~image_repo.access.control.Rules`), and stays.
        """
        return self.namespace + target if target and target[0] != "." else target

    def relative(self, text: str) -> str:
        """Return the name that this caller uses for one in the container."""
        return text.removeprefix(self.namespace) if self.namespace else text

    def view(self, record: Record) -> Record:
        """Return a record under the name that this caller uses."""
        return replace(record, name=self.relative(record.name)) if self.namespace else record


#: a request without credentials
ANONYMOUS = Principal()
#: the command line: its user can read the configuration and the store anyway
ADMIN = Principal("administrator", frozenset({"admin"}))


def of_owner(principal: Principal, owner: str) -> Principal:
    """Return a caller that uses the names of an owner's namespace, and sees nothing else.

    :raises BadName: when the owner can have none
    """
    return replace(principal, owner=owner, namespace=namespace_of(owner))
