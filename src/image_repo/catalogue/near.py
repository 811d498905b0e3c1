"""Near duplicates: pictures whose difference hashes differ in few of 64 bits.

A hash is indexed by four bands of 16 bits. Of two hashes that differ in at most ``d`` bits, one band differs in at most
``d // 4`` (pigeonhole principle): so few values of the bands lead to all candidates. Each band is stored with the whole
hash, from which the distance is computed: no document is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

from image_repo.catalogue.query import Condition, Path
from image_repo.errors import BadParameter

#: member of a record with its hash
HASH_PATH: Path = ("dhash",)
#: under which the bands are indexed: no document has anything there
BANDS_PATH: Path = ("dhash", "")
#: bits in which near duplicates differ at most, where nothing else is wanted, and the most that can be wanted
DISTANCE, MAX_DISTANCE = 6, 11
#: near duplicates that are returned at most: their names lie in memory, about 100 bytes each
MAX_NAMES = 100_000
_HASH = re.compile(r"[0-9a-f]{16}")
_TEXT = re.compile(r"([0-9a-f]{16})(?:,([0-9]{1,2}))?")
_BANDS, _DIGITS = 4, 4


def read_near(parameter: str, text: str) -> Condition:
    """Return the condition that a hash is near ``HASH`` or ``HASH,DISTANCE``.

    :raises BadParameter: for anything else
    """
    match = _TEXT.fullmatch(text)
    distance = int(match[2] or DISTANCE) if match else -1
    if match is None or not 0 <= distance <= MAX_DISTANCE:
        wanted = f"a dhash of 16 hexadecimal digits, and at most {MAX_DISTANCE} bits: HASH,BITS"
        raise BadParameter.expected(wanted, parameter, text)
    bits = int(match[1], 16)

    def is_near(other: str) -> bool:
        return _HASH.fullmatch(other) is not None and (int(other, 16) ^ bits).bit_count() <= distance

    return Condition(HASH_PATH, "near", (match[1], distance), is_near)


def bands_of(text: object) -> list[tuple[str, bytes]]:
    """Return the bands of a hash, each with its place, and the hash as 8 bytes; none of anything else."""
    if not isinstance(text, str) or not _HASH.fullmatch(text):
        return []
    bits = bytes.fromhex(text)
    return [(_band(number, int(text[number * _DIGITS :][:_DIGITS], 16)), bits) for number in range(_BANDS)]


def near_names(condition: Condition, candidates: Iterable[tuple[bytes, str]]) -> list[str]:
    """Return the names of hashes that fulfil the condition, each once.

    :param candidates: hash and name of each band that was found
    :raises BadParameter: for more than :data:`MAX_NAMES`, as of a collection of black pictures
    """
    text, distance = condition.values
    assert isinstance(text, str) and isinstance(distance, int)
    bits = int(text, 16)
    names: dict[str, None] = {}
    for other, name in candidates:
        if (int.from_bytes(other) ^ bits).bit_count() <= distance:
            names[name] = None
            if len(names) > MAX_NAMES:
                raise BadParameter(
                    "near", f"More than {MAX_NAMES:,} images are near: expected one that fewer resemble."
                )
    return list(names)


def probes(condition: Condition) -> Iterator[str]:
    """Yield bands; each hash that fulfils the condition has at least one of them."""
    text, distance = condition.values
    assert isinstance(text, str) and isinstance(distance, int)
    for number in range(_BANDS):
        band = int(text[number * _DIGITS :][:_DIGITS], 16)
        for flips in range(distance // _BANDS + 1):
            for places in combinations(range(4 * _DIGITS), flips):
                yield _band(number, band ^ sum(1 << place for place in places))


def _band(number: int, bits: int) -> str:
    return f"{number}:{bits:04x}"
