"""Opening a picture: one decoder for the format that its bytes are, never a choice among many.

The decoders are named here one by one. Nothing that Pillow, or another library by
registering itself there, can also read is reachable: no EPS, PDF, PSD, FITS or SVG.
"""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image, Jpeg2KImagePlugin, WebPImagePlugin

from image_repo.config import RenderConfiguration
from image_repo.errors import BadParameter, BrokenPicture, OverBudget, Problem, UnsupportedPicture
from image_repo.render import headers, jpeg2000
from image_repo.render.bmp import open_bmp
from image_repo.render.boxes import Aperture
from image_repo.render.colour import ADOBE_RGB
from image_repo.render.exif import Exif
from image_repo.render.geometry import SIDEWAYS, Size
from image_repo.render.gif import GifFile
from image_repo.render.headers import Header
from image_repo.render.ifd import Block
from image_repo.render.jpeg import JpegFile
from image_repo.render.png import PngFile
from image_repo.render.raw import check_preview, extract_preview
from image_repo.render.tiff import TiffPage, open_tiff
from image_repo.render.tolerant import DECODER_ERRORS, TolerantFile

log = logging.getLogger(__name__)

#: JPEG 2000 without loss takes 0.22 µs a pixel to decode, thirty times a JPEG: this many, 9 s
MOST_JP2_PIXELS = 40_000_000
#: of the imaging library, in memory
_PIXEL_BYTES = 4
#: formats of which ``page=`` may choose another picture than the first
PAGED = frozenset(("gif", "webp", "avif", "tif", "png"))


class _WebpFile(TolerantFile, WebPImagePlugin.WebPImageFile):
    """A WebP."""


class _Jp2File(TolerantFile, Jpeg2KImagePlugin.Jpeg2KImageFile):
    """A JPEG 2000 file that the imaging library decodes right."""


