"""JPEG 2000 of other than 8 bits, and with a palette: decoded by OpenJPEG itself.

The imaging library makes 8 bits of a component by rounding and shifting, so that white becomes black (256 is 0), leaves
15 of 4 bits at 240, and gives equal entries of a palette one place. So OpenJPEG, the decoder in it, is called without
it: all samples come as they are, strip by strip, and are scaled here.

openjpeg.h of OpenJPEG 2.5: the structures are those of its ABI 7.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from PIL import Image

from image_repo.errors import UnsupportedPicture
from image_repo.render.boxes import Jp2Header
from image_repo.render.lazy_image import LazyImage

#: pixels that are decoded at a time: 4 bytes for each component
_STRIP = 1 << 22
_CODESTREAM, _JP2 = 0, 2
_SYCC, _PREMULTIPLIED = 3, 2
#: bytes of opj_dparameters_t are 8,268; more does no harm
_PARAMETERS = 1 << 15
_BUFFER = 1 << 20
#: EnumCS that are read: bilevel (twice), CMYK, sRGB, grey, sYCC
_COLOURS = frozenset((None, 0, 12, 15, 16, 17, 18))
_CMYK = 12


class _Component(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("dx", "dy", "w", "h", "x0", "y0", "prec", "bpp", "sgnd")),
        ("resno_decoded", ctypes.c_uint32),
        ("factor", ctypes.c_uint32),
        ("data", ctypes.POINTER(ctypes.c_int32)),
        ("alpha", ctypes.c_uint16),
    )


class _Picture(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("x0", "y0", "x1", "y1", "numcomps")),
        ("color_space", ctypes.c_int),
        ("comps", ctypes.POINTER(_Component)),
        ("icc_profile_buf", ctypes.c_void_p),
        ("icc_profile_len", ctypes.c_uint32),
    )


_READ = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_SKIP = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_SEEK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_void_p)
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "opj_stream_create": (ctypes.c_void_p, (ctypes.c_size_t, ctypes.c_int)),
    "opj_stream_set_read_function": (None, (ctypes.c_void_p, _READ)),
    "opj_stream_set_skip_function": (None, (ctypes.c_void_p, _SKIP)),
    "opj_stream_set_seek_function": (None, (ctypes.c_void_p, _SEEK)),
    "opj_stream_set_user_data": (None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
    "opj_stream_set_user_data_length": (None, (ctypes.c_void_p, ctypes.c_uint64)),
    "opj_stream_destroy": (None, (ctypes.c_void_p,)),
    "opj_create_decompress": (ctypes.c_void_p, (ctypes.c_int,)),
    "opj_set_default_decoder_parameters": (None, (ctypes.c_void_p,)),
    "opj_setup_decoder": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p)),
    "opj_decoder_set_strict_mode": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "opj_read_header": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.POINTER(_Picture)))),
    "opj_set_decode_area": (ctypes.c_int, (ctypes.c_void_p, ctypes.POINTER(_Picture), *[ctypes.c_int32] * 4)),
    "opj_decode": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(_Picture))),
    "opj_image_destroy": (None, (ctypes.POINTER(_Picture),)),
    "opj_destroy_codec": (None, (ctypes.c_void_p,)),
}


@cache
def _library() -> Any:
    """Return OpenJPEG as it lies in the imaging library.

    :raises UnsupportedPicture: where it was built in a way that hides it
    """
    try:
        library = ctypes.CDLL(import_module("PIL._imaging").__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UnsupportedPicture(
            "JPEG 2000 of other than 8 bits, or with a palette, is not read by this build of the imaging library. "
            "Convert it to 8 bits."
        ) from error
    return library


def check_colour(header: Jp2Header) -> None:
    """Refuse what is neither grey, RGB, YCC nor CMYK.

    :raises UnsupportedPicture: saying so
    """
    if header.colour not in _COLOURS:
        raise UnsupportedPicture(
            f"JPEG 2000 in the colour space {header.colour} (EnumCS) is not read here. Convert it to sRGB."
        )


def is_for_library(header: Jp2Header) -> bool:
    """Return whether the imaging library decodes it right."""
    deep_grey = len(header.bits) == 1 and 8 < header.bits[0] <= 16
    return not header.channels and not header.has_signs and (deep_grey or set(header.bits) == {8})


def open_deep(data: memoryview, header: Jp2Header, *, accepts_damage: bool) -> Image.Image:
    """Open a file whose samples are scaled here.

    :raises UnsupportedPicture: for more than CMYK or RGB and alpha, and where OpenJPEG is not at hand
    """
    _library()
    count = header.channels or len(header.bits)
    modes = {1: "L", 2: "LA", 3: "RGB", 4: "CMYK" if header.colour == _CMYK else "RGBA"}
    if count not in modes or max(header.bits) > 31:
        raise UnsupportedPicture(f"JPEG 2000 of {count} channels of {max(header.bits)} bits is not read here.")
    mode = modes[count]
    return LazyImage(mode, header.size, lambda: _decode(data, mode, header, strict=not accepts_damage))


def _decode(data: memoryview, mode: str, header: Jp2Header, *, strict: bool) -> Image.Image:
    width, height = header.size
    whole = Image.new(mode, header.size)
    step = max(64, _STRIP // width // 64 * 64)
    for top in range(0, height, step):
        with _decoded(data, (top, min(height, top + step)), strict=strict) as picture:
            whole.paste(_strip(picture, mode, (width, min(height, top + step) - top)), (0, top))
    return whole


@contextmanager
def _decoded(data: memoryview, rows: tuple[int, int], *, strict: bool) -> Iterator[_Picture]:
    """Decode some rows of a file, and destroy them at the end.

    :raises OSError: when they cannot be decoded
    """
    library = _library()
    with ExitStack() as stack:
        source = _Source(data)
        stream = library.opj_stream_create(_BUFFER, 1)
        stack.callback(library.opj_stream_destroy, stream)
        source.attach(library, stream)
        codec = library.opj_create_decompress(_CODESTREAM if bytes(data[:2]) == b"\xff\x4f" else _JP2)
        stack.callback(library.opj_destroy_codec, codec)
        parameters = ctypes.create_string_buffer(_PARAMETERS)
        library.opj_set_default_decoder_parameters(parameters)
        image = ctypes.POINTER(_Picture)()
        done = library.opj_setup_decoder(codec, parameters) and library.opj_decoder_set_strict_mode(codec, strict)
        if not done or not library.opj_read_header(stream, codec, ctypes.byref(image)):
            raise OSError("OpenJPEG cannot read the header")
        stack.callback(library.opj_image_destroy, image)
        area = image.contents
        box = (area.x0, area.y0 + rows[0], area.x1, area.y0 + rows[1])
        if not library.opj_set_decode_area(codec, image, *box) or not library.opj_decode(codec, stream, image):
            raise OSError("OpenJPEG cannot decode the picture")
        yield image.contents


class _Source:
    """The bytes of a file, read by OpenJPEG."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0
        self._functions = (_READ(self._read), _SKIP(self._skip), _SEEK(self._seek))

    def attach(self, library: Any, stream: int) -> None:
        read, skip, seek = self._functions
        library.opj_stream_set_read_function(stream, read)
        library.opj_stream_set_skip_function(stream, skip)
        library.opj_stream_set_seek_function(stream, seek)
        library.opj_stream_set_user_data(stream, None, None)
        library.opj_stream_set_user_data_length(stream, len(self._data))

    def _read(self, buffer: int, size: int, _: Any) -> int:
        piece = bytes(self._data[self._at : self._at + size])
        if not piece:
            return ctypes.c_size_t(-1).value
        ctypes.memmove(buffer, piece, len(piece))
        self._at += len(piece)
        return len(piece)

    def _skip(self, size: int, _: Any) -> int:
        self._at = min(len(self._data), max(0, self._at + size))
        return size

    def _seek(self, place: int, _: Any) -> int:
        self._at = place
        return int(0 <= place <= len(self._data))


