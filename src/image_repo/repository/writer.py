"""Writing: the container first, then the resolution, the record and the caches."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from image_repo import render
from image_repo.access.control import AccessControl, Action, image_not_found
from image_repo.access.principal import Principal
from image_repo.catalogue.indexer import Indexer, listed
from image_repo.errors import NameConflict, PreconditionFailed, Problem, TooLarge
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import Record, record_key, timestamp
from image_repo.model.rendition import ImageInfo
from image_repo.repository import bulk
from image_repo.repository.metadata import (
    UNCONDITIONAL,
    Conditions,
    MetadataStore,
    check_data,
    check_owner,
    describe,
    fitting,
    is_owned,
    patched,
)
from image_repo.repository.policy import Policy
from image_repo.repository.quotas import Quotas
from image_repo.repository.renditions import Renditions, etag_of
from image_repo.repository.resolver import Resolver, original_of, read_record
from image_repo.repository.spool import Spool
from image_repo.repository.trash import Trash
from image_repo.stores.base import Entry, Store

log = logging.getLogger(__name__)


#: what becomes of a deleted image
Disposal = Literal["bin", "erase", "moved"]


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload says beside its bytes.

    :param uploaded: seconds since the epoch
    :param data: the user's own; None for what is there
    :param owner: None for the one who is there
    """

    sha256: str
    filename: str | None
    uploaded: float
    data: Any
    owner: str | None

    def changes(self, stored: Record | None) -> bool:
        """Return whether a record that is made anew from the original and the stored one would differ."""
        if stored is None:
            return self.data is not None or self.owner is not None
        renamed = self.filename is not None and self.filename != stored.filename
        return self.data is not None or renamed or stored.intent is not None

    def intent(self) -> dict[str, Any]:
        """Return the intent that the record holds until the upload has ended."""
        return {
            "sha256": self.sha256,
            "filename": self.filename,
            "uploaded": timestamp(self.uploaded),
            "data": self.data,
        }


