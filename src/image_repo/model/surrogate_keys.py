"""Surrogate keys: what caches in front (Fastly, Varnish's xkey, Cloudflare) purge all variants of an image by.

A response has a key for its image and one for each folder above it: the first 16 hexadecimal digits of the SHA-256 of
``a/b/c``, ``a/b/`` and ``a/``. They are hashes, because names can hold what a header cannot.
"""

from __future__ import annotations

import hashlib
from itertools import accumulate

_DIGITS = 16
#: of folders above an image: a header has to stay short
_MOST_FOLDERS = 8
#: header → what separates its keys
SEPARATORS = {"Surrogate-Key": " ", "xkey": " ", "Cache-Tag": ","}


def surrogate_key(text: str) -> str:
    """Return the key of an image, or of a folder whose name ends in ``/``."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def surrogate_keys(header: str, name: str) -> tuple[str, str]:
    """Return the header with the keys of an image and of the folders above it, from the top, at most eight.

    :param header: one of :data:`SEPARATORS`
    """
    folders = list(accumulate(f"{part}/" for part in name.split("/")[:-1]))[:_MOST_FOLDERS]
    return header, SEPARATORS[header].join(surrogate_key(text) for text in (name, *folders))
