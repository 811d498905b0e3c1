"""Query strings → filters and queries: the grammar of API.md, "Filters". Pure.

    KEY=VALUE  KEY__OP=VALUE    conditions, all of which have to hold; OP is one of OPERATORS
    text=  regex=               words; an expression that the name is searched for
    sort= select= skip= limit= page= count= after=    which page of what holds
    all=True                    everything, where a change of everything is meant

A bare KEY that is a field of a document means the field, any other a member of the user's own
part: ``width`` is ``width``, ``site`` is ``data.site``. Dots lead into objects: ``exif.Model``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from image_repo.catalogue import literals
from image_repo.catalogue.query import Condition, Filter, Op, Path, Query, SortKey
from image_repo.catalogue.tokenizer import words
from image_repo.errors import BadParameter
from image_repo.model import regex
from image_repo.model.parameters import integer, read_boolean
from image_repo.model.record import Record

#: limits of a query
MOST_CONDITIONS, MOST_SORTS, MOST_SELECTS, MOST_TEXT_WORDS = 20, 8, 100, 20
#: members of a path: as deep as data may be nested, and ``data`` itself
MOST_LEVELS = 33
#: characters of a key
MOST_KEY = 1_000
#: documents of a page
MOST_PER_PAGE = 1_000

#: word → (schema, help): for the API description
Words = Mapping[str, tuple[dict[str, Any], str]]

#: parameters that narrow a filter beside its conditions
FILTER_WORDS: Words = {
    "regex": ({"type": "string"}, "whose name matches: searched, RE2"),
    "text": ({"type": "string"}, "free text: each word is the beginning of a word of the name or of the data"),
}
#: which page of the result
PAGE_WORDS: Words = {
    "sort": ({"type": "string"}, "keys, separated by commas, a - ahead for descending: name,-data.stars"),
    "select": ({"type": "string"}, "what of each is wanted, separated by commas: name,data.site"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MOST_PER_PAGE, "default": 100}, "how many on a page"),
    "page": ({"type": "integer", "minimum": 1}, "which page"),
    "skip": ({"type": "integer", "minimum": 0}, "how many to pass over, instead of page"),
    "count": ({"type": "string", "enum": ["exact"]}, "exact: all that match are counted, however many"),
    "after": ({"type": "string"}, "as in the link to the next page"),
}
#: the parameter to change everything
BULK_WORDS: Words = {"all": ({"type": "boolean"}, "everything is meant, if there is no filter")}

#: operator → help
OPERATORS: Mapping[str, str] = {
    "eq": "equal, as without an operator",
    "equals": "the same",
    "ne": "not equal, or not there",
    "gt": "greater",
    "gte": "greater or equal",
    "lt": "less",
    "lte": "less or equal",
    "in": "one of these, separated by commas",
    "nin": "none of these, or not there",
    "regex": "text that matches: searched, RE2",
    "exists": "True: there at all; False: not there",
}
_OPS: Mapping[str, Op] = {
    "eq": "eq", "ne": "ne", "gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte",
    "in": "eq", "nin": "ne", "regex": "regex", "exists": "exists",
}  # fmt: skip
#: operators after a single underscore, where that is allowed; the longest first
_SINGLE = ("_gte", "_lte", "_gt", "_lt", "_ne")
_WORDS = frozenset({*FILTER_WORDS, *PAGE_WORDS, *BULK_WORDS})
#: common keys that are one slip away from a parameter
_ORDINARY = frozenset((
    "age", "alter", "aster", "bind", "cage", "county", "court", "elect", "ext", "find", "fort", "gage", "hind", "kid",
    "kin", "king", "mind", "mort", "mount", "next", "pace", "pale", "pane", "port", "rage", "rind", "sage", "ship",
    "short", "size", "ski", "skim", "skin", "slip", "snip", "soft", "soot", "sore", "sport", "tent", "test", "tex",
    "tort", "wage", "wind", "wort",
))  # fmt: skip
#: the field that is a time, in one form everywhere
_UPLOADED = ("uploaded",)
_page_number, _skipped, _per_page = integer(1, 999_999), integer(0, 999_999), integer(1, MOST_PER_PAGE)


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """What a query string asks for.

    :param everything: whether ``all=True`` is given
    :param page: the number of the page, None where it is not known
    :param rest: parameters that the caller reads by itself
    """

    query: Query
    everything: bool = False
    page: int | None = 1
    rest: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grammar:
    """The query grammar for documents of one kind.

    :param fields: members of a document that a bare key means
    :param data: the member in which any other key is looked for
    :param name: what ``regex`` alone is on
    :param texts: those fields that are never a number: ``uploaded__gte=2026`` compares text
    """

    fields: frozenset[str]
    data: str
    name: str = "name"
    texts: frozenset[str] = frozenset()

    def read(
        self,
        pairs: Iterable[tuple[str, str]],
        known: Collection[str],
        others: Collection[str] = (),
        *,
        single_underscore: bool = False,
    ) -> ParsedQuery:
        """Reads a query string.

        :param pairs: name and value of each parameter, as decoded
        :param known: the words of this module that mean something here
        :param others: words that mean something to the caller
        :param single_underscore: whether ``KEY_gt`` is ``KEY__gt``
        :raises BadParameter: for what is given twice, has a bad value, is too much, or looks like a slip
        """
        settings: dict[str, str] = {}
        conditions: dict[tuple[Path, str], Condition] = {}
        for name, text in pairs:
            if name in known or name in others:
                _once(name, name in settings)
                settings[name] = text
                continue
            path, operator = self._key(name, (*known, *others), single_underscore=single_underscore)
            _once(name, (path, operator) in conditions)
            conditions[path, operator] = self._condition(_shown(name), path, operator, text)
            if len(conditions) > MOST_CONDITIONS:
                raise BadParameter(_shown(name), f"At most {MOST_CONDITIONS} conditions are taken.")
        rest = {name: settings.pop(name) for name in others if name in settings}
        return self._wanted(self._filter(tuple(conditions.values()), settings), settings, rest)

    def path(self, parameter: str, text: str) -> Path:
        """Where a key leads.

        :raises BadParameter: for an empty member, too many, or too many characters
        """
        members = tuple(text.split("."))
        if not all(members):
            raise BadParameter.expected("a key such as width or data.site.plot", parameter, text)
        path = members if members[0] in self.fields else (self.data, *members)
        if len(path) > MOST_LEVELS or len(text) > MOST_KEY:
            raise BadParameter.expected(f"a key of at most {MOST_LEVELS} members", parameter, text)
        return path

    def _key(self, name: str, known: Collection[str], *, single_underscore: bool) -> tuple[Path, str]:
        """Where a parameter leads, and its operator."""
        key, operator = _split(name, single_underscore=single_underscore)
        if key == name and "." not in key and key not in self.fields:
            _refuse_slips(_shown(name), known, f"{self.data}.{_shown(name)} means the field of that name.")
        return self.path(_shown(name), key), "eq" if operator == "equals" else operator

    def _condition(self, name: str, path: Path, operator: str, text: str) -> Condition:
        op = _OPS[operator]
        if path == (self.name,):
            text = unicodedata.normalize("NFC", text)  # as names are
        if path == _UPLOADED and op not in ("regex", "exists") and not operator.endswith("in"):
            text = literals.instant(text)
        if op == "regex":
            return _regex(name, path, text)
        if op == "exists":
            return Condition(path, op, (read_boolean(name, text),))
        if op in ("eq", "ne"):
            return Condition(path, op, literals.listed(name, text) if operator.endswith("in") else literals.equal(text))
        numbers = len(path) > 1 or path[0] not in self.texts
        return Condition(path, op, (literals.than(name, text, numbers=numbers),))

    def _filter(self, conditions: tuple[Condition, ...], settings: Mapping[str, str]) -> Filter:
        named = (self._condition("regex", (self.name,), "regex", settings["regex"]),) if "regex" in settings else ()
        return Filter((*named, *conditions), words=_free_text(settings["text"]) if "text" in settings else ())

    def _wanted(self, wanted: Filter, settings: Mapping[str, str], rest: Mapping[str, str]) -> ParsedQuery:
        limit = _per_page("limit", settings.get("limit", "100"))
        number = _page_number("page", settings["page"]) if "page" in settings else None
        after = settings.get("after")
        skip = _pass_over(settings) if "skip" in settings else ((number or 1) - 1) * limit
        query = Query(
            wanted,
            order=self._order(settings["sort"]) if "sort" in settings else (),
            select=tuple(self._paths("select", settings["select"], MOST_SELECTS)) if "select" in settings else (),
            skip=0 if after is not None else skip,
            limit=limit,
            after=after,
            exact="count" in settings and self._exact(settings["count"]),
        )
        # Behind `after`, the number is only the name of the page: nothing is skipped.
        called = skip // limit + 1 if after is None else number
        return ParsedQuery(query, "all" in settings and read_boolean("all", settings["all"]), called, rest)

    def _order(self, text: str) -> tuple[SortKey, ...]:
        keys: dict[Path, SortKey] = {}
        for each in _separated("sort", text, MOST_SORTS):
            key = each.removeprefix("-")
            if key != key.strip() or key.startswith(("-", "+")):
                raise BadParameter.expected("KEY or -KEY", "sort", each)
            path = self.path("sort", key)
            if path in keys:
                raise BadParameter.expected("each key once", "sort", text)
            keys[path] = SortKey(path, descending=each.startswith("-"))
        return tuple(keys.values())

    def _paths(self, parameter: str, text: str, most: int) -> Iterator[Path]:
        return (self.path(parameter, each) for each in _separated(parameter, text, most))

    def _exact(self, text: str) -> bool:
        if text.lower() != "exact":
            hint = f"{self.data}.count means the field of that name."
            raise BadParameter("count", f"Expected exact for count but received {_shown(text)!r}. {hint}")
        return True


#: the public form of a record
IMAGES = Grammar(
    fields=frozenset(Record.description("", {}).public()),
    data="data",
    texts=frozenset(("name", "version", "sha256", "image_id", "media_type", "filename", "uploaded", "owner")),
)


def _split(name: str, *, single_underscore: bool) -> tuple[str, str]:
    """Key and operator of a parameter's name."""
    key, two, operator = name.rpartition("__")
    if two and operator in OPERATORS:
        return key, operator
    if two and "." not in name:  # with dots, a member may be called anything
        operators = ", ".join(OPERATORS)
        raise BadParameter(_shown(name), f"Expected an operator behind the __ of {_shown(name)!r}: one of {operators}.")
    ending = next((ending for ending in _SINGLE if name.endswith(ending)), "") if single_underscore else ""
    return name.removesuffix(ending), ending[1:] or "eq"