class Writer:
    """Stores, changes and deletes images on behalf of a principal, whose names it takes.

    A principal with an owner changes what is this owner's alone; to all else it is as if nothing were there.

    :raises Unauthenticated, Forbidden, ImageNotFound: from every method with a principal that may not
    """

    def __init__(
        self,
        access: AccessControl,
        origin: Store,
        resolver: Resolver,
        metadata: MetadataStore,
        indexer: Indexer,
        renditions: Renditions,
        policy: Policy,
        trash: Trash,
        quotas: Quotas,
    ) -> None:
        self._access = access
        self._origin = origin
        self._resolver = resolver
        self._metadata = metadata
        self._indexer = indexer
        self._renditions = renditions
        self._limits = renditions.limits
        self._trash = trash
        self.policy = policy
        self.quotas = quotas

    def _authorise(self, principal: Principal, action: Action, name: ImageName) -> ImageName:
        """Return the name in the container of a caller's name, for an action that is allowed."""
        qualified = principal.qualify(name)
        self._access.authorise(principal, action, qualified.text, lambda _: image_not_found(name.text))
        return qualified

    def spool(self) -> Spool:
        """Return a temporary file for an upload while it arrives; the caller closes it."""
        return Spool(self.policy.spool, self.policy.most_upload)

    # -- originals -------------------------------------------------------------------

    def put(
        self,
        principal: Principal,
        name: ImageName | None,
        spool: Spool,
        *,
        conditions: Conditions = UNCONDITIONAL,
        filename: str | None = None,
        data: Any = None,
        is_moved: bool = False,
    ) -> tuple[Record, bool]:
        """Store an original, whole or not at all.

        :param name: None to name it by its content
        :param data: the user's own; what was there stays where None
        :param is_moved: whether it is deleted elsewhere, so that its owner has no more than before
        :returns: its record, and whether there was none of this name before
        :raises PreconditionFailed: when a condition, or ``overwrite: false``, forbids it
        :raises NameConflict: when the name is a content address of other bytes, or of another owner's image
        """
        address = f"sha256:{spool.sha256}"
        requested = name or ImageName(address)
        name = self._authorise(principal, Action.WRITE, requested)
        if data is not None:
            check_data(data)
        info, mezzanines = self._inspect(requested, spool)
        with self._metadata.lock(name):
            before, stored = self._look_up(principal, name, requested, conditions)
            if before and stored and stored.version == before.version and requested.text == f"sha256:{stored.sha256}":
                return principal.view(self._merge_into(stored, data)), False
            if before and stored and stored.intent and fitting(stored, before) is None:
                stored = self._metadata.read(before)  # an upload that was cut off behind its commit point
            upload = Upload(spool.sha256, filename, time.time(), data, principal.owner)
            is_new = conditions.absent or (before is None and not self.policy.overwrite)
            growth = 0 if is_moved else self._growth(before, stored, spool)
            with self.quotas.reserved(principal, growth):
                original, record = self._store(name, before, stored, spool, info, upload, is_new=is_new)
            # Where a listing shows all that there is, nothing was there under the lock.
            if before or not self._origin.capabilities.immediate_listing:
                self._delete_older(name, original.key)
        self._renditions.replaced(original, mezzanines)
        return principal.view(self._metadata.redact(record)), before is None

    def check(self, principal: Principal, name: ImageName, conditions: Conditions = UNCONDITIONAL) -> None:
        """Check what :meth:`put` would refuse whatever the bytes are, before they arrive.

        :raises Problem: as that does
        """
        self._look_up(principal, self._authorise(principal, Action.WRITE, name), name, conditions)

    def _look_up(
        self, principal: Principal, name: ImageName, requested: ImageName, conditions: Conditions
    ) -> tuple[Original | None, Record | None]:
        """Return what is there of a name that may be written to."""
        before = self._resolver.look_up(name)
        stored = read_record(self._origin, name)
        check_owner(principal.owner, before, stored)
        self._check_conditions(before, stored, conditions, requested)
        return before, stored

    def _store(
        self,
        name: ImageName,
        before: Original | None,
        stored: Record | None,
        spool: Spool,
        info: ImageInfo,
        upload: Upload,
        *,
        is_new: bool,
    ) -> tuple[Original, Record]:
        """Store an original and its record; what they replace goes into the bin."""
        self._keep_replaced(before, stored, spool.sha256)
        with self._intent(name, before, stored, upload):
            entry = self._put_original(f"{name.text}.{info.kind}", spool, info.media_type, is_new=is_new)
        original = original_of(name, entry)
        self._resolver.note_write(name, original)  # whatever fails from here on, the picture is there, and seen
        record = describe(
            *(original, info, spool.sha256, replace(stored, intent=None) if stored else None),
            uploaded=upload.uploaded,
            filename=upload.filename,
            data=upload.data,
            owner=upload.owner,
        )
        self._metadata.write(record)
        self._resolver.note_write(name, original)  # the record may hold another focus
        return original, record

    def _put_original(self, key: str, spool: Spool, media_type: str, *, is_new: bool) -> Entry:
        """Store an original: the commit point of an upload.

        :param is_new: whether there must be none yet. One may have come since the look: the store itself refuses then
        """
        self._metadata.confirm()
        return self._origin.put(key, spool.file, media_type=media_type, overwrite=not is_new)

    def _growth(self, before: Original | None, stored: Record | None, spool: Spool) -> int:
        """Return by how many bytes an upload makes grow what its owner has."""
        known = fitting(stored, before)
        if known and known.sha256 == spool.sha256:
            return 0
        return spool.size - (before.size if before and not self._trash.is_there else 0)

    def _keep_replaced(self, before: Original | None, stored: Record | None, sha256: str) -> None:
        """Put what an upload replaces into the bin, unless it has the same bytes."""
        known = fitting(stored, before)
        if before and not (known and known.sha256 == sha256):
            self._trash.keep(before.name, before, stored, "replaced")

    @contextmanager
    def _intent(
        self, name: ImageName, before: Original | None, stored: Record | None, upload: Upload
    ) -> Iterator[None]:
        """Store the intent of an upload whose data would be lost if it were cut off behind its commit point, the block.

        Where the block fails and has changed nothing, the intent is withdrawn.
        """
        if not upload.changes(stored):
            yield
            return
        has_announced = self._metadata.announce(name, stored, upload.intent(), upload.owner)
        try:
            yield
        except Exception:
            if has_announced:
                with suppress(Problem):  # what is left of it is ignored by readers
                    if self._resolver.look_up(name) == before:
                        self._metadata.withdraw(name, stored)
            raise

    def _inspect(self, name: ImageName, spool: Spool) -> tuple[ImageInfo, tuple[render.Mezzanine, ...]]:
        """Judge an upload; return its facts, and the mezzanines that verifying it yields anyway."""
        if name.text.startswith("sha256:") and name.text != f"sha256:{spool.sha256}":
            raise NameConflict("These bytes have another SHA-256 than the name says.", sha256=spool.sha256)
        if spool.size > self._limits.max_source:
            raise TooLarge(f"Pictures of at most {self._limits.max_source} bytes are taken.")
        info = render.inspect(spool.file, self._limits, location=True)
        with self._renditions.limiter.slot(self._limits.wait, heavy=info.width * info.height > render.HEAVY):
            verification = render.verify(spool.file, self._limits)
        spool.file.seek(0)
        summary = verification.summary
        return replace(info, is_damaged=verification.is_damaged, summary=summary), verification.mezzanines

    def _check_conditions(
        self, before: Original | None, stored: Record | None, conditions: Conditions, requested: ImageName
    ) -> None:
        self._check_match(before, stored, conditions)
        if before and (conditions.absent or (not self.policy.overwrite and conditions.match is None)):
            raise PreconditionFailed(f"There is an image {requested.text!r} already.", name=requested.text)

    def _check_match(self, before: Original | None, stored: Record | None, conditions: Conditions) -> None:
        """Check ``If-Match``, which may name the version, the picture's entity tag or the record's."""
        record = fitting(stored, before)
        tags = self._metadata.tags(record)
        if before:
            tags |= {"*", before.version}
            if conditions.recipe_of:
                tags.add(etag_of(self._renditions.key(before, conditions.recipe_of(before))))
        if conditions.match is not None and tags.isdisjoint(conditions.match):
            raise PreconditionFailed("If-Match names another version than the one that is stored.")
        if conditions.holds:
            document = self._metadata.redact(record).public() if record else listed(before, stored) if before else None
            if document is None or not conditions.holds(document):
                raise PreconditionFailed("The record is not what it was any more.")

    def _merge_into(self, stored: Record, data: Any) -> Record:
        """The same bytes as before: only new data is stored, merged with what is there."""
        if data is not None and data != {}:
            both = isinstance(stored.data, Mapping) and isinstance(data, Mapping)
            stored = replace(stored, data={**stored.data, **data} if both else data)
            check_data(stored.data)
            self._metadata.write(stored)
        return self._metadata.redact(stored)

    def _delete_older(self, name: ImageName, written: str) -> None:
        """Delete all originals of the name but the newest; ours may be the older, if another node has written too.

        Some stores know times in whole seconds only: of originals of one second, that of this write is the newest.
        What cannot be deleted now stays as an older original beside the image, and ``check`` names it.
        """
        try:
            originals = sorted(
                self._resolver.originals(name), key=lambda entry: (entry.modified, entry.key == written), reverse=True
            )
            is_newest = bool(originals) and originals[0].key == written
            older = [entry for entry in originals[1:] if is_newest or entry.modified < originals[0].modified]
            for entry in older:
                self._metadata.confirm()
                self._origin.delete(entry.key)
            if older:
                self._resolver.note_write(name, self._resolver.look_up(name))
                self._indexer.noted(name)
        except Problem as problem:  # the upload itself is done
            log.warning("older originals of %s may still be there: %s", name, problem.detail)

    def delete(
        self,
        principal: Principal,
        name: ImageName,
        conditions: Conditions = UNCONDITIONAL,
        *,
        disposal: Disposal = "bin",
    ) -> dict[str, int]:
        """Delete an image: originals, record, and every rendition in every layer.

        :param disposal: whether original and record go into the bin, or are erased with what is there of this name;
            ``moved`` where they have another name by now
        :returns: layer → how many
        :raises ImageNotFound: when there was none
        :raises PreconditionFailed: when ``If-Match`` forbids it
        :raises StoreUnavailable: when something may be left; the same again removes it
        """
        requested, name = name, self._authorise(principal, Action.DELETE, name)
        with self._metadata.lock(name):
            keys = {entry.key for entry in self._resolver.originals(name)}
            original = self._resolver.look_up(name)  # knows by the record what a listing that lags does not show
            record = read_record(self._origin, name)
            if original is None and record is None:
                if disposal == "erase" and (erased := self._trash.erase(name, owner=principal.owner)):
                    return {"trash": erased}
                raise image_not_found(requested.text)
            if not is_owned(principal.owner, original, record):
                raise image_not_found(requested.text)
            self._check_match(original, record, conditions)
            if disposal == "bin":
                self._trash.keep(name, original, record, "deleted")
            self._metadata.confirm()  # to copy an original takes its time
            trash = {"trash": self._trash.erase(name, owner=principal.owner)} if disposal == "erase" else {}
            originals = sum(self._origin.delete(key) for key in sorted(keys | ({original.key} if original else set())))
            self._resolver.note_write(name, None)
            renditions = self._renditions.deleted(name)
            self._metadata.confirm()
            # It goes last: while it is there, a deletion that has failed can be repeated to its end.
            records = int(record is not None and self._origin.delete(record_key(name.text)))
            self._indexer.removed(name.text)
        return {"original": originals, "record": records, **renditions, **trash}

    def purge(self, principal: Principal, name: ImageName) -> dict[str, int]:
        """Drop the renditions of an image from every layer; layer → how many."""
        name = self._authorise(principal, Action.WRITE, name)
        counts = self._renditions.purge(name)
        self._resolver.note_write(name, self._resolver.look_up(name))
        return counts

    # -- data ------------------------------------------------------------------------

    def replace_data(
        self, principal: Principal, name: ImageName, data: Any, conditions: Conditions
    ) -> tuple[Record, bool]:
        """Replace the user's data of an image; where there is none, it becomes a description.

        :returns: the record, and whether there was none
        :raises Problem: as :meth:`MetadataStore.change` says
        """
        qualified = self._authorise(principal, Action.WRITE, name)
        record, is_new = self._metadata.change(qualified, lambda _: data, conditions, principal.owner)
        return principal.view(record), is_new

    def replace_many(
        self, principal: Principal, data_by_name: Mapping[ImageName, Any]
    ) -> dict[ImageName, bulk.BulkOutcome]:
        """Replace the data of at most :data:`.bulk.MAX_NAMES` images together: :func:`.bulk.replace_many`."""
        requested = {self._authorise(principal, Action.WRITE, name): name for name in data_by_name}
        outcomes = bulk.replace_many(
            *(self._origin, self._resolver, self._metadata, self._indexer),
            {name: data_by_name[requested[name]] for name in requested},
            principal.owner,
        )
        return {requested[name]: outcome for name, outcome in outcomes.items()}

    def patch_data(self, principal: Principal, name: ImageName, patch: Any, conditions: Conditions) -> Record:
        """Merge a patch into the user's data of an image (RFC 7396).

        :raises ImageNotFound: when there is neither a picture nor a description
        :raises Problem: as :meth:`MetadataStore.change` says
        """
        qualified = self._authorise(principal, Action.WRITE, name)
        if principal.owner is not None:
            self._authorise(principal, Action.READ, name)
        record, _ = self._metadata.change(qualified, patched(name, patch), conditions, principal.owner)
        return principal.view(record)
