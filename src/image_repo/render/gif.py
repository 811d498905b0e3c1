"""GIF: frames that are disposed of become transparent, as browsers show it, not a colour of the palette.

GIF89a, section 23. The same holds for what a first frame leaves of the canvas.
"""

from __future__ import annotations

from PIL import GifImagePlugin, Image

from image_repo.render.tolerant import TolerantFile

_TO_BACKGROUND = 2


class GifFile(TolerantFile, GifImagePlugin.GifImageFile):
    """A GIF whose canvas is transparent where nothing is drawn."""

    _is_partial = False

    def _open(self) -> None:
        super()._open()
        extent = self.dispose_extent
        if extent and extent != (0, 0, *self.size) and "transparency" not in self.info:
            self._is_partial = True
            self._mode = "RGBA"

    def _seek(self, frame: int, update_image: bool = True) -> None:
        if frame and update_image and self.dispose is not None and self.disposal_method == _TO_BACKGROUND:
            self.load()
            self._make_transparent(self.dispose.size)
        super()._seek(frame, update_image)

    def _make_transparent(self, size: tuple[int, int]) -> None:
        """Have the frame at hand disposed of to transparency."""
        if "transparency" in self.info and self.im.mode == "P":
            self.im.putpalettealpha(self.info.pop("transparency"), 0)
        if self.im.mode != "RGBA":
            self.im = self.im.convert("RGBA")
        self._mode = "RGBA"
        self.dispose = Image.new("RGBA", size).im

    def load_end(self) -> None:
        """Complete a frame; the first one with the canvas around it."""
        super().load_end()
        if self._is_partial and self.tell() == 0:
            assert self.dispose_extent is not None
            canvas = Image.new("RGBA", self.size).im
            canvas.paste(self._crop(self.im, self.dispose_extent).convert("RGBA"), self.dispose_extent)
            self.im = canvas
            self._mode = "RGBA"
