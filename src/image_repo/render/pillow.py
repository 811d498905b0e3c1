"""The settings that the imaging library has for a whole process."""

from __future__ import annotations

import ctypes
import struct
import warnings
from contextlib import suppress
from importlib import import_module

from PIL import Image, JpegImagePlugin, PngImagePlugin

from image_repo.render import headers


def configure() -> None:
    """Set what the decoders rely on, for all of this process; once more changes nothing."""
    # Pixels are counted against our own budget, from the header; Pillow would warn, or refuse by another.
    Image.MAX_IMAGE_PIXELS = None
    # A colour profile may be larger than a text ever is; what all of them unpack to stays small.
    PngImagePlugin.MAX_TEXT_CHUNK = 4 << 20
    PngImagePlugin.MAX_TEXT_MEMORY = headers.MOST_METADATA
    for marker in range(0xFFE0, 0xFFF0):
        name, description = JpegImagePlugin.MARKER[marker][:2]
        JpegImagePlugin.MARKER[marker] = (name, description, _read_application_segment)  # type: ignore[assignment]
    # libtiff writes to standard error what it dislikes in a file; its return codes say the same.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(import_module("PIL._imaging").__file__).TIFFSetErrorHandler(None)
    # Warnings about damaged metadata would fill the log.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _read_application_segment(image: JpegImagePlugin.JpegImageFile, marker: int) -> None:
    # One that is shorter than its standard says is passed over, as libjpeg does it.
    with suppress(struct.error, IndexError):
        JpegImagePlugin.APP(image, marker)
