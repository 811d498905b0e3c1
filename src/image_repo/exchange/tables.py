"""Read tables as spreadsheets write them: CSV with any common separator and encoding, and XLSX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from image_repo.errors import BrokenArchive, LibraryMissing

#: column → text; empty cells are empty text
Row = Mapping[str, str]
_MAX_CELL_CHARACTERS = 1 << 20


def read_table(path: Path) -> Iterator[Row]:
    """Yield the rows of a ``.csv`` or ``.xlsx`` file; the first line names the columns.

    :raises BrokenArchive: if it cannot be read
    :raises LibraryMissing: for ``.xlsx`` without openpyxl
    """
    return _read_xlsx(path) if path.suffix.lower() == ".xlsx" else read_csv(path.read_bytes())


def read_csv(content: bytes) -> Iterator[Row]:
    """Yield the rows of a CSV table (RFC 4180), in UTF-8 or Windows-1252, separated by comma, semicolon or tab.

    :raises BrokenArchive: if it cannot be read
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        columns = [name.strip() for name in next(lines, [])]
        for cells in lines:
            if any(cells):
                yield dict(zip(columns, (cell.strip() for cell in cells), strict=False))
    except csv.Error as error:
        raise BrokenArchive(f"The table cannot be read: {error}.") from error


def _read_xlsx(path: Path) -> Iterator[Row]:
    """Yield the rows of the first sheet."""
    try:
        from openpyxl import load_workbook  # noqa: PLC0415, an extra
    except ImportError as error:
        raise LibraryMissing(
            "XLSX is read by openpyxl, which is not installed: pip install 'image_repo[xlsx]'"
        ) from error
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # whatever a damaged file raises
        raise BrokenArchive(f"{path.name} is no XLSX file.") from error
    try:
        rows = workbook.worksheets[0].iter_rows(values_only=True)
        columns = [str(cell or "").strip() for cell in next(rows, ())]
        for cells in rows:
            texts = ["" if cell is None else str(cell).strip() for cell in cells]
            if any(texts):
                yield dict(zip(columns, texts, strict=False))
    finally:
        workbook.close()
