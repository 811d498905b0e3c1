"""What is said of many images at once: they are looked up together, and the index is told of them together.

One by one it would cost a listing for each, and a transaction. What is not plain, is done so all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

from image_repo.catalogue.base import Row
from image_repo.catalogue.indexer import Indexer
from image_repo.errors import PreconditionFailed
from image_repo.model.formats import ENDINGS
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import MEDIA_TYPE, Record, record_key
from image_repo.model.strict_json import is_same
from image_repo.repository.metadata import MetadataStore, check_data, fitting
from image_repo.repository.resolver import Resolver, image_of, original_of, read_record
from image_repo.stores.base import Entry, Store

#: names that are held at a time: each takes a file of a lock
MOST = 32
#: what the objects of an image end with: originals, records, pictures of other tools without an ending
_ENDINGS = frozenset({*ENDINGS, ".json", ""})

#: there was nothing of this name; what was said of it is something else now; it was said already
Said = Literal["stored", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a name stands for; ``record`` is what was said of it, and of this very picture, if there is one."""

    current: Original | None
    record: Record | None


def say_many(
    origin: Store, versions: Resolver, records: MetadataStore, follower: Indexer, said: Mapping[ImageName, Any]
) -> dict[ImageName, Said]:
    """Replaces the user's data of images; where there are none, they become descriptions.

    :param said: at most :data:`MOST`
    :returns: what became of those that could be done together; the others have to be done one by one
    :raises BadBody, TooLarge: when data is none that can be stored
    :raises StoreUnavailable: when the store cannot be asked; some may be done
    """
    for data in said.values():
        check_data(data)
    with ExitStack() as held:
        # Who holds several takes them in one order: so nobody waits for who waits for him. And what is read while
        # nobody else holds it, is on the disk.
        for name in sorted(said):
            held.enter_context(records.lock(name))
        done: dict[ImageName, Said] = dict.fromkeys(_unchanged(origin, said), "unchanged")
        names = sorted(said.keys() - done.keys())
        rows: list[Row] = []
        try:
            with origin.together():
                for name, known in _looked_up(origin, names):
                    outcome, row = _say(records, name, known, said[name])
                    if row is not None:
                        rows.append(row)
                        versions.written(name, known.current)
                    if outcome is not None:
                        done[name] = outcome
        finally:
            follower.wrote_all(rows)
    return done


def _unchanged(origin: Store, said: Mapping[ImageName, Any]) -> Iterator[ImageName]:
    """Names of which this is said already, as long as there are any: an import that is repeated is quick so."""
    for name, data in said.items():
        stored = read_record(origin, name)
        if stored is None or not is_same(stored.data, data):
            return
        yield name


def _say(records: MetadataStore, name: ImageName, known: _Known, data: Any) -> tuple[Said | None, Row | None]:
    before = known.record
    if before and is_same(before.data, data):
        return "unchanged", None
    record = replace(before, data=data) if before else Record.description(name.text, data)
    try:
        return ("replaced" if before else "stored"), records.store(record, fresh=before is None)
    except PreconditionFailed:  # another node's first record, or another tool's JSON
        return None, None


def _looked_up(origin: Store, names: Sequence[ImageName]) -> Iterator[tuple[ImageName, _Known]]:
    """What is plainly known of names.

    :param names: in order
    """
    # other tools spell what is not ASCII in several ways
    found: dict[str, list[Entry]] = {name.text: [] for name in names if name.text.isascii()}
    for entry in origin.called(found, _ENDINGS):
        name = _belongs(entry)
        if name in found:
            found[name].append(entry)
        if entry.key in found:  # a picture without an ending, perhaps, or one that is called like another with it
            found[entry.key] += [entry, entry]
    for image in names:
        known = _known(origin, image, found[image.text]) if image.text in found else None
        if known:
            yield image, known


def _belongs(entry: Entry) -> str:
    if entry.key.endswith(".json"):
        return entry.key.removesuffix(".json")
    image = image_of(entry.key, entry.media_type)
    return image.text if image else ""


def _known(origin: Store, name: ImageName, entries: Iterable[Entry]) -> _Known | None:
    """What the objects of a name come to; None where that is not plain."""
    stored: Record | None = None
    originals = []
    for entry in entries:
        if entry.key != record_key(name.text):
            originals.append(entry)
        elif entry.media_type != MEDIA_TYPE or (stored := read_record(origin, name)) is None:
            return None
    if len(originals) > 1:
        return None
    current = original_of(name, originals[0]) if originals else None
    record = fitting(stored, current)
    return None if (current or stored) and record is None else _Known(current, record)
