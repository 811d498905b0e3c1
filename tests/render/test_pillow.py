"""The settings of the imaging library: made by a call, not by an import, and for whatever is imported later."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings

from PIL import Image

from image_repo import render
from image_repo.config import RenderConfiguration

PROBE = """
import warnings
from PIL import Image, JpegImagePlugin, PngImagePlugin

def state():
    filters = [filter for filter in warnings.filters if "PIL" in str(filter[3])]  # libraries add others
    return Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, dict(JpegImagePlugin.MARKER), filters

before = state()
from image_repo import render, wiring
assert state() == before
render.configure()
after = state()
assert all(one != other for one, other in zip(before, after))
render.configure()
assert state() == after
"""


def with_damaged_exif() -> bytes:
    """A TIFF whose software tag points behind the end of the file: Pillow warns about it."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "TIFF", tiffinfo={305: "a text that stands apart"})
    data = file.getvalue()
    return data.replace(data.index(b"a text that").to_bytes(4, "little"), (1 << 24).to_bytes(4, "little"))


def test_only_the_call_changes_the_settings_of_the_process_and_a_second_call_nothing() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", PROBE], check=True, timeout=60)


def test_a_damaged_tag_warns_nobody_where_warnings_are_errors() -> None:
    source = with_damaged_exif()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(source)).getexif().get(305)
        assert heard
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render.configure()
        Image.open(io.BytesIO(source)).getexif().get(305)
        render.inspect(io.BytesIO(source), RenderConfiguration(), location=False)
