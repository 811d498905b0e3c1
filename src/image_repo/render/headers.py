"""What the header of a file says, before any decoder sees it: format, size, frames, scans, metadata.

Bombs are found here. A file may declare a picture of a terapixel, a hundred thousand
frames, nine hundred progressive scans or a gigabyte of comments in a few bytes; walking
over the lengths that it declares costs next to nothing, and nothing is unpacked.

Sources: ITU-T T.81 annex B (JPEG), W3C PNG, GIF89a, RFC 9649 (WebP), TIFF 6.0, ISO/IEC 14496-12 (ftyp).
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, NotAPicture, OverBudget, UnsupportedPicture
from image_repo.model import formats
from image_repo.render.boxes import Aperture, Jp2Header, read_jp2, read_primary_item
from image_repo.render.cicp import Cicp
from image_repo.render.ifd import Block
from image_repo.render.raw import is_raw

#: bytes of segments, chunks and tags other than pixels; colour profiles and previews fit many times
MOST_METADATA = 16 << 20
#: of comments in a GIF: the decoder joins their pieces one by one, which takes the square of their length
_MOST_GIF_COMMENTS = 1 << 20
_MOST_PARTS = 200_000
#: of a file that is read rather than mapped
_MOST_READ = 8 << 20
_MOST_JUNK = 1 << 16
_EOI = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a file without decoding it.

    :param width: as stored, in pixels; 0 where only a decoder can tell
    :param frames: frames or pages, at least 1; 0 where only a decoder can tell
    :param exif: the body of its EXIF block, from the byte order on
    :param canvas: pixels of the largest frame, 0 where all are of one size
    :param depth: bits of a sample, 0 where nobody needs to know
    :param cicp: its colours, where they are said by numbers
    :param aperture: the part of it that is shown; None for all of it
    :param lacks_end: whether it is a JPEG without its EOI marker
    :param is_scalable: whether it can be decoded smaller or part by part, never whole in memory
    :param held_bytes: what its decoder holds in memory beside the picture, at any size
    :param jp2: the header of a JPEG 2000 file
    """

    kind: str
    width: int = 0
    height: int = 0
    frames: int = 1
    exif: memoryview = memoryview(b"")
    canvas: int = 0
    depth: int = 0
    cicp: Cicp = Cicp()
    aperture: Aperture | None = None
    lacks_end: bool = False
    is_scalable: bool = False
    held_bytes: int = 0
    jp2: Jp2Header | None = None


def view(source: BinaryIO) -> memoryview:
    """Return all bytes of a file: mapped where it is large and on a disk."""
    if isinstance(source, io.BytesIO):
        # not getbuffer(): its owner could not close it while a problem's traceback holds the view
        return memoryview(source.getvalue())
    size = source.seek(0, io.SEEK_END)
    if size > _MOST_READ:
        # fileno() moves a spooled file to a disk, so it is called only when the file is there
        try:
            source.flush()
            return memoryview(mmap.mmap(source.fileno(), size, access=mmap.ACCESS_READ))
        except (AttributeError, OSError, ValueError):
            pass  # no file of the operating system
    source.seek(0)
    return memoryview(source.read())


def sniff(data: memoryview) -> str:
    """Return the kind of a picture by its first bytes; what a sender calls it does not matter.

    :raises NotAPicture: when it is none that is read here
    """
    kind = formats.sniff_kind(bytes(data[: formats.SNIFF_BYTES]))
    if kind is None:
        raise NotAPicture("Its first bytes are those of no format that is read here.")
    return kind


def read(data: memoryview, limits: RenderConfiguration) -> Header:
    """Read the header and compare it with the budgets.

    :raises NotAPicture: when it is no format that is read here
    :raises BrokenPicture: when the header makes no sense
    :raises OverBudget: for too many pixels, scans, or bytes of metadata
    """
    kind = sniff(data)
    if len(data) > limits.max_source:
        raise OverBudget(
            f"Originals of more than {limits.max_source} bytes are not rendered. The configuration allows more with "
            "render.max_source."
        )
    reader = _READERS.get(kind)
    try:
        header = reader(data, limits) if reader else Header(kind, frames=0)
    except (ValueError, struct.error, IndexError) as error:
        raise BrokenPicture(f"The header of the {kind} file makes no sense.") from error
    check_pixels(header.width, header.height, limits, is_scalable=header.is_scalable)
    return header


def check_pixels(width: int, height: int, limits: RenderConfiguration, *, is_scalable: bool = False) -> None:
    """Refuse a picture that is too large to decode.

    :param is_scalable: whether it is decoded smaller or part by part
    :raises OverBudget: saying how large it is and may be
    """
    most, setting = limits.max_pixels, "render.max_pixels"
    if is_scalable and limits.max_scaled_pixels > most:
        most, setting = limits.max_scaled_pixels, "render.max_scaled_pixels"
    if width * height > most:
        raise OverBudget(
            f"The picture has {width}x{height} pixels; at most {most} are rendered. The configuration allows more "
            f"with {setting}."
        )


