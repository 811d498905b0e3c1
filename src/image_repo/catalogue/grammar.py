"""Query strings → filters and queries: the grammar of API.md, "Filters". Pure.

    KEY=VALUE  KEY__OP=VALUE    conditions, all of which have to hold; OP is one of OPERATORS
    KEY[SUB=VALUE].OTHER__OP=VALUE    conditions that one element of a list fulfils together
    text=  regex=               words; an expression that the name is searched for
    sort= select= skip= limit= page= count= after=    which page of what holds
    all=True                    everything, where a change of everything is meant

A bare KEY that is a field of a document means the field, any other a member of the user's own
part: ``width`` is ``width``, ``site`` is ``data.site``. Dots lead into objects: ``exif.Model``.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from image_repo.catalogue import literals
from image_repo.catalogue.literals import Kind
from image_repo.catalogue.near import HASH_PATH, read_near
from image_repo.catalogue.query import Condition, Filter, Op, Path, Query, SortKey
from image_repo.catalogue.tokenizer import words
from image_repo.errors import BadParameter
from image_repo.model import regex
from image_repo.model.parameters import integer, read_boolean

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
    "near": ({"type": "string"}, "near duplicates of the image NAME, or NAME,BITS: the bits of dhash that may differ"),
    "text": ({"type": "string"}, "free text: each word is the beginning of a word of the name or of the data"),
}
#: which page of the result
PAGE_WORDS: Words = {
    "sort": ({"type": "string"}, "keys, separated by commas, a - ahead for descending: name,-data.stars"),
    "select": ({"type": "string"}, "the members to return, separated by commas: name,data.site"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MOST_PER_PAGE, "default": 100}, "how many on a page"),
    "page": ({"type": "integer", "minimum": 1}, "which page"),
    "skip": ({"type": "integer", "minimum": 0}, "how many to pass over, instead of page"),
    "count": ({"type": "string", "enum": ["exact"]}, "exact: all that match are counted, however many"),
    "after": ({"type": "string"}, "as in the link to the next page"),
}
#: the parameter to change everything
BULK_WORDS: Words = {
    "all": ({"type": "boolean"}, "everything is meant, without a filter or with one on keys that no record has"),
    "dry": ({"type": "boolean"}, "how many match, and nothing is changed"),
}

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
    "eq": "eq", "equals": "eq", "ne": "ne", "gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte",
    "in": "eq", "nin": "ne", "regex": "regex", "exists": "exists",
}  # fmt: skip
#: operators after a single underscore, where that is allowed; the longest first
_SINGLE = ("_gte", "_lte", "_gt", "_lt", "_ne")
_WORDS = frozenset({*FILTER_WORDS, *PAGE_WORDS, *BULK_WORDS})
#: parameters of similar systems → what has their meaning here
_ELSEWHERE: Mapping[str, str] = {
    "ids": "name__in=NAME,NAME", "from": "uploaded__gte", "to": "uploaded__lt", "order": "sort=-KEY",
    "total": "count=exact", "filter": "KEY__OP=VALUE", "offset": "skip", "per_page": "limit", "fields": "select",
    "q": "text",
}  # fmt: skip
#: ``[SUB=VALUE]`` behind a key; the value may be a JSON string
_INSIDE = re.compile(r'\[([^=\[\]]+)=("(?:[^"\\]|\\.)*"|[^\]]*)\]', re.DOTALL)
_NATURES: Mapping[Kind, str] = {"object": "an object", "number": "a number"}
_page_number, _skipped, _per_page = integer(1, 999_999), integer(0, 999_999), integer(1, MOST_PER_PAGE)


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """What a query string asks for.

    :param everything: whether ``all=True`` is given
    :param dry: whether ``dry=True`` is given
    :param page: the number of the page, None where it is not known
    :param rest: parameters that the caller reads by itself
    """

    query: Query
    everything: bool = False
    dry: bool = False
    page: int | None = 1
    rest: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grammar:
    """The query grammar for documents of one kind.

    :param fields: members of a document that a bare key means, with the kind of their values
    :param data: the member in which any other key is looked for
    :param name: what ``regex`` alone is on
    """

    fields: Mapping[str, Kind]
    data: str
    name: str = "name"

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
        :raises BadParameter: for a word that is given twice or means nothing here, a bad value, or too much
        """
        settings: dict[str, str] = {}
        conditions: list[Condition] = []
        for name, text in pairs:
            if name in known or name in others:
                if name in settings:
                    raise BadParameter(_shown(name), f"The parameter {_shown(name)} is given more than once.")
                settings[name] = text
                continue
            self._refuse_words(name)
            conditions.append(self._read_condition(name, text, single_underscore=single_underscore))
            if sum(1 for condition in conditions for _ in condition.parts()) > MOST_CONDITIONS:
                raise BadParameter(_shown(name), f"At most {MOST_CONDITIONS} conditions are taken.")
        rest = {name: settings.pop(name) for name in others if name in settings}
        return self._parsed_query(self._filter(tuple(conditions), settings), settings, rest)

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

    def key(self, path: Path) -> str:
        """Return the shortest key that leads to a path."""
        short = path[1:] if path[0] == self.data and path[1:] and path[1] not in self.fields else path
        text = ".".join(short)
        return text if text not in _WORDS else ".".join(path)

    def nearest(self, path: Path, keys: Iterable[Path]) -> str | None:
        """Return what was probably meant by a key that no document has; None where nothing is near.

        :param keys: that documents have
        """
        given = self.key(path)
        if given in _ELSEWHERE:
            return _ELSEWHERE[given]
        known = {self.key(each).lower(): self.key(each) for each in keys} | {word: word for word in _WORDS}
        near = difflib.get_close_matches(_shown(given).lower(), known, n=1)
        return known[near[0]] if near else None

    def _refuse_words(self, name: str) -> None:
        if name in _WORDS:
            raise BadParameter(name, f"The parameter {name} means nothing here. {self._hint(name)}")

    def _hint(self, name: str) -> str:
        return f"{self.data}.{_shown(name)} means the field of that name."

    def _read_condition(self, name: str, text: str, *, single_underscore: bool) -> Condition:
        whole = f"{name}={text}"  # the first = may be one in brackets
        parts = list(_inside(whole, name.find("[")))
        if parts:
            return self._element(whole, parts, single_underscore=single_underscore)
        if "[" in name and "." not in name:  # the operators of other APIs: key[gte]
            raise BadParameter(
                _shown(name), f"Expected KEY__gte for an operator, KEY[SUB=VALUE].OTHER for a list. {self._hint(name)}"
            )
        key, operator = _split(name, single_underscore=single_underscore)
        return self._condition(_shown(name), self.path(_shown(name), key), operator, text)

    def _element(self, whole: str, parts: list[re.Match[str]], *, single_underscore: bool) -> Condition:
        """Return the condition that one element of a list fulfils several others."""
        name = _shown(whole)
        pairs = [(part[1], part[2]) for part in parts]
        rest = whole[parts[-1].end() :]
        if rest:
            other, equals, text = rest.removeprefix(".").partition("=")
            if not rest.startswith(".") or not equals:
                raise BadParameter.expected("KEY[SUB=VALUE].OTHER=VALUE", name, whole)
            pairs.append((other, text))
        path = self.path(name, whole[: parts[0].start()])
        inside = []
        for given, text in pairs:
            key, operator = _split(given, single_underscore=single_underscore)
            below = self.path(name, ".".join((*path, key)))[len(path) :]
            inside.append(self._condition(name, below, operator, text, is_inside=True))
        return Condition(path, "element", (), inside=tuple(inside))

    def _condition(self, name: str, path: Path, operator: str, text: str, *, is_inside: bool = False) -> Condition:
        op = _OPS[operator]
        kind: Kind = "any" if is_inside or path[1:] else self.fields[path[0]]
        if op == "exists":
            return Condition(path, op, (read_boolean(name, text),))
        if kind == "object" or (kind == "number" and op == "regex"):
            raise BadParameter(name, f"{path[0]} is {_NATURES[kind]}: {operator} never holds for it.")
        if path == (self.name,) and not is_inside:
            text = unicodedata.normalize("NFC", text)  # as names are
        if op == "regex":
            return Condition(path, op, (text,), regex.searcher(name, text))
        if op in ("eq", "ne"):
            read = literals.listed if operator.endswith("in") else literals.equal
            return Condition(path, op, read(name, text, kind))
        return Condition(path, op, (literals.than(name, text, kind),))

    def _filter(self, conditions: tuple[Condition, ...], settings: Mapping[str, str]) -> Filter:
        named = (self._named(settings["regex"]),) if "regex" in settings else ()
        near = (self._near(settings["near"]),) if "near" in settings else ()
        return Filter((*named, *near, *conditions), words=_free_text(settings["text"]) if "text" in settings else ())

    def _near(self, text: str) -> Condition:
        if HASH_PATH[0] not in self.fields:
            raise BadParameter("near", f"The parameter near means nothing here. {self._hint('near')}")
        return read_near("near", text)

    def _named(self, text: str) -> Condition:
        if text.lower() in ("true", "false"):
            raise BadParameter("regex", f"Expected an expression for {self.name}; KEY__regex=EXPRESSION is for a key.")
        return self._condition("regex", (self.name,), "regex", text)

    def _parsed_query(self, criteria: Filter, settings: Mapping[str, str], rest: Mapping[str, str]) -> ParsedQuery:
        limit = _per_page("limit", settings.get("limit", "100"))
        number = _page_number("page", settings["page"]) if "page" in settings else None
        after = settings.get("after")
        skip = _pass_over(settings) if "skip" in settings else ((number or 1) - 1) * limit
        query = Query(
            criteria,
            order=self._order(settings["sort"]) if "sort" in settings else (),
            select=tuple(self._paths("select", settings["select"], MOST_SELECTS)) if "select" in settings else (),
            skip=0 if after is not None else skip,
            limit=limit,
            after=after,
            exact="count" in settings and self._exact(settings["count"]),
        )
        # Behind `after`, the number is only the name of the page: nothing is skipped.
        called = skip // limit + 1 if after is None else number
        everything, dry = (word in settings and read_boolean(word, settings[word]) for word in BULK_WORDS)
        return ParsedQuery(query, everything, dry, called, rest)

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
    fields={
        "name": "text", "version": "text", "sha256": "text", "image_id": "text", "media_type": "text",
        "filename": "text", "owner": "text", "uploaded": "time", "bytes": "number", "width": "number",
        "height": "number", "dhash": "text", "thumbhash": "text", "palette": "any", "exif": "object", "data": "any",
    },
    data="data",
)  # fmt: skip


def _inside(whole: str, at: int) -> Iterator[re.Match[str]]:
    """Yield the conditions in brackets behind a key.

    :param at: of the first bracket; -1 where there is none
    """
    while at > 0 and (match := _INSIDE.match(whole, at)):
        yield match
        at = match.end()


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


def _free_text(text: str) -> tuple[str, ...]:
    searched = words(text)
    if not searched:
        raise BadParameter.expected("words", "text", text)
    if len(searched) > MOST_TEXT_WORDS:
        raise BadParameter("text", f"At most {MOST_TEXT_WORDS} words are taken for text.")
    return searched
