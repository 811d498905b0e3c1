"""What an export says of what it had to leave out: nothing is dropped without a word."""

from __future__ import annotations

#: as many are written out; further ones are counted
MOST = 1_000
#: the longest, in characters
_LONGEST = 300


def member(format_: str) -> str:
    """Where the notes of a format lie in an export."""
    return f"_{format_}_notes.txt"


def is_note(name: str) -> bool:
    """Whether a member is one of :func:`member`: no picture has such an ending."""
    return name.startswith("_") and name.endswith("_notes.txt")


class Notes:
    """Lines for people; their number is bounded."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = 0

    def add(self, where: str, what: str) -> None:
        """Tells something.

        :param where: the image or the thing that it is about; hostile text is shown on one line
        """
        if len(self._lines) >= MOST:
            self._more += 1
            return
        line = f"{where}: {what}"
        self._lines.append("".join(c if c.isprintable() else " " for c in line[:_LONGEST]))

    def text(self) -> bytes | None:
        """All that was told, a line each; None where there is nothing to tell."""
        if not self._lines:
            return None
        more = [f"… and {self._more} more"] if self._more else []
        return "".join(line + "\n" for line in (*self._lines, *more)).encode("utf-8", "replace")
