"""Keys of the first image_repo, whose containers are served as they are.

It kept the original of ``b c`` as ``b%20c+original(None).jpg``, and renditions beside it, such as
``b%20c+size(60,60).png``. The names are percent-encoded, but for ``/``.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

_ORIGINAL = "+original(None)"
_STEP = re.compile(r"\+(?:original|size|crop|thumbnail|convert|clone|metadata)\([^()/]*\)\Z")
#: names that are the same when they are percent-encoded
_PLAIN = re.compile(r"[A-Za-z0-9_.\-/]*\Z")


def original_stem(name: str) -> str:
    """Return the key of the original of a name, without its ending."""
    return quote(name) + _ORIGINAL


def name_of_original(stem: str) -> str | None:
    """Return the name for the key of an original, without its ending; None for another key.

    >>> name_of_original("b%20c+original(None)"), name_of_original("b%20c")
    ('b c', None)
    """
    quoted = stem.removesuffix(_ORIGINAL)
    name = unquote(quoted)
    return name if quoted not in (stem, "") and quote(name) == quoted else None


def is_first_key(stem: str) -> bool:
    """Return whether this is a key of an original or rendition, without its ending.

    >>> is_first_key("a+size(60,60)"), is_first_key("photo@2x+b (1)")
    (True, False)
    """
    return stem.endswith(")") and _STEP.search(stem) is not None


def is_quoted_the_same(name: str) -> bool:
    """Return whether the key of a name's original begins with the name."""
    return _PLAIN.match(name) is not None
