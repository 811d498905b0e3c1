"""Rename an image: store it under the new name, then delete the old one."""

from __future__ import annotations

from dataclasses import replace

from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.errors import ImageNotFound, PreconditionFailed
from image_repo.model.names import ImageName
from image_repo.model.record import Record
from image_repo.repository.metadata import Conditions
from image_repo.repository.repository import Repository
from image_repo.repository.resolver import read_record

_ABSENT = Conditions(absent=True)


def rename(
    repo: Repository, principal: Principal, name: ImageName, new_name: ImageName, owner: str | None = None
) -> Record:
    """Rename an image, or a description, with its record; time of upload, owner and data stay.

    The new one is complete before the old one is deleted: if that is interrupted, both exist, and the same again
    fails because the new name is taken.

    :param owner: of the new one; None for that of the old one
    :raises ImageNotFound: if there is no such image
    :raises PreconditionFailed: if the new name is taken, or the image is changed meanwhile
    """
    qualified = principal.qualify(name)
    repo.access.authorise(principal, Action.DELETE, qualified.text)  # before there is a copy
    try:
        original = repo.reader.resolve(principal, [name], aliases=False)
    except ImageNotFound:
        before = repo.reader.description(principal, [name])
        repo.writer.replace_data(principal, new_name, before.data, _ABSENT)
    else:
        before = repo.reader.record(principal, original)
        with repo.reader.original(principal, original) as (_, spool):
            repo.writer.put(
                *(principal, new_name, spool),
                conditions=_ABSENT,
                filename=before.filename,
                data=before.data,
                is_moved=True,
            )
    renamed = keep_provenance(repo, principal, new_name, before, owner=owner or before.owner)
    known = {**before.public(), "name": qualified.text}
    unchanged = Conditions(holds=lambda document: document == known)
    try:
        repo.writer.delete(principal, name, unchanged, disposal="moved")
    except PreconditionFailed:
        repo.writer.delete(principal, new_name, disposal="moved")
        raise
    return renamed


def keep_provenance(
    repo: Repository, principal: Principal, requested: ImageName, before: Record, *, owner: str | None
) -> Record:
    """Give a stored image the time of upload of an earlier record, and an owner; return its redacted record."""
    name = principal.qualify(requested)
    with repo.metadata.lock(name):
        stored = read_record(repo.origin, name)
        if stored is None:
            raise ImageNotFound(f"There is no image {requested.text!r} any more.", name=requested.text)
        record = replace(stored, uploaded=before.uploaded, owner=owner)
        repo.metadata.write(record)
        repo.epochs.mark(name.text)  # what is known of the owner is outdated
    return principal.view(repo.metadata.redact(record))
