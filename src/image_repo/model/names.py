"""Names of images. A name is validated and normalised once; an :class:`ImageName` needs no further check."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from image_repo.errors import BadName
from image_repo.model import first_names
from image_repo.model.formats import split_ending

#: maximum length of a name, percent-encoded as UTF-8 (RFC 3986)
MAX_NAME_BYTES = 700
_REFUSED_BEGINNINGS = ("", ".", "/")


@dataclass(frozen=True, slots=True, order=True)
class ImageName:
    """The accepted, normalised name of an image, such as ``sites/plot-12/north``."""

    text: str

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Return the name of a text, with its ending.

        :param text: percent-decoded once
        :raises BadName: with the reason
        """
        name = unicodedata.normalize("NFC", text)
        _check(name)
        return cls(name)

    @classmethod
    def of_key(cls, text: str) -> ImageName | None:
        """Return the name of a key in the container, None where :meth:`parse` refuses it: not an image."""
        name = unicodedata.normalize("NFC", text)
        if not _is_plain(name):
            try:
                _check(name)
            except BadName:
                return None
        return cls(name)

    @classmethod
    def readings(cls, text: str) -> tuple[ImageName, ...]:
        """Return the possible names of a path: without its image ending first, then with it.

        ``x.tif`` is the image ``x``, or else the image ``x.tif``, whose file may be ``x.tif.jpg``.

        :raises BadName: with the reason
        """
        whole = cls.parse(text)
        stem, format_ = split_ending(whole.text)
        if format_:
            _check(stem)
        return (cls(stem), whole) if format_ else (whole,)

    def below(self, folder: str) -> ImageName:
        """Return this name below a folder.

        :param folder: empty, or an accepted name with its ``/``
        :raises BadName: when it is too long there
        """
        if not folder:
            return self
        text = folder + self.text
        if not _is_plain(text):
            _check(text)
        return ImageName(text)

    def __str__(self) -> str:
        return self.text


def path_of(name: str) -> str:
    """Return a path whose first reading is this name: one that ends as pictures do gets another ending.

    >>> path_of("a/b"), path_of("a/x.tif")
    ('a/b', 'a/x.tif.jpg')
    """
    return f"{name}.jpg" if split_ending(name)[1] else name


def parse_prefix(text: str) -> str:
    """Return the prefix of a folder: empty for the whole repository, else a name with a trailing ``/``.

    :raises BadName: with the reason
    """
    stem = text.strip("/") if text in ("", "/") else text.removesuffix("/")
    return ImageName.parse(stem).text + "/" if stem else ""


def _is_plain(name: str) -> bool:
    """Whether a cheap test suffices to accept the name, as for nearly all."""
    return (
        len(name) <= (MAX_NAME_BYTES // 3 if name.isascii() else MAX_NAME_BYTES // 12)
        and name.isprintable()
        and "\\" not in name
        and "/." not in name
        and "//" not in name
        and name[:1] not in _REFUSED_BEGINNINGS
        and not name.endswith(("/", ")"))
    )


def _check(name: str) -> None:
    if len(quote(name.encode("utf-8", "surrogatepass"), safe="/")) > MAX_NAME_BYTES:
        raise BadName(f"A name may have at most {MAX_NAME_BYTES} bytes when it is percent-encoded.")
    for char in name:
        if char == "\\":
            raise BadName("A name may not hold a backslash.")
        if unicodedata.category(char) in ("Cc", "Cs"):
            raise BadName("A name may not hold control characters.")
    if first_names.is_first_key(name):
        raise BadName(f"A name may not end as {name[name.rfind('+') :][:40]!r}: so ended keys of the first image_repo.")
    for segment in name.split("/"):
        if not segment:
            raise BadName("A name may not have empty parts: no '/' at an end, no two in a row.")
        if segment.startswith("."):
            raise BadName(f"No part of a name may begin with a dot, as {segment[:40]!r} does.")
