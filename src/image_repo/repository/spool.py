"""Spools: uploads, and originals fetched to be rendered or sent, in unnamed temporary files.

So memory does not grow with their size, and nothing is left behind when a process ends.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import logging
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Self, cast

from image_repo.errors import BadBody, DigestMismatch, StoreUnavailable, TooLarge
from image_repo.stores.base import CHUNK

log = logging.getLogger(__name__)
#: up to here it stays in memory
_IN_MEMORY = 1 << 20
#: RFC 9530, section 5: the algorithms that are verified
_ALGORITHMS = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5", "sha": "sha1"}


class Spool:
    """A temporary file that knows its digests. A context manager.

    :param folder: where it lies when it is large; the system's own for such files where None
    :param most: the most bytes that it takes
    :param hashed: whether its SHA-256 will be asked for: then it is made while the bytes pass
    :param in_memory: whether it never lies on a disk
    :param file: in place of a new one
    :raises TooLarge: from :meth:`write`
    """

    def __init__(
        self,
        folder: Path | None,
        most: int,
        *,
        hashed: bool = True,
        in_memory: bool = False,
        file: BinaryIO | None = None,
    ) -> None:
        self.file: BinaryIO = file or (io.BytesIO() if in_memory else _open(folder))
        self.size = 0
        self._most = most
        self._users = 1
        self._lock = threading.Lock()
        self._passing = hashlib.sha256() if hashed else None

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """Return a file that is whole, from its present position on; it is read once for size and digest."""
        spool = cls(None, sys.maxsize, file=file)
        start = file.tell()
        while chunk := file.read(CHUNK):
            spool._count(chunk)
        file.seek(start)
        return spool

    def write(self, chunk: bytes) -> int:
        """Write the next bytes."""
        self._count(chunk)
        try:
            return self.file.write(chunk)
        except OSError as error:
            raise StoreUnavailable("There is no room for the bytes on their way in.") from error

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._most:
            raise TooLarge(f"At most {self._most} bytes are taken.", limit=self._most)
        if self._passing:
            self._passing.update(chunk)

    def fill(self, chunks: Iterable[bytes]) -> Self:
        """Write everything, and go back to the beginning."""
        for chunk in chunks:
            self.write(chunk)
        self.file.seek(0)
        return self

    @property
    def sha256(self) -> str:
        """The SHA-256 of all bytes written, in lower-case hex."""
        return self.digest("sha256").hex()

    def digest(self, algorithm: str) -> bytes:
        """Return the digest of all bytes by an algorithm of :mod:`hashlib`."""
        if algorithm == "sha256" and self._passing:
            return self._passing.digest()
        digest = hashlib.new(algorithm, usedforsecurity=False)
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            digest.update(chunk)
        self.file.seek(0)
        return digest.digest()

    def share(self) -> Self:
        """Return it for another user, who closes it too: the file goes with the last one."""
        with self._lock:
            self._users += 1
        return self

    def close(self) -> None:
        """Close and so delete the file, unless another user has it."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self.file.close()

    # What werkzeug asks of the file that it writes a form's part into.
    def seek(self, offset: int, whence: int = 0) -> int:
        """Do as a file does."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Do as a file does."""
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        """Do as a file does."""
        return self.file.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(folder: Path | None) -> BinaryIO:
    place = str(folder) if folder and folder.is_dir() else None
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=place))


def check_digests(spool: Spool, repr_digest: str | None, content_md5: str | None) -> None:
    """Verify an upload by the digests that the sender names.

    :param repr_digest: ``sha-256=:…:, md5=:…:`` (RFC 9530); unknown algorithms are passed over, as it says
    :param content_md5: base64 (RFC 1864)
    :raises DigestMismatch: when one does not fit
    :raises BadBody: when one cannot be read
    """
    claims = [("md5", content_md5.strip())] if content_md5 else []
    for member in repr_digest.split(",") if repr_digest else ():
        algorithm, equals, value = member.strip().partition("=")
        if not equals or len(value) < 2 or value[0] != ":" or value[-1] != ":":
            raise BadBody("Expected Repr-Digest to read sha-256=:BASE64:.")
        if algorithm.lower() in _ALGORITHMS:
            claims.append((_ALGORITHMS[algorithm.lower()], value[1:-1]))
    for algorithm, claim in claims:
        try:
            expected = base64.b64decode(claim, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadBody(f"The {algorithm} digest is not base64.") from error
        if expected != spool.digest(algorithm):
            raise DigestMismatch(f"The {algorithm} of the {spool.size} bytes that arrived is another.")