def _check_metadata(size: int) -> None:
    if size > MOST_METADATA:
        raise OverBudget(f"The picture carries more than {MOST_METADATA} bytes of metadata.")


# -- JPEG ------------------------------------------------------------------------------

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
#: baseline, extended, progressive; the last two with arithmetic coding as well
_SUPPORTED_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
#: not stuffing, fill bytes, restarts or the start: what has a length, or ends the picture
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


def jpeg_segments(data: memoryview, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment's payload, up to the first scan's and including it."""
    while match := _MARKER.search(data, at):
        marker, at = data[match.start() + 1], match.start()
        if marker == 0xD9 or at + 4 > len(data):
            return
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        yield marker, at + 4, end
        if marker == 0xDA:
            return
        at = max(end, at + 4)


def _read_jpeg(data: memoryview, limits: RenderConfiguration) -> Header:
    width = height = bands = metadata = coefficients = 0
    progressive = lacks_end = is_scalable = False
    exif = memoryview(b"")
    for marker, start, end in jpeg_segments(data, 2):
        if marker in _FRAMES:
            _check_frame(marker, data[start])
            height, width, bands = struct.unpack_from(">HHB", data, start + 1)
            progressive = marker in _PROGRESSIVE
            coefficients = _coefficient_bytes(data[start + 6 : start + 6 + 3 * bands], width * height)
        elif marker == 0xE1 and not exif and bytes(data[start : start + 6]) == b"Exif\0\0":
            exif = data[start + 6 : end]
        elif marker == 0xDA:
            # one scan that holds all bands ends a sequential picture: no further one is read
            is_scalable = not progressive and data[start] >= bands
            if not is_scalable:
                _check_scans(data, start, limits)
            lacks_end = _lacks_end(data, start)
            break
        metadata += end - start
        _check_metadata(metadata)
    held = 0 if is_scalable else coefficients
    if not width or not height:
        raise BrokenPicture("The JPEG has no frame header, or one without a size.")
    return Header("jpg", width, height, 1, exif, lacks_end=lacks_end, is_scalable=is_scalable, held_bytes=held)


def _coefficient_bytes(components: memoryview, pixels: int) -> int:
    """Return what a decoder holds of a JPEG of several scans: two bytes for each sample.

    :param components: three bytes each: identity, factors of subsampling, table
    """
    factors = [(value >> 4) * (value & 15) for value in components[1::3]]
    largest = max(factors, default=0)
    return 2 * pixels * sum(factors) // largest if largest else 0


def _check_frame(marker: int, bits: int) -> None:
    if marker not in _SUPPORTED_FRAMES:
        raise UnsupportedPicture("Lossless and hierarchical JPEG are not read here. Convert it to a baseline JPEG.")
    if bits in (12, 16):
        raise UnsupportedPicture(f"JPEG of {bits} bits is not read here. Convert it to 8 bits.")


def _lacks_end(data: memoryview, scan: int) -> bool:
    """Return whether there is no EOI marker.

    :param scan: where the first scan begins; thumbnails before it have ends of their own
    """
    # Nearly every file ends with it, perhaps with padding behind.
    return _EOI not in bytes(data[max(scan, len(data) - 64) :]) and not any(
        _EOI in bytes(data[at : at + _STRIDE + 1]) for at in range(scan, len(data), _STRIDE)
    )


def _check_scans(data: memoryview, start: int, limits: RenderConfiguration) -> None:
    # Counting the two bytes is an upper bound at the speed of memory; only a file that
    # exceeds it is walked segment by segment.
    bound = sum(bytes(data[n : n + _STRIDE + 1]).count(b"\xff\xda") for n in range(start, len(data), _STRIDE))
    if bound >= limits.max_scans and _count_scans(data, start, limits.max_scans) > limits.max_scans:
        raise OverBudget(
            f"The JPEG has more than {limits.max_scans} scans. The configuration allows more with render.max_scans."
        )


_STRIDE = 1 << 20


def _count_scans(data: memoryview, at: int, most: int) -> int:
    count = 1
    while count <= most:
        for marker, _, end in jpeg_segments(data, at):
            if marker == 0xDA:
                count += 1
                at = end
                break
        else:
            return count
    return count


# -- PNG, GIF, WebP, TIFF --------------------------------------------------------------


def _read_png(data: memoryview, _: RenderConfiguration) -> Header:
    width, height, depth = struct.unpack_from(">IIB", data, 16)
    exif, cicp, frames, metadata, at, parts = memoryview(b""), Cicp(), 1, 0, 8, 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if kind == b"eXIf":
            exif = body
        elif kind == b"cICP" and len(body) == 4:
            cicp = Cicp(body[0], body[1])
        elif kind == b"acTL" and len(body) == 8:
            frames = 0
        if kind not in (b"IDAT", b"fdAT"):
            metadata += min(size, len(data) - at)
            _check_metadata(metadata)
        at, parts = at + 12 + size, parts + 1
        if parts > _MOST_PARTS:
            raise OverBudget("The PNG is cut into too many chunks.")
    if not width or not height or bytes(data[12:16]) != b"IHDR":
        raise BrokenPicture("The PNG has no header, or one without a size.")
    return Header("png", width, height, frames, exif, depth=depth, cicp=cicp)


def _read_gif(data: memoryview, limits: RenderConfiguration) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette(flags)
    frames = comments = junk = 0
    canvas = width, height
    while at < len(data) and frames <= _MOST_PARTS:
        block = data[at]
        if block == 0x2C and at + 10 < len(data):
            left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
            # the decoder lets the canvas grow to what a frame needs
            canvas = max(canvas[0], left + w), max(canvas[1], top + h)
            check_pixels(*canvas, limits)
            width, height = (width, height) if frames else canvas
            frames += 1
            at = _skip_blocks(data, at + 11 + _palette(flags))
        elif block == 0x21 and at + 1 < len(data):
            end = _skip_blocks(data, at + 2)
            comments += (end - at) if data[at + 1] == 0xFE else 0
            if comments > _MOST_GIF_COMMENTS:
                raise OverBudget(f"The GIF holds more than {_MOST_GIF_COMMENTS} bytes of comments.")
            at = end
        elif block == 0x3B:
            break
        else:
            at, junk = at + 1, junk + 1
            if junk > _MOST_JUNK:
                raise BrokenPicture("The GIF holds bytes that belong to no block.")
    if not frames or not width or not height:
        raise BrokenPicture("The GIF has no frame.")
    return Header("gif", width, height, frames, canvas=canvas[0] * canvas[1])


def _palette(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(data: memoryview, at: int) -> int:
    size = len(data)
    while at < size and data[at]:
        at += data[at] + 1
    return at + 1


def _read_webp(data: memoryview, _: RenderConfiguration) -> Header:
    width = height = frames = metadata = 0
    exif = memoryview(b"")
    at, parts = 12, 0
    while at + 8 <= len(data) and parts < _MOST_PARTS:
        kind, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if kind == b"ANMF":
            frames += 1
        elif kind in (b"VP8X", b"VP8 ", b"VP8L"):
            width, height = (width, height) if width else _webp_size(kind, body)
        elif kind != b"ALPH":
            metadata += min(size, len(data) - at)
            _check_metadata(metadata)
            if kind == b"EXIF":
                exif = body[6:] if bytes(body[:6]) == b"Exif\0\0" else body
        at, parts = at + 8 + size + (size & 1), parts + 1
    if not width or not height:
        raise BrokenPicture("The WebP has no size.")
    return Header("webp", width, height, max(1, frames), exif)


def _webp_size(kind: bytes, body: memoryview) -> tuple[int, int]:
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    bits = struct.unpack_from("<I", body, 1)[0]
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


#: tags that say where the pixels are; libtiff reads them itself
_PIXEL_TAGS = frozenset((273, 279, 324, 325, 288, 289))


def _read_tiff(data: memoryview, limits: RenderConfiguration) -> Header:
    block = Block(data)
    pages = metadata = 0
    width = height = 0
    is_tiled = False
    for directory in block.chain():
        if not pages:
            if is_raw(block, directory):
                return Header("raw", exif=data)
            width, height = block.integer(directory, 256) or 0, block.integer(directory, 257) or 0
            is_tiled = 322 in directory.entries
            bands = block.integer(directory, 277) or 1
            if bands > 5:
                raise OverBudget("Pictures of more than 5 bands are not rendered.")
        sizes = (entry.size for entry in directory.entries.values() if entry.tag not in _PIXEL_TAGS)
        metadata += sum(size for size in sizes if size <= len(data))
        _check_metadata(metadata)
        pages += 1
        if pages > limits.max_frames:
            break
    if width <= 0 or height <= 0:
        raise BrokenPicture("The TIFF has no page, or one without a size.")
    return Header("tif", width, height, pages, data, is_scalable=is_tiled)


#: HEVC, AV1
_CODINGS = frozenset((b"hvc1", b"hev1", b"av01"))


def _read_items(kind: str, data: memoryview) -> Header:
    """Read the header of AVIF or HEIC."""
    item = read_primary_item(data)
    if item.coding and item.coding not in _CODINGS:
        name = item.coding.decode("latin-1").strip()
        raise UnsupportedPicture(f"HEIF whose picture is coded as {name} is not read here: only HEVC and AV1 are.")
    width, height = item.size or (0, 0)
    return Header(kind, width, height, 0, cicp=item.cicp, aperture=item.aperture)


def _read_jp2(data: memoryview, _: RenderConfiguration) -> Header:
    header = read_jp2(data)
    return Header("jp2", *header.size, jp2=header)


_READERS: dict[str, Callable[[memoryview, RenderConfiguration], Header]] = {
    "jpg": _read_jpeg,
    "png": _read_png,
    "gif": _read_gif,
    "webp": _read_webp,
    "tif": _read_tiff,
    "avif": lambda data, _: _read_items("avif", data),
    "heic": lambda data, _: _read_items("heic", data),
    "jp2": _read_jp2,
}
