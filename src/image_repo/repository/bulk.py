"""Data of many images replaced in one batch: one listing and one index transaction instead of one for each.

Images in an unusual state are left to the caller, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from image_repo.catalogue.base import Row
from image_repo.catalogue.indexer import Indexer
from image_repo.errors import PreconditionFailed
from image_repo.model import first_names
from image_repo.model.formats import ENDINGS
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import MEDIA_TYPE, Record, record_key
from image_repo.model.strict_json import is_same
from image_repo.repository.metadata import MetadataStore, check_data, fitting, is_owned
from image_repo.repository.resolver import Resolver, image_of, original_of, read_record
from image_repo.stores.base import Entry, Store

#: names of a batch: each takes a lock file
MAX_NAMES = 32
#: endings of the objects of an image: originals, records, and pictures of other tools without an ending
_ENDINGS = frozenset({*ENDINGS, ".json", ""})

#: there was nothing of this name; its data is different now; it was the same already
BulkOutcome = Literal["stored", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class _State:
    """The state of a name; the record is that of this very original, if there is one."""

    original: Original | None
    record: Record | None


def replace_many(
    origin: Store,
    resolver: Resolver,
    metadata: MetadataStore,
    indexer: Indexer,
    data_by_name: Mapping[ImageName, Any],
    owner: str | None = None,
) -> dict[ImageName, BulkOutcome]:
    """Replace the user's data of images; where there are none, they become descriptions.

    :param data_by_name: at most :data:`MAX_NAMES`
    :param owner: whose they have to be, and are where there were none; None for anybody's
    :returns: the outcomes of those that could be done in the batch; the others have to be done one by one
    :raises BadBody, TooLarge: when data cannot be stored
    :raises StoreUnavailable: when the store cannot be reached; some may be done
    """
    for data in data_by_name.values():
        check_data(data)
    with ExitStack() as locks:
        # Locks are taken in one order, so that no two batches wait for each other.
        for name in sorted(data_by_name):
            locks.enter_context(metadata.lock(name))
        done: dict[ImageName, BulkOutcome] = dict.fromkeys(_unchanged(origin, data_by_name, owner), "unchanged")
        names = sorted(data_by_name.keys() - done.keys())
        rows: list[Row] = []
        try:
            with origin.batch():
                for name, state in _look_up(origin, names):
                    if not is_owned(owner, state.original, state.record):
                        continue
                    outcome, row = _replace(metadata, name, state, data_by_name[name], owner)
                    if row is not None:
                        rows.append(row)
                        resolver.note_write(name, state.original)
                    if outcome is not None:
                        done[name] = outcome
        finally:
            indexer.wrote_all(rows)
    return done


def _unchanged(origin: Store, data_by_name: Mapping[ImageName, Any], owner: str | None) -> Iterator[ImageName]:
    """Yield leading names that have this data already: so a repeated import is quick."""
    for name, data in data_by_name.items():
        stored = read_record(origin, name)
        if stored is None or stored.intent or not is_same(stored.data, data) or not is_owned(owner, None, stored):
            return
        yield name


def _replace(
    metadata: MetadataStore, name: ImageName, state: _State, data: Any, owner: str | None
) -> tuple[BulkOutcome | None, Row | None]:
    before = state.record
    if before and is_same(before.data, data):
        return "unchanged", None
    record = replace(before, data=data) if before else Record.description(name.text, data, owner)
    try:
        return ("replaced" if before else "stored"), metadata.store(record, fresh=before is None)
    except PreconditionFailed:  # another node's first record, or another tool's JSON
        return None, None


def _look_up(origin: Store, names: Sequence[ImageName]) -> Iterator[tuple[ImageName, _State]]:
    """Yield the state of names, where it is not unusual.

    :param names: in order
    """
    # other tools spell what is not ASCII in several ways
    by_name: dict[str, list[Entry]] = {name.text: [] for name in names if name.text.isascii()}
    for entry in origin.find(by_name, _ENDINGS):
        name = _image_of(entry)
        if name in by_name:
            by_name[name].append(entry)
        if entry.key in by_name:  # a picture without an ending, perhaps, or one that is called like another with it
            by_name[entry.key] += [entry, entry]
    described = [
        text for text, entries in by_name.items() if not any(entry.key != record_key(text) for entry in entries)
    ]
    for entry in origin.find([first_names.original_stem(text) for text in described], ENDINGS):
        by_name[_image_of(entry)].append(entry)
    for image in names:
        state = _state(origin, image, by_name[image.text]) if image.text in by_name else None
        if state:
            yield image, state


def _image_of(entry: Entry) -> str:
    if entry.key.endswith(".json"):
        return entry.key.removesuffix(".json")
    image = image_of(entry.key, entry.media_type)
    return image.text if image else ""


def _state(origin: Store, name: ImageName, entries: Iterable[Entry]) -> _State | None:
    """Return the state of a name from its objects; None where it is unusual."""
    stored: Record | None = None
    originals = []
    for entry in entries:
        if entry.key != record_key(name.text):
            originals.append(entry)
        elif entry.media_type != MEDIA_TYPE or (stored := read_record(origin, name)) is None:
            return None
    if len(originals) > 1:
        return None
    original = original_of(name, originals[0]) if originals else None
    record = fitting(stored, original)
    return None if (original or stored) and record is None else _State(original, record)
