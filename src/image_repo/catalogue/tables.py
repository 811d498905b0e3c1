"""The tables of a collection, the same in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TableClause,
    Text,
    delete,
    func,
    update,
)
from sqlalchemy.types import UserDefinedType

#: incremented when the tables change: then they start empty
VERSION = 5


class Json(UserDefinedType[str]):
    """A document: text to us, whatever an engine reads fastest inside.

    :param kind: of the column, in the engine's words
    :param inward: the function that makes one of text, None where text will do
    :param outward: makes text of a column
    :param respells: whether numbers may be respelled
    """

    cache_ok = True

    def __init__(
        self, kind: str, inward: str | None, outward: Callable[[Any], ColumnElement[str]], *, respells: bool = False
    ) -> None:
        self.kind, self.inward, self.outward, self.respells = kind, inward, outward, respells

    def get_col_spec(self, **_: Any) -> str:
        return self.kind

    def bind_expression(self, bindvalue: Any) -> Any:
        return getattr(func, self.inward)(bindvalue, type_=self) if self.inward else bindvalue

    def column_expression(self, column: Any) -> ColumnElement[str]:
        return self.outward(column)


#: the note that describes the tables
MADE = ""


class Tables:
    """The tables of one collection.

    ``documents``: the rows. ``keys``: for which paths there are facts. ``facts``: for such a key, a value, what
    sorts those that have it, and a name. ``paths``: what documents have at each path, and how many of them.
    ``notes``: short texts.

    :param schema: of the tables, None where the engine has none
    :param text: the type of text that compares by code points
    """

    def __init__(self, collection: str, schema: str | None, json: Json, text: Text) -> None:
        self.metadata = MetaData(schema=schema)
        number = BigInteger().with_variant(Integer(), "sqlite")
        self.documents = _documents_table(self.metadata, collection, number, json, text)
        documents = self.documents.c
        #: a document as it was written, to be selected
        self.written: ColumnElement[str] = documents.document
        if json.respells:
            self.written = func.coalesce(documents.as_written, json.outward(documents.document))
        self.respells = json.respells
        self.keys = Table(
            f"{collection}_keys",
            self.metadata,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("path", Text, nullable=False),
            Column("sort", Text),
            # the id up to which facts are written, None when all are
            Column("filled", number),
            # whether a document has had several values
            Column("several", Boolean, nullable=False),
        )
        self.facts = Table(
            f"{collection}_facts",
            self.metadata,
            Column("key", Integer, primary_key=True, autoincrement=False),
            Column("value", LargeBinary, primary_key=True),
            Column("sort", LargeBinary, primary_key=True),
            Column("name", text, primary_key=True),
            sqlite_with_rowid=False,
        )
        self.paths = Table(
            f"{collection}_paths",
            self.metadata,
            Column("path", Text, primary_key=True),
            # of the values there, empty for whatever is there
            Column("type", Text, primary_key=True),
            Column("uses", BigInteger, nullable=False),
        )
        self.notes = Table(
            f"{collection}_notes",
            self.metadata,
            Column("what", Text, primary_key=True),
            Column("text", Text, nullable=False),
        )

    def empty(self, connection: Connection, words: TableClause) -> None:
        """Delete all documents, facts, words and notes.

        :param words: the table of words, which each engine makes in its own way
        """
        for emptied in (self.documents, self.facts, self.paths, words):
            connection.execute(delete(emptied))
        connection.execute(delete(self.notes).where(self.notes.c.what != MADE))
        connection.execute(update(self.keys).values(filled=None, several=False))


def _documents_table(metadata: MetaData, collection: str, number: BigInteger, json: Json, text: Text) -> Table:
    return Table(
        collection,
        metadata,
        Column("id", number, primary_key=True, autoincrement=False),
        Column("name", text, nullable=False, unique=True),
        Column("stamp", Text, nullable=False),
        Column("digest", Text, index=True),
        Column("document", json, nullable=False),
        # the document as it was written, where the engine respells it
        *([Column("told", Text, key="as_written")] if json.respells else []),
    )