def _strip(picture: _Picture, mode: str, size: tuple[int, int]) -> Image.Image:
    """Return rows of a picture with 8 bits a sample."""
    if picture.numcomps < Image.getmodebands(mode):
        raise OSError("OpenJPEG gives fewer components than the header says")
    bands = [_band(picture.comps[n], size) for n in range(Image.getmodebands(mode))]
    if picture.color_space == _SYCC and mode in ("RGB", "RGBA"):
        bands[:3] = Image.merge("YCbCr", bands[:3]).convert("RGB").split()
    if mode in ("LA", "RGBA") and picture.comps[len(bands) - 1].alpha == _PREMULTIPLIED:
        return Image.merge(mode.replace("A", "a"), bands).convert(mode)
    return Image.merge(mode, bands) if len(bands) > 1 else bands[0]


def _band(component: _Component, size: tuple[int, int]) -> Image.Image:
    if not component.data or not component.w or not component.h:
        raise OSError("OpenJPEG gives a component without samples")
    samples = ctypes.cast(component.data, ctypes.POINTER(ctypes.c_int32 * (component.w * component.h))).contents
    image = Image.frombuffer("I", (component.w, component.h), samples, "raw", "I", 0, 1)
    offset = 1 << (component.prec - 1) if component.sgnd else 0
    scale = 255 / ((1 << component.prec) - 1)
    band = image.point(lambda value: value * scale + offset * scale + 0.5).convert("L")
    return band if band.size == size else band.resize(size, Image.Resampling.NEAREST)
