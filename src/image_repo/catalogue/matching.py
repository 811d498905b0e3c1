"""What matches a filter: by which access path it is found, how many there are, and an estimate where they are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, true
from sqlalchemy.sql.expression import Select

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.evaluator import holds_inside
from image_repo.catalogue.near import BANDS_PATH, near_names, probes
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.sort_keys import LEAD, Reach, reaches
from image_repo.catalogue.writing import all_keys

#: matches that are counted one by one; beyond, they are estimated
MOST_COUNTED = 10_000
#: an access path to more documents than these is not used: all documents are scanned
MAX_NARROW = 20_000
#: documents in the sample of an estimate
_SAMPLE = 256
#: rows at a time
STREAM = 5_000

_NAME, _DIGEST = ("name",), ("sha256",)


class Matching:
    """A filter with its conditions and access paths, for one connection and the state that it sees."""

    def __init__(self, connection: Connection, dialect: Dialect, criteria: Filter) -> None:
        self._connection = connection
        self._dialect = dialect
        self._tables = dialect.tables
        self._filter = criteria
        self._conditions = as_stored(criteria).conditions
        self._keys = all_keys(connection, dialect, filled=True)
        self._reaches = reaches(self._conditions, self._keys)
        self._widths: dict[Reach, int] = {}

    # -- conditions ---------------------------------------------------------------------

    @cached_property
    def _near(self) -> dict[int, list[str]]:
        """The names of near duplicates, by the place of their condition."""
        places = [place for place, condition in enumerate(self._conditions) if condition.op == "near"]
        return {place: self._names_near(self._conditions[place]) for place in places}

    def _names_near(self, condition: Condition) -> list[str]:
        facts = self._tables.facts
        number = next(key.number for key in self._keys if key.path == BANDS_PATH)
        bands = list(map(collation.sortable, probes(condition)))
        query = select(facts.c.sort, facts.c.name).where(facts.c.key == number, facts.c.value.in_(bands))
        rows = self._connection.execute(query.execution_options(yield_per=STREAM))
        return near_names(condition, ((bytes(bits), name) for bits, name in rows))

    @cached_property
    def _parts(self) -> list[ColumnElement[bool]]:
        """The conditions of a document: one for each of the filter, then the others."""
        names = self._tables.documents.c.name
        parts = [
            self._dialect.among(names, self._near[place]) if place in self._near else self._holds(condition)
            for place, condition in enumerate(self._conditions)
        ]
        if self._filter.prefix:
            parts.append(begins(names, self._filter.prefix))
        if self._filter.words:
            parts.append(self._dialect.has_words(self._filter.words))
        number = self._tables.documents.c.id
        for place, condition in enumerate(self._conditions):
            if texts := self._texts(condition):
                parts[place] = self._dialect.among(number, self._searched(condition, texts, and_(self._way(), *parts)))
        return parts

    def _holds(self, condition: Condition) -> ColumnElement[bool]:
        if not self._texts(condition):
            return self._dialect.holds(condition)
        inside = tuple(part for part in condition.inside if not _is_searched(part))
        return self._dialect.holds(replace(condition, inside=inside)) if inside else true()

    def _texts(self, condition: Condition) -> Callable[[Path, str], Select[Any]] | None:
        """Return the query for texts that are searched here, because the engine has no safe regular expressions."""
        return self._dialect.texts if _is_searched(condition) else None

    @property
    def is_searched(self) -> bool:
        """Whether finding what matches means to read much: then it is done once."""
        return bool(self._near) or any(map(self._texts, self._conditions))

    def _searched(
        self, condition: Condition, texts: Callable[[Path, str], Select[Any]], where: ColumnElement[bool]
    ) -> list[int]:
        """Return ids of documents whose text matches a regular expression: RE2 searches here, in bounded time."""
        test, kind = condition.test, "string"
        if condition.op == "element":
            test, kind = (lambda text: holds_inside(condition, encoding.decode(text))), "object"
        if test is None:
            return []
        documents = self._tables.documents
        is_name = condition.path == _NAME
        query = select(documents.c.id, documents.c.name) if is_name else texts(condition.path, kind)
        rows = self._connection.execute(query.where(where).execution_options(yield_per=STREAM))
        matches: dict[int, None] = {}
        for part in rows.partitions():
            matches |= {number: None for number, text in part if number not in matches and test(text)}
        return list(matches)

    def _where(self, covered: frozenset[int] = frozenset()) -> ColumnElement[bool]:
        return and_(true(), *(part for place, part in enumerate(self._parts) if place not in covered))

    def _is_covered(self, covers: frozenset[int]) -> bool:
        return len(covers) == len(self._conditions) + bool(self._filter.prefix) + bool(self._filter.words)

    def matching(self) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of all documents that match."""
        return self._way(), self._where()

    def leads(self, path: Path) -> Iterator[tuple[bytes, int]]:
        """Return each value at a path as sortable bytes, and how often it occurs; nothing where facts do not tell."""
        facts = self._tables.facts
        for key in self._keys:
            if key.path == path and key.sort is None and not key.several:
                there = [facts.c.key == key.number, facts.c.sort == LEAD, facts.c.value > bytes((collation.MISSING,))]
                grouped = select(facts.c.value, func.count()).where(*there).group_by(facts.c.value)
                return map(tuple, self._connection.execute(grouped.execution_options(yield_per=STREAM)))
        return iter(())

    # -- how many --------------------------------------------------------------------------

    def count(self, most: int | None = None) -> int:
        """Count what matches.

        :param most: where counting ends
        """
        for reach in self._reaches:
            if reach.exact and self._is_covered(reach.covers):
                return self._count(self._names_of(reach), most)
        query = select(self._tables.documents.c.id).where(self._way(), self._where())
        return self._count(query, most)

    def _count(self, query: Select[Any], most: int | None) -> int:
        counting = select(func.count()).select_from(query.limit(most).subquery())
        return int(self._connection.execute(counting).scalar_one())

    def estimate(self) -> int:
        """Estimate how many match, where they are too many to count, from a sample."""
        numbers = self._tables.documents.c.id
        # each by itself, so that SQLite takes it from an end
        ends = (select(end(numbers)).scalar_subquery() for end in (func.min, func.max))
        first, last = self._connection.execute(select(*ends)).one()
        if first is None:
            return 0
        span = last - first + 1
        sample = sorted({first + step * span // _SAMPLE for step in range(_SAMPLE)})
        fitting = select(numbers).where(self._dialect.among(numbers, sample), self._where())
        hits = self._count(fitting, None)
        return max(MOST_COUNTED + 1, int(hits * span // len(sample)))

    def gathered(self, most: int) -> list[str]:
        """Return the names of those that match, in no order, at most so many."""
        query = select(self._tables.documents.c.name).where(self._way(), self._where())
        for reach in self._reaches:
            if reach.exact and self._is_covered(reach.covers):
                query = self._names_of(reach)
        return list(self._connection.execute(query.limit(most)).scalars())

    def _way(self) -> ColumnElement[bool]:
        """Return the narrowest access path as a condition; true where there is none."""
        documents = self._tables.documents
        columns: dict[Path, ColumnElement[str]] = {_NAME: documents.c.name, _DIGEST: documents.c.digest}
        for condition in self._conditions:
            column = columns.get(condition.path)
            if column is not None and condition.op == "eq" and all(isinstance(each, str) for each in condition.values):
                return self._dialect.among(column, condition.values)
        if self._near:
            return self._dialect.among(documents.c.name, min(self._near.values(), key=len))
        narrow = min(self._reaches, key=self._width, default=None) if self._reaches else None
        if narrow is None or self._width(narrow) > MAX_NARROW:
            return true()
        return documents.c.name.in_(self._names_of(narrow, distinct=False))

    def _width(self, reach: Reach) -> int:
        """Return to how many names a reach leads, up to a maximum."""
        if reach not in self._widths:
            self._widths[reach] = self._count(self._names_of(reach, distinct=False), MAX_NARROW + 1)
        return self._widths[reach]

    def _names_of(self, reach: Reach, *, distinct: bool = True) -> Select[Any]:
        """Return the query for the names of a reach."""
        query = select(self._tables.facts.c.name).where(*self._within(reach))
        return query.distinct() if distinct and reach.may_repeat else query

    def _within(self, reach: Reach) -> tuple[ColumnElement[bool], ...]:
        facts = self._tables.facts
        key = facts.c.key == reach.key.number
        if reach.is_point:
            return key, facts.c.value == reach.points[0]
        if reach.points:
            return key, facts.c.value.in_(reach.points)
        return key, facts.c.value >= reach.low, facts.c.value < reach.high


def _is_searched(condition: Condition) -> bool:
    return condition.op == "regex" or any(map(_is_searched, condition.inside))


def begins(name: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    begin = encoding.storable(prefix)
    end = _behind_all(begin)
    return and_(name >= begin, name < end) if end else name >= begin


def _behind_all(prefix: str) -> str | None:
    """Return the least text after all that have this prefix; None where there is none."""
    bare = prefix.rstrip("\U0010ffff")
    if not bare:
        return None
    last = ord(bare[-1]) + 1
    return bare[:-1] + chr(0xE000 if last == 0xD800 else last)


def as_stored(criteria: Filter) -> Filter:
    """Return a filter in the spelling of stored documents."""
    return replace(criteria, conditions=tuple(map(_condition_as_stored, criteria.conditions)))


def _condition_as_stored(condition: Condition) -> Condition:
    values = tuple(encoding.storable(value) if isinstance(value, str) else value for value in condition.values)
    test = condition.test
    return Condition(
        encoding.members(condition.path),
        condition.op,
        values,
        test and (lambda text: test(encoding.original(text))),
        tuple(map(_condition_as_stored, condition.inside)),
    )
