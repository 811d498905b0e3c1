"""Restore what was deleted or replaced from the bin."""

from __future__ import annotations

from collections.abc import Sequence

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.errors import ImageNotFound
from image_repo.model.names import ImageName
from image_repo.model.record import Record
from image_repo.repository.metadata import Conditions
from image_repo.repository.rename import keep_provenance
from image_repo.repository.repository import Repository
from image_repo.repository.trash import TrashItem


def restore(
    repo: Repository, principal: Principal, readings: Sequence[ImageName], item_id: str | None = None
) -> Record:
    """Restore an image, or a description, with its record; time of upload and owner are those from before.

    A picture that has the name by now goes into the bin itself.

    :param readings: of the name; the first that is in the bin counts
    :param item_id: which version; the newest where None
    :raises ImageNotFound: when it is not in the bin
    :raises PreconditionFailed: when a description would replace something
    """
    repo.access.authorise(principal, Action.WRITE, principal.qualify(readings[0]).text)
    name, item = _find(repo, principal, readings, item_id)
    spool = repo.trash.open(item)
    if spool is None:
        repo.writer.replace_data(principal, name, item.record.data, Conditions(absent=True))
    else:
        with spool:
            repo.writer.put(principal, name, spool, filename=item.record.filename, data=item.record.data, is_moved=True)
    restored = keep_provenance(repo, principal, name, item.record, owner=item.record.owner)
    repo.trash.erase(item.name, item.id)
    return restored


def _find(
    repo: Repository, principal: Principal, readings: Sequence[ImageName], item_id: str | None
) -> tuple[ImageName, TrashItem]:
    """Return the caller's name of what is in the bin, and the version there."""
    for name in readings:
        item = repo.trash.find(principal.qualify(name), item_id, principal.owner)
        if item:
            return name, item
    raise ImageNotFound(f"There is no such {readings[-1].text!r} in the bin.", name=readings[-1].text)
