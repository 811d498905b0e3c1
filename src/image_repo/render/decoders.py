"""Opening a picture: one decoder for the format that its bytes are, never a choice among many.

The decoders are named here one by one. Nothing that Pillow, or another library by
registering itself there, can also read is reachable: no EPS, PDF, PSD, FITS or SVG.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, BinaryIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from image_repo.config import RenderConfiguration
from image_repo.errors import BadParameter, BrokenPicture, NotAPicture, OverBudget, Problem
from image_repo.render import headers
from image_repo.render.colour import ADOBE_RGB
from image_repo.render.exif import Exif
from image_repo.render.geometry import SIDEWAYS, Size

# Pixels are counted against our own budget, from the header; Pillow would warn, or refuse by another.
Image.MAX_IMAGE_PIXELS = None
# A colour profile may be larger than a text ever is; what all of them unpack to stays small.
PngImagePlugin.MAX_TEXT_CHUNK = 4 << 20
PngImagePlugin.MAX_TEXT_MEMORY = headers.MOST_METADATA
# libtiff writes to standard error what it dislikes in a file; its return codes say the same.
with suppress(OSError, AttributeError):
    ctypes.CDLL(import_module("PIL._imaging").__file__).TIFFSetErrorHandler(None)
# What Pillow thinks of damaged metadata is nothing that a log should fill with.
warnings.filterwarnings("ignore", module=r"PIL\.")


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """One JPEG: the plugin's own opener also opens the further pictures of an MPO file."""

    def _read_dpi_from_exif(self) -> None:
        """Nothing: the density is of no use here, and looking for it loads every tag."""


Opener = Callable[[BinaryIO], ImageFile.ImageFile]

_OPENERS: dict[str, Opener] = {
    "jpg": _Jpeg,
    "png": PngImagePlugin.PngImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tif": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}
#: the kind of a working copy, which no file has
COPY = "copy"
#: JPEG 2000 without loss takes 0.22 µs a pixel to decode, thirty times a JPEG: this many, 9 s
MOST_JP2_PIXELS = 40_000_000
#: formats of which ``page=`` may choose another picture than the first
PAGED = frozenset(("gif", "webp", "avif", "tif"))


@contextmanager
def the_door() -> Iterator[None]:
    """Whatever a decoder raises is a broken picture; the reason goes along for the log.

    :raises BrokenPicture: instead of anything that is no problem of ours yet
    """
    try:
        yield
    except Problem:
        raise
    except MemoryError as error:
        raise OverBudget("There is not enough memory for this picture.") from error
    except (Exception, Image.DecompressionBombWarning) as error:
        raise BrokenPicture("The bytes cannot be decoded to the end.") from error


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened picture, nothing decoded yet.

    :param stored: width and height as the decoder gives them
    :param orientation: what is still to be done to it, as in EXIF
    :param frame_pixels: of its largest frame
    """

    image: Image.Image
    kind: str
    stored: Size
    frames: int
    orientation: int
    exif: Exif
    frame_pixels: int

    @property
    def upright(self) -> Size:
        """Width and height as a person sees them."""
        return self.stored[::-1] if self.orientation in SIDEWAYS else self.stored

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of its colours, None for sRGB."""
        embedded = self.image.info.get("icc_profile")
        if isinstance(embedded, bytes) and embedded:
            return embedded
        return ADOBE_RGB if self.exif.is_adobe_rgb and self.image.mode == "RGB" else None

    def turn_to(self, page: int) -> Picture:
        """The same file at another frame or page, from 1.

        :raises BadParameter: where there are not so many
        """
        if page > self.frames:
            count = f"{self.frames} pages" if self.frames > 1 else "one page"
            raise BadParameter("page", f"Expected page to be at most {self.frames}: the picture has {count}.")
        if page == 1:
            return self
        self.image.seek(page - 1)
        return replace(self, stored=self.image.size)


def open_picture(source: BinaryIO, limits: RenderConfiguration) -> Picture:
    """Opens a file whose header is within the budgets.

    :raises NotAPicture: when it is no format that is read here
    :raises BrokenPicture: when its header makes no sense
    :raises OverBudget: when it is too much of anything
    """
    data = headers.view(source)
    header = headers.read(data, limits)
    source.seek(0)
    image = (_OPENERS.get(header.kind) or _heif_opener())(source)
    headers.check_pixels(*image.size, limits)
    if header.kind == "jp2" and image.width * image.height > MOST_JP2_PIXELS:
        raise OverBudget(f"JPEG 2000 pictures of more than {MOST_JP2_PIXELS} pixels are not rendered.")
    if len(image.getbands()) > 5:
        raise OverBudget("Pictures of more than 5 bands are not rendered.")
    block = header.exif or memoryview(image.info.get("exif") or b"")
    exif = Exif.read(block)
    frames = header.frames or (getattr(image, "n_frames", 1) if header.kind in PAGED else 1)
    # TIFF and HEIF decoders turn the picture upright by themselves
    orientation = 1 if header.kind in ("tif", "heic") else exif.orientation
    pixels = header.canvas or image.width * image.height
    return Picture(image, header.kind, image.size, frames, orientation, exif, pixels)


def _heif_opener() -> Opener:
    try:
        plugin: Any = import_module("pillow_heif")
    except ImportError as error:
        raise NotAPicture("HEIC is read where the extra is installed: pip install image_repo[heif]") from error
    opener: Opener = plugin.HeifImageFile
    return opener


def decode_all(picture: Picture, limits: RenderConfiguration) -> None:
    """Decodes everything, so that a truncated or damaged file is found.

    Of a JPEG, which has to be read to its end for that, only every eighth line and column is
    worked out. Of an animation or pages over the budget, the first one.
    """
    image = picture.image
    if picture.kind == "jpg":
        image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
    image.load()
    pixels = picture.frame_pixels
    if picture.frames > limits.max_frames or picture.frames * pixels > limits.max_frame_pixels:
        return
    for page in range(1, picture.frames):
        image.seek(page)
        headers.check_pixels(*image.size, limits)
        pixels += image.width * image.height
        if pixels > limits.max_frame_pixels:
            return
        image.load()