def _refuse_slips(name: str, known: Collection[str], hint: str) -> None:
    """Refuses what was probably meant to be a word: a filter that finds nothing would not tell.

    :raises BadParameter: for a word that means nothing here, and for what is one slip away from one that does
    """
    if name in _WORDS:
        raise BadParameter(name, f"The parameter {name} means nothing here. {hint}")
    if "[" in name:  # the operators of other APIs: key[gte]
        raise BadParameter(name, f"Expected an operator as in KEY__gte, not in brackets. {hint}")
    if name not in _ORDINARY:
        # Parameters of other requests are near misses too.
        near = next((word for word in (*known, *sorted(_WORDS)) if _one_slip(name, word)), None)
        if near:
            raise BadParameter(name, f"There is no parameter {name!r}. Did you mean {near}? {hint}", nearest=near)


def _one_slip(given: str, word: str) -> bool:
    """Whether a letter too many, too few, another, or two in the wrong order make one of the other (Damerau).

    Words of three letters are too near to everything.
    """
    given = given.lower()
    if len(word) < 4 or abs(len(given) - len(word)) > 1:
        return False
    same = next((at for at, (one, other) in enumerate(zip(given, word, strict=False)) if one != other), None)
    if same is None:
        return True
    here, there = given[same:], word[same:]
    swapped = here[:2] == there[1::-1] and here[2:] == there[2:]
    return swapped or here[1:] == there[1:] or here[1:] == there or here == there[1:]


def _once(name: str, again: bool) -> None:
    if again:
        raise BadParameter(_shown(name), f"The parameter {_shown(name)} is given more than once.")


def _shown(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"


def _separated(parameter: str, text: str, most: int) -> list[str]:
    keys = text.split(",", most)
    if len(keys) > most:
        raise BadParameter(parameter, f"At most {most} keys are taken for {parameter}.")
    return keys


def _pass_over(settings: Mapping[str, str]) -> int:
    other = next((name for name in ("page", "after") if name in settings), None)
    if other:
        raise BadParameter("skip", f"Expected either skip or {other}, not both.")
    return _skipped("skip", settings["skip"])


def _regex(name: str, path: Path, text: str) -> Condition:
    return Condition(path, "regex", (text,), regex.searcher(name, text))


def _free_text(text: str) -> tuple[str, ...]:
    searched = words(text)
    if not searched:
        raise BadParameter.expected("words", "text", text)
    if len(searched) > MOST_TEXT_WORDS:
        raise BadParameter("text", f"At most {MOST_TEXT_WORDS} words are taken for text.")
    return searched
