"""Camera raw files: known by their signature, and rendered from the full-size preview in them.

They look like TIFF, and what a reader of TIFF finds first is a thumbnail. DNG 1.7, TIFF/EP (ISO 12234-2), makers' notes
as ExifTool describes them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, BinaryIO

from image_repo.errors import UnsupportedPicture
from image_repo.render.ifd import Block, Directory

_NEW_SUBFILE_TYPE, _MAKE, _PHOTOMETRIC, _COMPRESSION, _SUB_DIRECTORIES, _DNG_VERSION = 254, 271, 262, 259, 330, 50706
#: of NewSubfileType: a smaller version of another picture of the file
_REDUCED = 1
#: colour filter array, linear raw
_RAW_COLOURS = frozenset((32803, 34892))
#: of Sony, Nikon (packed, twice), Samsung, Kodak (twice), Pentax
_RAW_COMPRESSIONS = frozenset((32767, 32769, 34713, 32770, 65000, 262, 65535))
_MOST_DIRECTORIES = 16
#: by how much a preview may be smaller than the picture on its long side: makers cut off a border
_LEAST_PREVIEW = 0.9
#: how LibRaw counts turns → EXIF orientation
_TURNS = {3: 3, 5: 8, 6: 6}


def is_raw(block: Block, first: Directory) -> bool:
    """Return whether a file of directories is that of a camera.

    :param first: its first directory
    """
    if _DNG_VERSION in first.entries or bytes(block.data[8:10]) == b"CR":
        return True
    if (block.integer(first, _NEW_SUBFILE_TYPE) or 0) & _REDUCED and _MAKE in first.entries:
        return True
    return any(
        block.integer(each, _PHOTOMETRIC) in _RAW_COLOURS or block.integer(each, _COMPRESSION) in _RAW_COMPRESSIONS
        for each in (*islice(block.chain(), _MOST_DIRECTORIES), *_below(block, first))
    )


def _below(block: Block, first: Directory) -> Iterator[Directory]:
    for offset in islice(block.numbers(first, _SUB_DIRECTORIES), _MOST_DIRECTORIES):
        try:
            yield block.directory(int(offset))
        except ValueError:
            continue


@dataclass(frozen=True, slots=True)
class Preview:
    """The preview in a raw file.

    :param jpeg: its bytes
    :param orientation: of the raw file, as in EXIF
    :param full: width and height of the raw picture, in pixels
    """

    jpeg: bytes
    orientation: int
    full: tuple[int, int]


def extract_preview(source: BinaryIO) -> Preview:
    """Return the full-size preview of a raw file.

    :raises UnsupportedPicture: where there is none, or the extra is not installed
    """
    try:
        rawpy: Any = import_module("rawpy")
    except ImportError as error:
        raise UnsupportedPicture(
            "This is a camera's raw file. Its full-size preview is read where the extra is installed: "
            "pip install image_repo[raw]. Otherwise send the camera's JPEG."
        ) from error
    source.seek(0)
    try:
        with rawpy.imread(io.BytesIO(source.read())) as raw:
            thumbnail = raw.extract_thumb()
            if thumbnail.format != rawpy.ThumbFormat.JPEG:
                raise UnsupportedPicture(_NO_PREVIEW)
            return Preview(bytes(thumbnail.data), _TURNS.get(raw.sizes.flip, 1), (raw.sizes.width, raw.sizes.height))
    except (rawpy.LibRawError, OSError) as error:
        raise UnsupportedPicture(_NO_PREVIEW) from error


def check_preview(size: tuple[int, int], full: tuple[int, int]) -> None:
    """Refuse a preview that is smaller than the picture.

    :param size: of the preview, in pixels
    :raises UnsupportedPicture: saying so
    """
    if max(size) < _LEAST_PREVIEW * max(full):
        raise UnsupportedPicture(f"{_NO_PREVIEW} It has one of {size[0]}x{size[1]} pixels for {full[0]}x{full[1]}.")


_NO_PREVIEW = "This is a camera's raw file that holds no preview of full size. Send the camera's JPEG."
