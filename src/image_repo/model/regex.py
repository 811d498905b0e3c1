"""Regular expressions from outside. RE2 runs them, in time linear in the text (github.com/google/re2/wiki/Syntax)."""

from __future__ import annotations

from collections.abc import Callable

import re2  # type: ignore[import-untyped]

from image_repo.errors import BadPattern

#: the longest pattern that is taken, in characters
MOST_CHARACTERS = 1_000
_MOST_MEMORY = 8 << 20


def searcher(parameter: str, text: str) -> Callable[[str], bool]:
    """Compiles a pattern into a test that searches a text for it.

    :param parameter: named in the refusal
    :raises BadPattern: for what RE2 does not take: look-around, back-references, bad syntax, too large
    """
    if len(text) > MOST_CHARACTERS:
        raise BadPattern(parameter, f"A pattern may have at most {MOST_CHARACTERS} characters.")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise BadPattern(
            parameter,
            f"RE2 does not take this pattern: {reason}. Look-around and back-references are not part of its syntax.",
        ) from error
    # Text as bytes spares RE2's wrapper the positions in characters; half a surrogate pair does no harm.
    return lambda candidate: compiled.search(candidate.encode("utf-8", "surrogatepass")) is not None
