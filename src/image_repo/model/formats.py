"""The picture formats: their names, file endings, and capabilities.

One table for names (endings that are not part of a name), recipes (kinds that can be requested), and the renderer
(decoders that may be used).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A picture format.

    :param kind: the value of ``kind=`` and the ending of what is written (``jpg``)
    :param pillow: Pillow's name (``JPEG``)
    :param media_type: RFC 6838 media type
    :param endings: known file endings, lower case, without the dot
    :param writes: whether it can be requested with ``kind=``
    :param alpha: whether what is written can be transparent
    :param animated: whether ``animate=True`` has an effect
    :param quality: whether it has a quality
    """

    kind: str
    pillow: str
    media_type: str
    endings: tuple[str, ...]
    writes: bool = True
    alpha: bool = False
    animated: bool = False
    quality: bool = False


FORMATS: tuple[Format, ...] = (
    Format("jpg", "JPEG", "image/jpeg", ("jpg", "jpeg", "jpe", "jfif"), quality=True),
    Format("png", "PNG", "image/png", ("png",), alpha=True),
    Format("webp", "WEBP", "image/webp", ("webp",), alpha=True, animated=True, quality=True),
    Format("avif", "AVIF", "image/avif", ("avif", "avifs"), alpha=True, quality=True),
    Format("tif", "TIFF", "image/tiff", ("tif", "tiff"), alpha=True),
    Format("gif", "GIF", "image/gif", ("gif",), alpha=True, animated=True),
    Format("jp2", "JPEG2000", "image/jp2", ("jp2", "j2k", "jpx", "jpf", "j2c"), alpha=True, quality=True),
    Format("bmp", "BMP", "image/bmp", ("bmp", "dib"), writes=False),
    Format("heic", "HEIF", "image/heic", ("heic", "heif", "hif"), writes=False),
    # Camera raw data: rendered from the embedded preview.
    Format("raw", "JPEG", "image/x-raw", ("dng", "nef", "cr2", "cr3", "arw", "orf", "rw2", "raf", "pef"), writes=False),
    # Only its ending is known, so that a name is read the same way from any source: there is no decoder with wheels
    # under a permissive licence.
    Format("jxl", "JXL", "image/jxl", ("jxl",), writes=False),
)

#: not pictures but facts about one, made of it like a small rendition
SUMMARIES: tuple[Format, ...] = (
    Format("thumbhash", "", "application/json", (), alpha=True),
    Format("palette", "", "application/json", (), alpha=True),
)
#: pixels of the box from which a summary is made, on a side
SUMMARY_SIDE_PX = 100

#: kind → format
BY_KIND = {f.kind: f for f in (*FORMATS, *SUMMARIES)}
#: ending, lower case, without the dot → format
BY_ENDING = {ending: f for f in FORMATS for ending in f.endings}
#: the same endings with their dot, as in keys
ENDINGS = frozenset(f".{ending}" for ending in BY_ENDING)
#: media type → kind of what browsers show
SHOWN_BY_BROWSERS = {BY_KIND[kind].media_type: kind for kind in ("jpg", "png", "webp", "avif", "gif")}
#: the values of ``kind=`` that are pictures, beside ``auto`` and ``original``
WRITABLE = tuple(f.kind for f in FORMATS if f.writes)
#: those that are no picture
SUMMARY_KINDS = tuple(f.kind for f in SUMMARIES)


def split_ending(text: str) -> tuple[str, Format | None]:
    """Split one known image ending, in any case, from a name or key.

    >>> split_ending("a/b.JPG")[0], split_ending("a/b.tar")[0]
    ('a/b', 'a/b.tar')
    """
    stem, dot, ending = text.rpartition(".")
    format_ = BY_ENDING.get(ending.lower()) if dot and stem and not stem.endswith("/") else None
    return (stem, format_) if format_ else (text, None)


#: number of bytes that identify a format
SNIFF_BYTES = 256
_STARTS = (
    ("jpg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("gif", b"GIF87a"),
    ("gif", b"GIF89a"),
    ("tif", b"II*\0"),
    ("tif", b"MM\0*"),
    ("tif", b"II+\0"),
    ("tif", b"MM\0+"),
    ("bmp", b"BM"),
    ("raw", b"FUJIFILMCCD-RAW"),
    ("raw", b"IIRO"),
    ("raw", b"IIRS"),
    ("raw", b"MMOR"),
    ("raw", b"IIU\0"),
    ("jp2", b"\xff\x4f\xff\x51"),
    ("jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
)
_BRANDS = (
    ("avif", frozenset((b"avif", b"avis"))),
    ("raw", frozenset((b"crx ",))),
    ("heic", frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))),
)


def sniff_kind(begin: bytes) -> str | None:
    """Return the kind of a picture from its first :data:`SNIFF_BYTES` bytes, None for an unknown format."""
    kind = next((kind for kind, start in _STARTS if begin.startswith(start)), None)
    if kind is None and begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return "webp"
    if kind is None and _is_dib(begin):
        return "bmp"
    if kind is None and begin[4:8] == b"ftyp":
        size = min(int.from_bytes(begin[:4], "big"), SNIFF_BYTES)
        # the main brand, its version, and the compatible brands (ISO/IEC 14496-12)
        brands = {begin[at : at + 4] for at in range(8, size, 4) if at != 12}
        return next((kind for kind, known in _BRANDS if brands & known), None)
    return kind


def _is_dib(begin: bytes) -> bool:
    """Return whether it is a BMP without its file header: a known length of the header, one plane, bits of a pixel."""
    length, planes, bits = (
        int.from_bytes(begin[place : place + size], "little") for place, size in ((0, 4), (12, 2), (14, 2))
    )
    return length in (40, 52, 56, 108, 124) and planes == 1 and bits in (1, 4, 8, 16, 24, 32)
