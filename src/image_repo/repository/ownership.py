"""Give images to users, where users are kept apart (``access.image_scope: user``)."""

from __future__ import annotations

from image_repo.access.principal import ADMIN
from image_repo.errors import ImageNotFound
from image_repo.model.names import ImageName
from image_repo.model.namespaces import namespace_of
from image_repo.model.record import Record
from image_repo.repository.rename import keep_provenance, rename
from image_repo.repository.repository import Repository


def name_below(name: ImageName, owner: str | None) -> ImageName:
    """Return the name that an image has where it is an owner's.

    :param owner: None for the administrators
    :raises BadName: when no folder can have the owner's name, or the name is too long there
    """
    namespace = namespace_of(owner) if owner else ""
    return name if name.text.startswith(namespace) else name.below(namespace)


def give(repo: Repository, name: ImageName, owner: str | None) -> Record:
    """Give an image, or a description, to a user, below whose folder it is moved; return its record.

    The same again completes it where it was interrupted.

    :param name: in the container
    :param owner: None for the administrators: it stays where it is
    :raises ImageNotFound: if there is no such image
    :raises PreconditionFailed: if the name below the folder is taken
    """
    target = name_below(name, owner)
    if target != name:
        return rename(repo, ADMIN, name, target, owner=owner)
    return keep_provenance(repo, ADMIN, name, record_of(repo, name), owner=owner)


def record_of(repo: Repository, name: ImageName) -> Record:
    """Return the record of an image or of a description, as administrators see it.

    :raises ImageNotFound: if there is none
    """
    try:
        return repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [name], aliases=False))
    except ImageNotFound:
        return repo.reader.description(ADMIN, [name])
