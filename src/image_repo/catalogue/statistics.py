"""Statistics: from facts where there are all of them, else from the documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, func, select

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.base import Statistics
from image_repo.catalogue.dialect import Dialect
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.planner import QueryPlan
from image_repo.catalogue.query import Condition, Filter, Path
from image_repo.catalogue.sort_keys import LEAD, Key

#: groups at a time
_STREAM = 5_000
_WORDS = {collation.NULL: None, collation.FALSE: False, collation.TRUE: True}


def statistics(connection: Connection, dialect: Dialect, wanted: Filter, path: Path, most: int) -> Statistics:
    """As :meth:`image_repo.catalogue.base.Index.statistics` says."""
    kept = encoding.members(path)
    asked = QueryPlan(connection, dialect, wanted)
    leads = asked.leads_of(kept) if wanted.is_empty else None
    found = _of_facts(connection, dialect, leads, most) if leads else None
    if found:
        return found
    tally = Tally()
    count = dialect.tally(connection, kept, asked.matching(), tally)
    if count is None:
        there = Condition(path, "exists", (True,))
        both = Filter((*wanted.conditions, there), wanted.prefix, wanted.words)
        count = QueryPlan(connection, dialect, both).count()
    return tally.statistics(count, most)


def _of_facts(connection: Connection, dialect: Dialect, key: Key, most: int) -> Statistics | None:
    """Statistics of a key under which there are no arrays; None where long text is cut off."""
    facts = dialect.tables.facts
    there = [facts.c.key == key.number, facts.c.sort == LEAD, facts.c.value > bytes((collation.MISSING,))]
    asked = select(facts.c.value, func.count()).where(*there).group_by(facts.c.value)
    rows = connection.execute(asked.execution_options(yield_per=_STREAM))
    tally = Tally()
    count = _add(tally, rows)
    rows.close()
    return None if count is None else tally.statistics(count, most)


def _add(tally: Tally, rows: Iterable[Any]) -> int | None:
    """Counts facts; how many documents have one. None at the first that may stand for several values."""
    count = 0
    for value, times in rows:
        count += times
        kind = value[0]
        if kind == collation.TEXT:
            if len(value) > collation.MOST_TEXT:
                return None
            tally.add(encoding.original(bytes(value[1:]).decode()), times)
        elif kind == collation.NUMBER:
            tally.add(collation.number(value), times)
        elif kind in _WORDS:
            tally.add(_WORDS[kind], times)
    return count
