"""Names of images, and the keys under which their renditions are kept.

A name is accepted and normalised once, at the door: whoever holds an
:class:`ImageName` need not check it again. A key says everything that decides
the bytes under it: ``a/b@VERSION+size(200,300)+q(82)+g(1a2b3c4d).jpg``.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from image_repo.errors import BadName
from image_repo.model.formats import split_ending

#: a name may not be longer than this when it is percent-encoded as UTF-8 (RFC 3986)
MOST_BYTES = 700
#: what no name begins with
_NO_BEGINNING = ("", ".", "/")


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """The accepted, normalised name of an image, such as ``sites/plot-12/north``."""

    text: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Accepts a name as it stands, no ending taken off.

        :param text: percent-decoded once
        :raises BadName: with the reason
        """
        name = unicodedata.normalize("NFC", text)
        _check(name)
        return cls(name)

    @classmethod
    def of_key(cls, text: str) -> ImageName | None:
        """The name that a key of the container tells; None for one that :meth:`parse` refuses: it is no image's."""
        name = unicodedata.normalize("NFC", text)
        if not _is_plain(name):
            try:
                _check(name)
            except BadName:
                return None
        return cls(name)

    @classmethod
    def readings(cls, text: str) -> tuple[ImageName, ...]:
        """What a path may mean: without its image ending first, then with it.

        ``x.tif`` is the image ``x``; where nothing is called that, it is the image
        ``x.tif``, whose file is perhaps ``x.tif.jpg``.

        :raises BadName: with the reason
        """
        whole = cls.parse(text)
        stem, known = split_ending(whole.text)
        return (cls(stem), whole) if known else (whole,)

    def __str__(self) -> str:
        return self.text


def parse_prefix(text: str) -> str:
    """Accepts a folder: empty for the whole repository, else a name and a ``/`` behind it.

    :raises BadName: with the reason
    """
    stem = text.strip("/") if text in ("", "/") else text.removesuffix("/")
    return ImageName.parse(stem).text + "/" if stem else ""


def _is_plain(name: str) -> bool:
    """Whether a name is seen at a glance to be one, as nearly all are."""
    return (
        len(name) <= (MOST_BYTES // 3 if name.isascii() else MOST_BYTES // 12)
        and name.isprintable()
        and "\\" not in name
        and "/." not in name
        and "//" not in name
        and name[:1] not in _NO_BEGINNING
        and not name.endswith("/")
    )


def _check(name: str) -> None:
    if len(quote(name.encode("utf-8", "surrogatepass"), safe="/")) > MOST_BYTES:
        raise BadName(f"A name may have at most {MOST_BYTES} bytes when it is percent-encoded.")
    for char in name:
        if char == "\\":
            raise BadName("A name may not hold a backslash.")
        if unicodedata.category(char) in ("Cc", "Cs"):
            raise BadName("A name may not hold control characters.")
    for segment in name.split("/"):
        if not segment:
            raise BadName("A name may not have empty parts: no '/' at an end, no two in a row.")
        if segment.startswith("."):
            raise BadName(f"No part of a name may begin with a dot, as {segment[:40]!r} does.")
