"""A picture whose pixels are worked out when they are first needed, as those of the imaging library's own files are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image


class LazyImage(Image.Image):
    """A picture of known mode and size, decoded by the first :meth:`load`.

    :param mode: of the imaging library
    :param size: width and height in pixels
    :param decode: makes the picture; of this mode and size
    """

    def __init__(self, mode: str, size: tuple[int, int], decode: Callable[[], Image.Image]) -> None:
        super().__init__()
        self._mode = mode
        self._size = size
        self._decode = decode

    def load(self) -> Any:
        """Decode unless that is done."""
        if self._im is None:
            self._im = self._decode().im
        return super().load()
