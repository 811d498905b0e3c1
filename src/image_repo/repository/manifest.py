"""Manifests of snapshots: entries as canonical lines, and the Merkle root over them (docs/snapshots.md). Pure.

A manifest is lines of JSON: a header, then one entry for each image, by the code points of their names. The root is
a function of the lines behind the header alone, so it can be
made again from the manifest, or from the pictures and their data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

#: members of a public record that an entry holds
MEMBERS = ("name", "sha256", "bytes", "media_type", "width", "height", "data")
#: the longest header that is read, in bytes
MOST_HEADER = 1 << 20
#: up to here every whole number is a double (I-JSON, RFC 7493, section 2.2)
_EXACT = 2**53
_LEAF, _NODE = b"\0", b"\1"


def canonical(value: Any) -> bytes:
    """JSON in the one form that RFC 8785 gives it, in UTF-8.

    Whole numbers that no double stands for have no form there: here they keep all their digits.

    :param value: of JSON's types, with finite numbers and text that UTF-8 can hold
    """
    return _text(value).encode()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(encode_basestring(value))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return _whole(value) if isinstance(value, int) else _double(value)
    if isinstance(value, Mapping):
        # in the order of UTF-16 code units (RFC 8785, section 3.2.3)
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return "{" + ",".join([f"{encode_basestring(name)}:{_text(inner)}" for name, inner in members]) + "}"
    return "[" + ",".join([_text(inner) for inner in value]) + "]"


def _whole(value: int) -> str:
    if abs(value) <= _EXACT:
        return str(value)
    try:
        text = _double(float(value))
    except OverflowError:
        return str(value)
    # Some parsers read 1e300 as a whole number, others as a double: both are written alike.
    return text if Decimal(text) == value else str(value)


def _double(value: float) -> str:
    """A number as ECMAScript writes it (RFC 8785, section 3.2.2.3): the shortest digits that mean this double."""
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    _, figures, exponent = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, figures)).rstrip("0")
    point = len(figures) + int(exponent)  # the decimal point stands behind so many digits
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1:+d}"


class Tree:
    """A Merkle tree as Certificate Transparency has it (RFC 6962, section 2.1), over SHA-256.

    A leaf is the hash of a zero byte and the data, a node that of a one byte and its two children; the left of two
    subtrees is the largest full one. Memory grows with the logarithm of the leaves.
    """

    def __init__(self) -> None:
        self.count = 0
        #: roots of full subtrees, the largest first; one for each bit of the count
        self._full: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Adds a leaf."""
        digest = hashlib.sha256(_LEAF + data).digest()
        joined = self.count
        while joined & 1:
            digest = hashlib.sha256(_NODE + self._full.pop() + digest).digest()
            joined >>= 1
        self._full.append(digest)
        self.count += 1

    def root(self) -> str:
        """The root in lower-case hex; of no leaves, the hash of nothing."""
        if not self._full:
            return hashlib.sha256().hexdigest()
        digest = self._full[-1]
        for left in reversed(self._full[:-1]):
            digest = hashlib.sha256(_NODE + left + digest).digest()
        return digest.hex()


def entry(document: Mapping[str, Any], *, exif: bool = False) -> dict[str, Any]:
    """Return the entry of an image.

    :param document: a public record
    :param exif: whether camera, lens and time are kept too
    """
    return {name: document[name] for name in (*MEMBERS, *(("exif",) if exif else ()))}


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a manifest.

    :param id: of the snapshot: the Merkle root, so that the same images with the same data are the same snapshot
    :param created: when they were first found to be so, RFC 3339, UTC
    :param filter: what was asked for then, as a query string
    :param count: of the entries
    :param merkle_root: over the entries, in lower-case hex
    """

    id: str
    created: str
    filter: str
    count: int
    merkle_root: str

    def line(self) -> bytes:
        """Return it as it is written in the manifest, with its line feed."""
        return canonical({**asdict(self), "snapshot": 1}) + b"\n"

    @classmethod
    def load(cls, line: bytes) -> Header:
        """Read what :meth:`line` wrote; unknown members are passed over, for the sake of newer writers.

        :raises ValueError: when it is no header
        """
        try:
            members = json.loads(line)
            header = cls(**{f.name: members[f.name] for f in fields(cls)})
        except (TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"not a header: {error}") from error
        texts = (header.id, header.created, header.filter, header.merkle_root)
        if not isinstance(header.count, int) or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a header")
        return header
