"""What is served: bytes that never change, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: who answered: a tier of the caches, the container itself, or the renderer
Layer = Literal["memory", "disk", "cache", "origin", "rendered"]


@dataclass(frozen=True, slots=True)
class Rendition:
    """Bytes to serve. Frozen, because many threads hold the same one.

    :param etag: strong entity tag without its quotes; a function of the key alone
    :param modified: when the original was last changed, seconds since the epoch
    """

    body: bytes
    media_type: str
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class Served:
    """A rendition, the layer that answered, and how long the steps took.

    :param version: the entity tag of the original that it was made from
    :param timings: step → seconds, in the order in which they were done (``Server-Timing``)
    """

    rendition: Rendition
    layer: Layer
    version: str
    timings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of a picture tells, and what is kept of it in the record.

    :param kind: our word for its format (``jpg``)
    :param width: in pixels, upright (after its orientation is applied)
    :param height: in pixels, upright
    :param frames: frames or pages, at least 1
    :param exif: camera, lens, exposure, capture time; JSON values only
    :param is_preview: whether it is the preview that a camera has put into a raw file
    :param is_damaged: whether some of it cannot be decoded
    """

    kind: str
    media_type: str
    width: int
    height: int
    frames: int
    exif: dict[str, object]
    is_preview: bool = False
    is_damaged: bool = False
