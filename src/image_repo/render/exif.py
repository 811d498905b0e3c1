"""The facts of a picture's EXIF for its record: camera, lens, exposure, capture time, position where that is allowed.

Exif 3.0 (CIPA DC-008). Read from the block itself and bounded: the readers of the imaging
library load every tag, and a block of 64 KiB can declare gigabytes of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from image_repo.config import RenderConfiguration
from image_repo.render.ifd import Block, Bytes, Directory

_ORIENTATION, _ARTIST, _COPYRIGHT = 0x112, 0x13B, 0x8298
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
_EMPTY = Directory({}, 0)
_MOST_RIGHTS = 8 << 10
#: the facts that say where a picture was taken
POSITION = frozenset(("latitude", "longitude", "altitude"))


@dataclass(frozen=True, slots=True)
class Exif:
    """The directories of an EXIF block; empty ones where it has none or they cannot be read."""

    block: Block | None = None
    image: Directory = _EMPTY
    photo: Directory = _EMPTY
    gps: Directory = _EMPTY
    interop: Directory = _EMPTY

    @classmethod
    def read(cls, data: Bytes) -> Exif:
        """Read the directories of a block that begins with its byte order; a damaged one is an empty one."""
        if bytes(data[:6]) == b"Exif\0\0":
            data = data[6:]
        try:
            block = Block(data)
            image = block.directory(block.first)
        except ValueError:
            return cls()
        photo = _child(block, image, _EXIF_IFD)
        return cls(block, image, photo, _child(block, image, _GPS_IFD), _child(block, photo, _INTEROP_IFD))

    @property
    def orientation(self) -> int:
        """1 to 8; 1 where it is absent or none that is defined."""
        value = int(self._number(self.image, _ORIENTATION) or 1)
        return value if 1 <= value <= 8 else 1

    @property
    def is_adobe_rgb(self) -> bool:
        """Whether the colours are Adobe RGB by the convention of DCF 2.0: uncalibrated, and R03."""
        space = self._number(self.photo, 0xA001)
        return space == 2 or (space == 0xFFFF and self._text(self.interop, 1, 8) == "R03")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in the block, in pixels."""
        width, height = (int(self._number(self.image, tag) or 0) for tag in (0x100, 0x101))
        return (width, height) if width > 0 and height > 0 else None

    def rights(self, most: int) -> tuple[str, str]:
        """Return artist and copyright, each empty where there is none.

        :param most: bytes of each that are read
        """
        return self._text(self.image, _ARTIST, most), self._text(self.image, _COPYRIGHT, most)

    def facts(self, most: int, *, location: bool) -> dict[str, object]:
        """Return facts for the record: JSON values under plain names, absent where nothing is known.

        :param most: bytes of a text that are read
        :param location: whether latitude, longitude (degrees, WGS 84) and altitude (metres) are among them
        """
        facts: dict[str, object] = {
            "camera_make": self._text(self.image, 0x10F, most),
            "camera_model": self._text(self.image, 0x110, most),
            "lens": self._text(self.photo, 0xA434, most),
            "captured": self._captured(),
        }
        for name, tag, digits in _NUMBERS:
            value = self._number(self.photo, tag)
            facts[name] = _rounded(value, digits) if value is not None and 0 < value < 1e9 else None
        if location:
            facts |= self._position()
        return {name: value for name, value in facts.items() if value not in (None, "")}

    def _captured(self) -> str:
        """Return the capture time, ISO 8601, with its offset where there is one; empty without a time that exists."""
        for tag, offset_tag in ((0x9003, 0x9011), (0x9004, 0x9012)):
            match = _TIME.fullmatch(self._text(self.photo, tag, 20))
            try:
                captured = datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
            except ValueError:  # a day or an hour that no calendar and no clock has
                captured = None
            if captured:
                offset = self._text(self.photo, offset_tag, 7)
                return captured.isoformat() + (offset if _OFFSET.fullmatch(offset) else "")
        return ""

    def _position(self) -> dict[str, object]:
        latitude, longitude = self._angle(2, 90), self._angle(4, 180)
        if latitude is None or longitude is None:
            return {}
        south = self._text(self.gps, 1, 2).upper() == "S"
        west = self._text(self.gps, 3, 2).upper() == "W"
        facts: dict[str, object] = {
            "latitude": round(-latitude if south else latitude, 6),
            "longitude": round(-longitude if west else longitude, 6),
        }
        altitude = self._number(self.gps, 6)
        if altitude is not None and abs(altitude) < 1e6:
            below = self._number(self.gps, 5) == 1
            facts["altitude"] = round(-altitude if below else altitude, 2)
        return facts

    def _angle(self, tag: int, most: float) -> float | None:
        parts = self.block.numbers(self.gps, tag) if self.block else ()
        if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts):
            return None
        degrees = sum(part / 60**place for place, part in enumerate(parts))
        return degrees if degrees <= most else None

    def _number(self, directory: Directory, tag: int) -> float | None:
        values = self.block.numbers(directory, tag) if self.block else ()
        return values[0] if values else None

    def _text(self, directory: Directory, tag: int, most: int) -> str:
        raw = self.block.raw(directory, tag, most) if self.block else b""
        return plain(raw.split(b"\0")[0].decode("utf-8", "replace"), most)


def most_rights(limits: RenderConfiguration) -> int:
    """Return the longest text, in bytes, of an artist or a copyright that is written."""
    return min(_MOST_RIGHTS, limits.max_metadata)


#: name, tag of the photo's directory, significant digits
_NUMBERS = (("exposure_time", 0x829A, 6), ("f_number", 0x829D, 4), ("iso", 0x8827, 9), ("focal_length", 0x920A, 6))
_TIME = re.compile(r"([0-9]{4})[:-]([0-9]{2})[:-]([0-9]{2})[ T]([0-9]{2}):([0-9]{2}):([0-9]{2})")
_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4]):[0-5][0-9]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def plain(text: str, most: int) -> str:
    """Return text on one line, without control characters, of at most so many bytes of UTF-8."""
    text = _CONTROLS.sub(" ", text).strip()
    return text.encode()[:most].decode("utf-8", "ignore")


def _rounded(value: float, digits: int) -> float | int:
    value = float(f"{value:.{digits}g}")
    return int(value) if value.is_integer() else value


def _child(block: Block, parent: Directory, tag: int) -> Directory:
    offset = block.integer(parent, tag)
    if not offset or offset < 0:
        return _EMPTY
    try:
        return block.directory(offset)
    except ValueError:
        return _EMPTY
