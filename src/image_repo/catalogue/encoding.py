"""Documents as the text that an engine stores, and back. Pure.

Neither engine takes every text that JSON can write: PostgreSQL has no U+0000 and no half surrogate pairs, and in
paths of SQLite a member's name cannot hold every character. What does not fit is stored as :data:`_MARK` and a
character of the private plane 16, which comes back as what it was. What is searched for is written in the same way.
Only in an order such text stands elsewhere: behind everything that begins like it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from image_repo.catalogue.base import Document
from image_repo.catalogue.query import Path

#: a character that Unicode assigns to nothing; as itself it is written twice
_MARK = "\U0010fffe"
_SHIFT = 0x10_0000
_TEXT = re.compile("[\0\ud800-\udfff\U0010fffe]")
_MEMBER = re.compile('[\0-\x1f"\\\\\ud800-\udfff\U0010fffe]')
_MARKED = re.compile(_MARK + "(.)", re.DOTALL)
#: numbers that JSONB respells: with all their digits, and without the sign of zero
_RESPELLED = re.compile(r"\d[eE][+-]?\d|-0(?![0-9.]*[1-9])")
#: a string of JSON, and the colon behind it when it is the name of a member
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?', re.DOTALL)


def dump(document: Document) -> str:
    """Return a document as text that both engines store.

    :raises ValueError: when it is no JSON: NaN, or a value that JSON has no form for
    """
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if "\\" not in text and _plain(text):
        return text
    return _STRING.sub(_storable, text)


def is_respelled(text: str) -> bool:
    """Return whether an engine that stores numbers by value may return some of a document spelled otherwise."""
    return _RESPELLED.search(text) is not None


def load(text: str) -> dict[str, Any]:
    """Return the document of a stored text."""
    return decode(text if _MARK not in text else _STRING.sub(_original, text))


def decode(text: str) -> dict[str, Any]:
    """Return a document just as it is stored, with its marks."""
    document: dict[str, Any] = json.loads(text)
    return document


def storable(text: str) -> str:
    """Return a text as it is stored."""
    return _TEXT.sub(_mark, text)


def original(text: str) -> str:
    """Return the text before it was stored."""
    return _MARKED.sub(_unmark, text) if _MARK in text else text


def members(path: Path) -> Path:
    """Return the members of a path as they are stored."""
    return tuple(_MEMBER.sub(_mark, member) for member in path)


def original_members(path: Path) -> Path:
    """Return the members of a path before they were stored."""
    return tuple(map(original, path))


def _plain(text: str) -> bool:
    return text.isascii() or not _TEXT.search(text)


def _storable(match: re.Match[str]) -> str:
    inside, colon = match.groups()
    if "\\" not in inside and _plain(inside):
        return match[0]
    text = json.loads(f'"{inside}"')
    text = (_MEMBER if colon else _TEXT).sub(_mark, text)
    return json.dumps(text, ensure_ascii=False) + (colon or "")


def _original(match: re.Match[str]) -> str:
    inside, colon = match.groups()
    if _MARK not in inside:
        return match[0]
    return json.dumps(original(json.loads(f'"{inside}"'))) + (colon or "")


def _mark(match: re.Match[str]) -> str:
    return _MARK + (_MARK if match[0] == _MARK else chr(_SHIFT + ord(match[0])))


def _unmark(match: re.Match[str]) -> str:
    return _MARK if match[1] == _MARK else chr(ord(match[1]) - _SHIFT)
