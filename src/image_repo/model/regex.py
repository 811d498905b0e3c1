"""Regular expressions of clients, run by RE2 in time linear in the text (github.com/google/re2/wiki/Syntax)."""

from __future__ import annotations

from collections.abc import Callable

import re2  # type: ignore[import-untyped]

from image_repo.errors import BadPattern

MAX_PATTERN_CHARS = 1_000
_MAX_MEMORY_BYTES = 8 << 20


def searcher(parameter: str, text: str) -> Callable[[str], bool]:
    """Return a predicate that searches a text for a pattern.

    :param parameter: its name, for the problem
    :raises BadPattern: for a pattern that RE2 refuses: look-around, back-references, bad syntax, too large
    """
    if len(text) > MAX_PATTERN_CHARS:
        raise BadPattern(parameter, f"A pattern may have at most {MAX_PATTERN_CHARS} characters.")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MAX_MEMORY_BYTES
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        hint = "Look-around and back-references are not part of its syntax."
        raise BadPattern(parameter, f"RE2 does not take this pattern: {reason}. {hint}") from error
    # With bytes, RE2's wrapper need not compute positions in characters; a lone surrogate does no harm.
    return lambda candidate: compiled.search(candidate.encode("utf-8", "surrogatepass")) is not None
