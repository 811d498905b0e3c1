"""Formats of flat records: a row for each picture, with the record's own members, ``exif.KEY`` and ``data.KEY``.

Each column has one type, inferred from every record; values without a common type are JSON text.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import Any

from image_repo.exchange.base import About, Exported
from image_repo.exchange.formats import coercion
from image_repo.exchange.formats.base import FormatWriter, TableMember
from image_repo.exchange.formats.columns import Column, Columns
from image_repo.exchange.formats.tables import guarded

#: the record's own members, in this order, before those of `exif` and `data`
_MEMBERS = ("name", "media_type", "bytes", "width", "height", "filename", "uploaded", "owner", "image_id")
_ROWS_PER_GROUP = 10_000


class FlatWriter(FormatWriter):
    """Spools flat records to disk until all columns are known.

    :param rename: returns the name of the column of a key
    """

    def __init__(self, about: About, rename: Callable[[str], str] = str) -> None:
        super().__init__(about)
        self._columns = Columns(self._notes, rename)
        self._spool = self._temporary()

    def add(self, exported: Exported) -> None:
        """Add the next picture; descriptions have none."""
        if exported.file is None:
            return
        record = {"file_name": exported.file.name, **_flat(exported.document)}
        record |= {"width": exported.file.width, "height": exported.file.height, "bytes": exported.file.size}
        record["media_type"] = exported.file.media_type
        self._columns.add(record)
        self._spool.write(json_line(record))

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Yield the records with the types of their columns, without nulls."""
        self._spool.seek(0)
        return (self._columns.row(json.loads(line)) for line in self._spool)


class Csv(FlatWriter):
    """A table for spreadsheets (RFC 4180), in UTF-8 with a byte order mark, which Excel needs."""

    name = "csv"
    help = "CSV: records.csv with a column for each key"

    def _tables(self, newest: float) -> Iterator[TableMember]:
        file, names = self._temporary(), [column.name for column in self._columns]
        file.write("\ufeff".encode() + _csv_line(names))
        for row in self._rows():
            file.write(_csv_line([_cell(row.get(name)) for name in names]))
        file.seek(0)
        yield "records.csv", file


class Parquet(FlatWriter):
    """A typed table for data frames."""

    name = "parquet"
    help = "Parquet: records.parquet with a column for each key (pip install 'image_repo[parquet]')"

    extra = ("parquet", "pyarrow")

    def _tables(self, newest: float) -> Iterator[TableMember]:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        schema = arrow.schema([(column.name, _arrow_type(arrow, column)) for column in self._columns])
        file, rows = self._temporary(), self._rows()
        with parquet.ParquetWriter(file, schema) as writer:
            while group := list(islice(rows, _ROWS_PER_GROUP)):
                writer.write_table(arrow.Table.from_pylist(group, schema))
        file.seek(0)
        yield "records.parquet", file


def _arrow_type(arrow: Any, column: Column) -> Any:
    types = {"boolean": arrow.bool_(), "integer": arrow.int64(), "float": arrow.float64(), "text": arrow.string()}
    return arrow.list_(types[column.kind]) if column.repeated else types[column.kind]


def _csv_line(cells: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return guarded(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    flat = {name: document.get(name) for name in _MEMBERS}
    for part, values in (("exif", coercion.facts(document)), ("data", coercion.user_data(document))):
        flat |= {f"{part}.{key}": value for key, value in values.items()}
    return flat


def json_line(record: Mapping[str, Any]) -> bytes:
    """Return a line of JSON."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"
