"""The bytes of a working copy::

    "image_repo copy 2\\n"  mode (4 bytes)  packed (1)  width, height (2 each)  lengths of note and profile (4 each)
    note (EXIF)  profile (ICC)  pixels

Its pixels stand there row by row as they are, so that reading them costs next to nothing: every codec takes many times
as long as what is then done with them. Where it is sent over a network, they are packed without loss, as WebP: a third
to a half of the size.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, WebPImagePlugin

from image_repo.errors import BrokenPicture

#: what they are kept as
MEDIA_TYPE = "application/vnd.image-repo.copy"
#: the modes that there are, and their bytes a pixel
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
#: more than any has: what claims more is not unpacked
MOST_PIXELS = 1 << 20
_MAGIC = b"image_repo copy 2\n"
#: bytes that are read at a time
_STRIP = 1 << 20
_HEAD = struct.Struct(f">{len(_MAGIC)}s4s?HHII")


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A working copy.

    :param image: in one of :data:`MODES`
    :param note: what has to be known of the original, an EXIF block
    :param profile: of its colours (ICC), empty for sRGB
    """

    image: Image.Image
    note: bytes
    profile: bytes

    def write(self, *, packed: bool = False) -> bytes:
        """Its bytes."""
        image = self.image
        head = _HEAD.pack(_MAGIC, image.mode.encode(), packed, *image.size, len(self.note), len(self.profile))
        return b"".join((head, self.note, self.profile, _packed(image) if packed else image.tobytes()))

    @classmethod
    def read(cls, source: BinaryIO) -> CopyFile:
        """Reads what :meth:`write` wrote, from its present position to its end.

        :raises BrokenPicture: when it is something else
        """
        magic, mode, packed, width, height, *sizes = _HEAD.unpack(source.read(_HEAD.size))
        mode = mode.rstrip(b"\0").decode()
        if magic != _MAGIC or mode not in MODES or width * height > MOST_PIXELS:
            raise BrokenPicture("This is no working copy.")
        note, profile = (source.read(size) for size in sizes)
        return cls((_unpacked if packed else _strips)(source, mode, (width, height)), note, profile)


def _strips(source: BinaryIO, mode: str, size: tuple[int, int]) -> Image.Image:
    """Pixels as they are, a few rows at a time: so they are never held twice, and memory does not fall to pieces."""
    width, height = size
    image = Image.new(mode, size, None)
    row = width * MODES[mode]
    rows = max(1, _STRIP // row)
    for top in range(0, height, rows):
        strip = width, min(rows, height - top)
        image.paste(Image.frombytes(mode, strip, source.read(row * strip[1])), (0, top))
    if source.read(1):
        raise BrokenPicture("This is no working copy.")
    return image


def _unpacked(source: BinaryIO, mode: str, size: tuple[int, int]) -> Image.Image:
    packed = WebPImagePlugin.WebPImageFile(io.BytesIO(source.read()))
    if packed.size != size or packed.n_frames != 1:  # what it claims was judged, what it holds may be a bomb
        raise BrokenPicture("This is no working copy.")
    return packed.convert(mode)


def _packed(image: Image.Image) -> bytes:
    file = io.BytesIO()
    # The format knows no grey; it comes back exactly all the same.
    plain = image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB")
    plain.save(file, "WEBP", lossless=True, exact=True, quality=0, method=0)
    return file.getvalue()
