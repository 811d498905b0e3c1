"""Bytes on their way into a store."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import BinaryIO

from image_repo.stores.base import CHUNK


@dataclass(frozen=True)
class Upload:
    """Bytes to be sent, more than once if need be.

    :param start: position of the first byte in the file
    :param md5: in hexadecimal
    """

    file: BinaryIO
    start: int
    size: int
    md5: str

    @classmethod
    def of(cls, data: bytes | BinaryIO) -> Upload:
        """Read the data once, a file from its present position, for its size and digest."""
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        start, size = file.tell(), 0
        md5 = hashlib.md5(usedforsecurity=False)
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            size += len(chunk)
        return cls(file, start, size, md5.hexdigest())
