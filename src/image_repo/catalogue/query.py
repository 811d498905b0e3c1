"""Queries of the catalogue: conditions, order, page. Pure.

A filter holds or does not hold for a *document*: the public form of a record
(:meth:`image_repo.model.record.Record.public`), JSON and nothing else. This module says what
each condition means, and :func:`holds` is that meaning in Python; an index may get there
in other ways, but never elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

#: what a value of a document may be compared with
Scalar = str | int | float | bool | None
#: members from the root of a document: ``("width",)``, ``("data", "site", "plot")``
Path = tuple[str, ...]
#: ``in`` and ``nin`` are ``eq`` and ``ne`` with several values
Op = Literal["eq", "ne", "gt", "gte", "lt", "lte", "regex", "near", "exists", "element"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. Its path reaches values: it goes into objects, and into each element of an array.

    An array at the end of the path reaches its elements. Then, over the values reached:

    * ``eq``: one of them is one of ``values``. ``ne``: one of them is none of ``values``, or nothing is reached.
    * ``gt gte lt lte``: one of them is of the kind of the only value (a number or text) and stands so to it.
      Numbers compare as numbers, text by code points: ISO 8601 times of one form in their order.
    * ``regex``: one of them is text in which the only value, an expression of RE2, is found.
    * ``near``: one of them is a hash that differs from the first value in at most as many bits as the second says.
    * ``exists``: something is there at all, an empty array or null too (``values`` is ``(True,)``), or nothing is.
    * ``element``: one of them is an object for which all conditions ``inside`` hold, with paths from there.

    Objects, and arrays in arrays, equal nothing and differ from everything.

    :param test: the test of ``regex`` and ``near``; takes the text
    :param inside: the conditions of ``element``
    """

    path: Path
    op: Op
    values: tuple[Scalar, ...]
    test: Callable[[str], bool] | None = field(default=None, compare=False)
    inside: tuple[Condition, ...] = ()

    def parts(self) -> Iterator[Condition]:
        """Yield the conditions on values that this one consists of, with paths from the root."""
        if self.op != "element":
            yield self
        for each in self.inside:
            yield from replace(each, path=self.path + each.path).parts()

    @property
    def holds_for_nothing(self) -> bool:
        """Whether it holds where nothing is at its path."""
        return self.op == "ne" or (self.op == "exists" and self.values == (False,))


#: no name begins with it
_NO_NAME = "//"
_NAME: Path = ("name",)


def _below(condition: Condition, folder: str) -> Condition:
    """Return a condition on whole names, of one on the names below a folder."""
    test = condition.test
    if test is not None:
        return replace(condition, test=lambda text: test(text.removeprefix(folder)))
    if condition.op == "exists":
        return condition
    return replace(
        condition, values=tuple(folder + each if isinstance(each, str) else each for each in condition.values)
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all have to hold.

    :param prefix: names that begin with it: empty, or a folder with its ``/``
    :param words: of free text: each is the beginning of a word of the name or of the user's data (:mod:`.tokenizer`)
    """

    conditions: tuple[Condition, ...] = ()
    prefix: str = ""
    words: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it holds for everything."""
        return not (self.conditions or self.prefix or self.words)

    def parts(self) -> Iterator[Condition]:
        """Yield all conditions on values, with paths from the root."""
        return (part for condition in self.conditions for part in condition.parts())

    def below(self, folder: str) -> Filter:
        """Return the filter over whole names, of one over the names below a folder.

        :param folder: with its ``/``; empty for none
        """
        if not folder:
            return self
        conditions = tuple(_below(each, folder) if each.path == _NAME else each for each in self.conditions)
        return replace(self, conditions=conditions, prefix=folder + self.prefix)

    def __and__(self, other: Filter) -> Filter:
        """Return the filter that holds where both do."""
        if other.is_empty or self.is_empty:
            return self if other.is_empty else other
        short, long = sorted((self.prefix, other.prefix), key=len)
        prefix = long if long.startswith(short) else _NO_NAME
        return Filter(self.conditions + other.conditions, prefix, self.words + other.words)


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order. What has nothing there, or more than one value, stands as :mod:`.collation` says."""

    path: Path
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A query for a page. The last key of every order is the name, ascending.

    :param select: paths of each document to return; empty for all of it
    :param after: the cursor of the page before, :attr:`image_repo.catalogue.base.Page.after`; ``skip`` is 0 then
    :param exact: whether all that match are counted, however many
    """

    filter: Filter = Filter()
    order: tuple[SortKey, ...] = ()
    select: tuple[Path, ...] = ()
    skip: int = 0
    limit: int = 100
    after: str | None = None
    exact: bool = False

    def paths(self) -> tuple[Path, ...]:
        """Return all paths that it names."""
        conditions = (part.path for part in self.filter.parts())
        return tuple(dict.fromkeys((*conditions, *(key.path for key in self.order), *self.select)))
