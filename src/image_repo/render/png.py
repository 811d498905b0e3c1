"""PNG: transparency that the imaging library loses: of grey with 2 or 4 bits, and of RGB with 16.

``tRNS`` holds a colour at the depth of the file (PNG, third edition, 11.3.1.1).
"""

from __future__ import annotations

from typing import Any, BinaryIO

from PIL import Image, ImageChops, PngImagePlugin

from image_repo.errors import OverBudget
from image_repo.render.tolerant import TolerantFile

#: bits of grey → factor that makes them 8
_GREY = {2: 85, 4: 17, 8: 1}
_GREY_COLOUR, _RGB_COLOUR = 0, 2
#: pixels of RGB with 16 bits and a transparent colour: it is decoded twice
_MOST_PIXELS = 40_000_000


class PngFile(TolerantFile, PngImagePlugin.PngImageFile):
    """A PNG, with its transparency as the standard has it.

    :param depth: bits of a sample
    """

    def __init__(self, source: BinaryIO, depth: int) -> None:
        self._depth = depth
        self._source = source
        self._hidden: tuple[int, ...] | None = None
        super().__init__(source)

    def _open(self) -> None:
        super()._open()
        hidden = self.info.get("transparency")
        if self.mode == "L" and self._depth in _GREY and isinstance(hidden, int):
            self.info["transparency"] = (hidden & ((1 << self._depth) - 1)) * _GREY[self._depth]
        elif self.mode == "RGB" and self._depth == 16 and isinstance(hidden, tuple) and self.n_frames == 1:
            if self.width * self.height > _MOST_PIXELS:
                raise OverBudget(f"RGB of 16 bits with a transparent colour is rendered up to {_MOST_PIXELS} pixels.")
            self._hidden = hidden
            del self.info["transparency"]
            self._mode = "RGBA"

    def load(self) -> Any:
        """Decode."""
        if self._hidden is None or not self.tile:
            return super().load()
        self._mode = "RGB"
        tile = self.tile[0]
        super().load()
        self.im = self._with_alpha(self._hidden, tile).im
        self._mode = "RGBA"
        return Image.Image.load(self)

    def _with_alpha(self, hidden: tuple[int, ...], tile: Any) -> Image.Image:
        """Return the picture, transparent where both bytes of all samples are those of the hidden colour."""
        upper = Image.new("RGB", self.size)
        upper.im = self.im
        self._source.seek(0)
        lower = PngImagePlugin.PngImageFile(self._source)
        lower.tile = [tile._replace(offset=lower.tile[0].offset, args="RGB;16L")]
        lower.load()
        alpha = Image.new("L", self.size)
        for image, shift in ((upper, 8), (lower, 0)):
            for band, value in zip(image.split(), hidden, strict=True):
                table = [255] * 256
                table[value >> shift & 255] = 0
                alpha = ImageChops.lighter(alpha, band.point(table))
        upper.putalpha(alpha)
        return upper
