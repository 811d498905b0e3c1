"""Watermarks: a text or a picture that is put on renditions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Watermark:
    """A text or a picture, and how it is put on a rendition.

    :param id: a hash of everything else, which stands in keys: equal ids are equal watermarks
    :param text: empty where it is a picture
    :param picture: the bytes of its file; empty where it is a text, or only the id is known
    :param opacity: 0 to 1
    :param repeat: all over the rendition; in its lower right corner otherwise
    """

    id: str
    text: str = field(default="", compare=False)
    picture: bytes = field(default=b"", compare=False, repr=False)
    opacity: float = field(default=1.0, compare=False)
    repeat: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, text: str, picture: bytes, opacity: float, *, repeat: bool) -> Watermark:
        """Return a watermark under its id."""
        facts = repr((text, opacity, repeat)).encode() + picture
        return cls(hashlib.sha256(facts).hexdigest()[:_DIGITS], text, picture, opacity, repeat)
