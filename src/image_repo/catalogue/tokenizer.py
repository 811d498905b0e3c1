"""The tokenizer: words of a free-text query, and of a document.

A word is a run of letters and digits, with the marks on them, of any script. Case and ways to
write the same letter do not count (Unicode NFKC and case folding: ``Straße`` and ``STRASSE``,
``ﬁ`` and ``fi``); accents do. Everything else stands between words: ``plot_12/north`` has three.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from image_repo.model.namespaces import own_name

#: characters of a word that count: longer ones that begin alike are one word
MOST_CHARACTERS = 50
#: different words of a document that can be found, the first of them
MOST_WORDS = 5_000


class _Apart(dict[int, str]):
    """What separates words becomes a blank; what is none stays."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        return character if unicodedata.category(character)[0] in "LNM" else " "


#: common characters in advance; the rest is not cached: it may be any of a million
_APART = _Apart()
_APART |= {code: _APART[code] for code in range(0x250)}


def words(text: str) -> tuple[str, ...]:
    """Return the different words of a text, in their order; at most :data:`MOST_WORDS`."""
    return tuple(islice(dict.fromkeys(_words(text)), MOST_WORDS))


def words_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the words that a document is found by: of its name, and of all text and numbers in its ``data``.

    Keys of ``data`` are no such words, nor are true, false and null, nor those of the folder of its owner. At most
    :data:`MOST_WORDS`, those of the name first.
    """
    name = own_name(str(document.get("name", "")), document.get("owner"))
    texts = (name, *_texts(document.get("data")))
    return tuple(islice(dict.fromkeys(word for text in texts for word in _words(text)), MOST_WORDS))


def begins(prefixes: Iterable[str], there: Iterable[str]) -> bool:
    """Return whether each prefixes word is a prefix of one of the others."""
    all_there = tuple(there)
    return all(any(word.startswith(start) for word in all_there) for start in prefixes)


def _words(text: str) -> Iterator[str]:
    # Folding may undo what was composed, so it is composed again (Unicode, section 3.13, toNFKC_Casefold).
    plain = text.lower() if text.isascii() else _composed(_composed(text).casefold())
    return (word[:MOST_CHARACTERS] for word in plain.translate(_APART).split())


def _composed(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _texts(value: Any) -> Iterator[str]:
    """Return all text and numbers in a value, depth first."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, int | float) and not isinstance(each, bool):
            yield str(each)
        elif isinstance(each, Mapping):
            waiting.extend(reversed(list(each.values())))
        elif isinstance(each, list | tuple):
            waiting.extend(reversed(each))
