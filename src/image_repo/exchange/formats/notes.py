"""Notes of an export about what it had to leave out."""

from __future__ import annotations

#: notes that are written out; further ones are counted
MAX_NOTES = 1_000
_MAX_CHARACTERS = 300


def notes_member(format_: str) -> str:
    """Return the name of the member that holds the notes of a format."""
    return f"_{format_}_notes.txt"


def is_note(name: str) -> bool:
    """Return whether a member holds notes: no picture has such an ending."""
    return name.startswith("_") and name.endswith("_notes.txt")


class Notes:
    """Lines for people; their number is bounded."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._omitted = 0

    def add(self, subject: str, text: str) -> None:
        """Add a note.

        :param subject: the image or the thing that the note is about; hostile text is escaped to one line
        """
        if len(self._lines) >= MAX_NOTES:
            self._omitted += 1
            return
        line = f"{subject}: {text}"
        self._lines.append("".join(c if c.isprintable() else " " for c in line[:_MAX_CHARACTERS]))

    def text(self) -> bytes | None:
        """Return all notes, a line each; None if there are none."""
        if not self._lines:
            return None
        omitted = [f"… and {self._omitted} more"] if self._omitted else []
        return "".join(line + "\n" for line in (*self._lines, *omitted)).encode("utf-8", "replace")
