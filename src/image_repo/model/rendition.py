"""What is served: immutable bytes and the layer they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: a tier of the caches, the container of originals, or the renderer
Layer = Literal["memory", "disk", "cache", "origin", "rendered"]


@dataclass(frozen=True, slots=True)
class Rendition:
    """Bytes to serve. Frozen, because many threads share it.

    :param etag: strong entity tag without its quotes; a function of the key alone
    :param modified: time of the original's last change, seconds since the epoch
    :param largest: its size, WIDTHxHEIGHT, where the original is too large to be rendered at its own; empty otherwise
    """

    body: bytes
    media_type: str
    etag: str
    modified: float
    largest: str = ""


@dataclass(frozen=True, slots=True)
class Served:
    """A rendition, the layer that answered, and the duration of each step.

    :param version: the entity tag of its original
    :param timings: step and seconds, in the order of execution (``Server-Timing``)
    """

    rendition: Rendition
    layer: Layer
    version: str
    timings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What the record says of the pixels; all is empty where they are not known.

    :param dhash: the difference hash, 16 hexadecimal digits
    :param thumbhash: a placeholder, about 25 bytes in base64
    :param palette: the main colours, ``#rrggbb``, the most frequent first; at most 8
    """

    dhash: str = ""
    thumbhash: str = ""
    palette: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts from the header of a picture, for the record.

    :param kind: of its format (``jpg``)
    :param width: in pixels, upright (after its orientation is applied)
    :param height: in pixels, upright
    :param frames: frames or pages, at least 1
    :param exif: camera, lens, exposure, capture time; JSON values only
    :param is_preview: whether it is the preview that a camera has put into a raw file
    :param is_damaged: whether some of it cannot be decoded
    :param summary: of its pixels, where they were decoded
    """

    kind: str
    media_type: str
    width: int
    height: int
    frames: int
    exif: dict[str, object]
    is_preview: bool = False
    is_damaged: bool = False
    summary: Summary = Summary()