class _AvifFile(TolerantFile, AvifImagePlugin.AvifImageFile):
    """An AVIF, cut to its clean aperture: what lies outside of it is not decoded.

    :param aperture: None for all of it
    """

    def __init__(self, source: BinaryIO, aperture: Aperture | None) -> None:
        super().__init__(source)
        self._coded = self.size
        self._aperture = aperture
        if aperture:
            self._size = (aperture[2] - aperture[0], aperture[3] - aperture[1])

    def load(self) -> Any:
        """Decode."""
        if not self.tile or self._aperture is None:
            return super().load()
        cropped, self._size = self.size, self._coded
        self.tile = [self.tile[0]._replace(extents=(0, 0, *self._coded))]
        self._im = None
        try:
            super().load()
        finally:
            self._size = cropped
        self.im = self._crop(self.im, self._aperture)
        return Image.Image.load(self)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn what a decoder raises into a problem, and write the decoder's own words to the log.

    :raises BrokenPicture: instead of anything that is no problem of ours yet
    """
    try:
        yield
    except (BrokenPicture, UnsupportedPicture) as problem:
        if problem.__cause__:
            log.warning("%s (%r)", problem.detail, problem.__cause__)
        raise
    except Problem:
        raise
    except MemoryError as error:
        log.warning("not enough memory to decode a picture")
        raise OverBudget("There is not enough memory for this picture.") from error
    except (Exception, Image.DecompressionBombWarning) as error:
        log.warning("a picture cannot be decoded: %r", error)
        raise BrokenPicture("The bytes cannot be decoded to the end.") from error


@dataclass(frozen=True, slots=True)
class Picture:
    """An opened picture, nothing decoded yet.

    :param stored: width and height as the decoder gives them
    :param orientation: what is still to be done to it, as in EXIF
    :param frame_pixels: of its largest frame
    :param scale: by how much it is decoded smaller at least, on each side
    """

    image: Image.Image
    kind: str
    stored: Size
    frames: int
    orientation: int
    exif: Exif
    frame_pixels: int
    scale: int = 1

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

    @property
    def is_damaged(self) -> bool:
        """Whether something of it could not be decoded, as far as it has been decoded."""
        return getattr(self.image, "is_damaged", False)


def open_picture(source: BinaryIO, limits: RenderConfiguration, page: int = 1) -> Picture:
    """Open a file whose header is within the budgets.

    :param page: frame or page, from 1
    :raises NotAPicture: when it is no format that is read here
    :raises UnsupportedPicture: when it is sound, but of a kind that is not read here
    :raises BrokenPicture: when its header makes no sense
    :raises OverBudget: when it is too much of anything
    :raises BadParameter: where there are not so many pages
    """
    data = headers.view(source)
    header = headers.read(data, limits)
    source.seek(0)
    opened = _OPENERS[header.kind](_File(source, data, header, limits, page))
    image = opened.image
    if isinstance(image, TolerantFile):
        image.accepts_damage = limits.accept_damaged
    stored = opened.stored or image.size
    headers.check_pixels(*stored, limits, is_scalable=header.is_scalable)
    if len(image.getbands()) > 5:
        raise OverBudget("Pictures of more than 5 bands are not rendered.")
    frames = header.frames or (getattr(image, "n_frames", 1) if header.kind in PAGED else 1)
    if page > frames:
        count = f"{frames} pages" if frames > 1 else "one page"
        raise BadParameter("page", f"Expected page to be at most {frames}: the picture has {count}.")
    if page > 1 and header.kind != "tif":
        image.seek(page - 1)
    if header.kind == "png" and header.cicp.is_known:
        image.info.pop("icc_profile", None)
    if header.cicp.profile and not image.info.get("icc_profile"):
        image.info["icc_profile"] = header.cicp.profile
    exif = Exif.read(header.exif or memoryview(image.info.get("exif") or b""))
    orientation = exif.orientation if opened.orientation is None else opened.orientation
    pixels = header.canvas or stored[0] * stored[1]
    scale = least_scale(stored, limits, header.held_bytes)
    return Picture(image, header.kind, stored, frames, orientation, exif, pixels, scale)


def least_scale(size: Size, limits: RenderConfiguration, held_bytes: int = 0) -> int:
    """Return by how much a picture has to be decoded smaller, on each side, to fit into memory: 1, 2, 4 or 8.

    :param held_bytes: what its decoder holds in memory beside the picture
    :raises OverBudget: where that alone is too much
    """
    most_bytes = limits.max_pixels * _PIXEL_BYTES
    picture_bytes = size[0] * size[1] * _PIXEL_BYTES
    for scale in (1, 2, 4, 8):
        if held_bytes + picture_bytes // scale**2 <= most_bytes:
            return scale
    raise OverBudget(
        f"This progressive JPEG has {size[0]}x{size[1]} pixels, and its decoder holds {held_bytes} bytes for them. "
        "Send a sequential JPEG, or allow more in the configuration with render.max_pixels."
    )


@dataclass(frozen=True, slots=True)
class _File:
    """What there is to open."""

    source: BinaryIO
    data: memoryview
    header: Header
    limits: RenderConfiguration
    page: int


@dataclass(frozen=True, slots=True)
class _Opened:
    """A picture.

    :param orientation: where its EXIF block does not say it
    :param stored: its size, where the image is smaller
    """

    image: Image.Image
    orientation: int | None = None
    stored: Size | None = None


def _open_tiff(file: _File) -> _Opened:
    block = Block(file.data)
    directory = next(itertools.islice(block.chain(), file.page - 1, None), None)
    if directory is None:
        return _open_tiff(_File(file.source, file.data, file.header, file.limits, 1))
    page = TiffPage(block, directory)
    orientation = page.integer(274, 1)
    headers.check_pixels(*page.size, file.limits, is_scalable=page.is_tiled)
    image = open_tiff(file.source, page, file.page, least_scale(page.size, file.limits))
    return _Opened(image, orientation if 1 <= orientation <= 8 else 1, page.size)


def _open_jp2(file: _File) -> _Opened:
    header = file.header.jp2
    assert header is not None
    jpeg2000.check_colour(header)
    if header.size[0] * header.size[1] > MOST_JP2_PIXELS:
        raise OverBudget(f"JPEG 2000 pictures of more than {MOST_JP2_PIXELS} pixels are not rendered. Send a JPEG.")
    image = (
        _Jp2File(file.source)
        if jpeg2000.is_for_library(header)
        else jpeg2000.open_deep(file.data, header, accepts_damage=file.limits.accept_damaged)
    )
    if header.profile:
        image.info["icc_profile"] = header.profile
    return _Opened(image)


def _open_bmp(file: _File) -> _Opened:
    try:
        return _Opened(open_bmp(file.source, file.data))
    except OSError as error:
        if "nsupported" not in str(error):
            raise
        raise UnsupportedPicture("This kind of BMP is not read here. Convert it to 24 bits, or to PNG.") from error


def _open_heic(file: _File) -> _Opened:
    try:
        plugin: Any = import_module("pillow_heif")
    except ImportError as error:
        raise UnsupportedPicture("HEIC is read where the extra is installed: pip install image_repo[heif]") from error
    return _Opened(plugin.HeifImageFile(file.source), 1)  # libheif turns it upright


def _open_raw(file: _File) -> _Opened:
    preview = extract_preview(file.source)
    header = headers.read(memoryview(preview.jpeg), file.limits)
    image = JpegFile(io.BytesIO(preview.jpeg))
    check_preview(image.size, preview.full)
    return _Opened(image, Exif.read(header.exif).orientation if header.exif else preview.orientation)


_OPENERS: dict[str, Callable[[_File], _Opened]] = {
    "jpg": lambda file: _Opened(JpegFile(file.source, file.data if file.header.lacks_end else None)),
    "png": lambda file: _Opened(PngFile(file.source, file.header.depth)),
    "gif": lambda file: _Opened(GifFile(file.source)),
    "webp": lambda file: _Opened(_WebpFile(file.source)),
    "tif": _open_tiff,
    "bmp": _open_bmp,
    "jp2": _open_jp2,
    "avif": lambda file: _Opened(_AvifFile(file.source, file.header.aperture)),
    "heic": _open_heic,
    "raw": _open_raw,
}


def decode_first(picture: Picture) -> None:
    """Decode the first frame, so that a truncated or damaged file is found.

    Of a JPEG, which has to be read to its end for that, only every eighth line and column is worked out.
    """
    draft(picture, 8)
    picture.image.load()


def decode_rest(picture: Picture, limits: RenderConfiguration) -> bool:
    """Decode all frames after the first one; return whether the picture is whole.

    Of an animation over the budget, the first frame; of the pages of a TIFF and the
    frames of a PNG the first too, which is what readers that know no others show: a fault of
    a later one is a problem of requests for that.
    """
    image, pixels = picture.image, picture.frame_pixels
    if picture.kind in ("tif", "png") or picture.frames > limits.max_frames:
        return not picture.is_damaged
    if picture.frames * pixels > limits.max_frame_pixels:
        return not picture.is_damaged
    try:
        for page in range(1, picture.frames):
            image.seek(page)
            headers.check_pixels(*image.size, limits)
            pixels += image.width * image.height
            if pixels > limits.max_frame_pixels:
                break
            image.load()
    except DECODER_ERRORS:
        if not limits.accept_damaged:
            raise
        return False
    return not picture.is_damaged


def scales_cheaply(picture: Picture) -> bool:
    """Return whether its decoder does much less for a smaller picture: that of a sequential JPEG.

    Measured for 24 megapixels at 1/8 and 1/4: 54 and 57 ms sequential, 220 and 221 ms progressive.
    """
    return isinstance(picture.image, JpegFile) and "progressive" not in picture.image.info


def draft(picture: Picture, most: float) -> None:
    """Have a JPEG decoded smaller, by no more than this where memory allows: its decoder knows 2, 4 and 8."""
    image, most = picture.image, max(most, picture.scale)
    if isinstance(image, JpegFile) and most >= 2:
        scale = next(s for s in (8, 4, 2) if s <= most)
        image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
