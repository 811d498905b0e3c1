"""Files that are cut off: what their decoder made before it failed is used where that is allowed."""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image, ImageFile

#: what decoders raise for bytes that they cannot read
DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error)


class TolerantFile(ImageFile.ImageFile):
    """A picture file that can be used though it is damaged.

    :ivar accepts_damage: whether what could be decoded is enough
    :ivar is_damaged: whether something could not be decoded
    """

    accepts_damage = False
    is_damaged = False

    def load(self) -> Any:
        """Decode, as far as that can be done where damage is accepted."""
        try:
            return super().load()
        except DECODER_ERRORS:
            if not self.accepts_damage or self._im is None:
                raise
            self.is_damaged = True
            self.tile = []
            return Image.Image.load(self)
