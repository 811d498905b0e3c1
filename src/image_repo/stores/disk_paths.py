"""Keys as paths of files, and back. Pure.

The key ``a/b.jpg`` is the file ``a/b.jpg``. Folders and files share one name space, so keys that
would get into each other's way (``a`` and ``a/b``) are distinguished by marks:

=======================================  ===================
a file without a known ending            ``a`` → ``a%``
a folder with a known ending or a mark   ``a.jpg`` → ``a.jpg%-``
a segment longer than 240 bytes          cut into folders that end with ``%+``
=======================================  ===================

No two keys have one path, and no path is the file of one key and a folder of another. Files and
folders of other tools, which know nothing of this, are read without marks too.
"""

from __future__ import annotations

from image_repo.model.formats import split_ending

#: the store's own folder inside its root
OWN = ".image_repo"
_MOST_KEY_BYTES = 1024
#: file systems take 255 bytes; some room for the marks
_PIECE = 240
_FILE, _FOLDER, _PART = "%", "%-", "%+"


def _ends_known(name: str) -> bool:
    return split_ending(name)[1] is not None or (name.lower().endswith(".json") and len(name) > 5)


def _is_marked(name: str) -> bool:
    """Return whether a folder of this name could be taken for something else."""
    # The rest of a long segment may be a dot or two.
    return _ends_known(name) or name.endswith((_FILE, _FOLDER, _PART)) or name in (OWN, ".", "..")


def is_long(segment: str) -> bool:
    """Return whether a segment is cut into pieces, as no file name can hold it."""
    return len(segment.encode()) > _PIECE


def _pieces(segment: str) -> list[str]:
    """Cuts a segment so that every piece fits into a file name."""
    pieces = []
    while is_long(segment):
        piece = segment.encode()[:_PIECE].decode(errors="ignore")
        pieces.append(piece + _PART)
        segment = segment[len(piece) :]
    return [*pieces, segment]


def encode_folder(segment: str) -> str:
    """The path of a folder for one segment; more than one name when it is long."""
    *parts, last = _pieces(segment)
    return "/".join([*parts, last + _FOLDER if _is_marked(last) else last])


def encode_file(segment: str) -> str:
    """The path of a file for the last segment; more than one name when it is long."""
    *parts, last = _pieces(segment)
    return "/".join([*parts, last if _ends_known(last) else last + _FILE])


def is_part(name: str) -> bool:
    """Return whether a folder is the first part of a long segment."""
    # A piece is as long as it can be: the character that did not fit has at most four bytes.
    return name.endswith(_PART) and _PIECE - 4 < len(name.encode()) - len(_PART) <= _PIECE


def decode_folder(name: str) -> str:
    """The segment that a folder, which is no part, stands for."""
    stem = name.removesuffix(_FOLDER)
    return stem if stem != name and _is_marked(stem) else name


def decode_file(name: str) -> str:
    """The segment that a file stands for."""
    stem = name.removesuffix(_FILE)
    return name if _ends_known(name) or _ends_known(stem) or not stem else stem


def encode(key: str) -> str:
    """The path of a key below the root.

    >>> encode("a/b.jpg"), encode("a.jpg/b"), encode("a")
    ('a/b.jpg', 'a.jpg%-/b%', 'a%')

    :raises ValueError: when it is no key: empty, too long, with NUL, or a segment that is empty, ``.`` or ``..``
    """
    *folders, leaf = segments(key)
    return "/".join([*map(encode_folder, folders), encode_file(leaf)])


def segments(key: str) -> list[str]:
    """The segments of a key.

    :raises ValueError: when it is no key: empty, too long, with NUL, or a segment that is empty, ``.`` or ``..``
    """
    if len(key.encode()) > _MOST_KEY_BYTES:
        raise ValueError(f"a key may have at most {_MOST_KEY_BYTES} bytes")
    parts = key.split("/")
    if "\0" in key or any(segment in ("", ".", "..") for segment in parts):
        raise ValueError(f"not a key: {key[:80]!r}")
    return parts


def is_plain_folder(segment: str) -> bool:
    """Return whether a folder of just this name, without our marks, stands for this segment."""
    return not is_long(segment) and segment != OWN and _is_marked(segment) and decode_folder(segment) == segment


def is_plain_file(segment: str) -> bool:
    """Return whether a file of just this name, without our mark, stands for this segment."""
    return not is_long(segment) and segment != OWN and not _ends_known(segment) and decode_file(segment) == segment
