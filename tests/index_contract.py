"""What every engine of the catalogue keeps to: the meaning of filters in Python, the one order, and its own word."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_repo.catalogue import collation, encoding
from image_repo.catalogue.base import Indexed, Row
from image_repo.catalogue.evaluator import holds
from image_repo.catalogue.facets import Tally
from image_repo.catalogue.index import Index
from image_repo.catalogue.key_usage import count_keys
from image_repo.catalogue.near import read_near
from image_repo.catalogue.query import Condition, Filter, Query, SortKey
from image_repo.errors import BadParameter
from image_repo.model.regex import searcher

#: opens the index of a collection: ``open("images", scope="…")``
Opener = Callable[..., Index]

DATA = ("data", "a")
DEEP = ("data", "a", "b")
LONG = "l" * 239


def condition(path: Sequence[str], op: Any, *values: Any) -> Condition:
    test = searcher("test", values[0]) if op == "regex" else None
    return Condition(tuple(path), op, values, test)


def element(path: Sequence[str], *inside: Condition) -> Condition:
    return Condition(tuple(path), "element", (), inside=inside)


def row(name: str, data: Any = None, stamp: str = "1", **members: Any) -> Row:
    return Row(name, {"name": name, "data": {} if data is None else data, **members}, stamp)


def matching(index: Index, *conditions: Condition, **query: Any) -> list[str]:
    """The names that match, however they are asked for."""
    wanted = Filter(conditions, query.pop("prefix", ""), query.pop("words", ()))
    page = index.page(Query(wanted, limit=1_000, **query))
    names = [document["name"] for document in page.documents]
    if not query:
        assert page.count == index.count(wanted) == len(names)
        assert page.exact and page.after is None
        assert [document["name"] for document in index.each(wanted)] == names
    return names


def data_of(index: Index, name: str) -> Any:
    (document,) = index.page(Query(Filter((condition(("name",), "eq", name),)))).documents
    return document["data"]


def walked(index: Index, query: Query) -> list[str]:
    """The names of all pages, one after the other."""
    names: list[str] = []
    for _ in range(1_000):
        page = index.page(query)
        names += [document["name"] for document in page.documents]
        if page.after is None:
            return names
        assert len(page.documents) == query.limit
        query = Query(query.filter, query.order, query.select, limit=query.limit, after=page.after)
    raise AssertionError("no end")


#: values of ``data.a``, by the names of their documents
VALUES: dict[str, Any] = {
    "missing": {},
    "null": {"a": None},
    "false": {"a": False},
    "true": {"a": True},
    "zero": {"a": 0},
    "one": {"a": 1},
    "one as 1.0": {"a": 1.0},
    "thirty": {"a": 30},
    "minus": {"a": -2.5},
    "a huge number": {"a": 10**400},
    "beyond doubles": {"a": 2**53 + 1},
    "empty text": {"a": ""},
    "text 30": {"a": "30"},
    "fox": {"a": "fox"},
    "Fox": {"a": "Fox"},
    "foxes": {"a": "foxes"},
    "umlaut": {"a": "ä"},
    "beyond the first plane": {"a": "\U0001f98a"},
    "end of the first plane": {"a": "\uff5e"},
    "a time": {"a": "2026-05-01T10:00:00Z"},
    "long": {"a": LONG + "xy"},
    "long too": {"a": LONG + "xz"},
    "with NUL": {"a": "fo\0x"},
    "half a pair": {"a": "\ud83e"},
    "a mark": {"a": "\U0010fffe\U0010fffex"},
    "quotes": {"a": '"it\'s"\\\n'},
    "text that is JSON": {"a": '{"b": 30}'},
    "empty array": {"a": []},
    "array": {"a": [1, "fox", None, True]},
    "array of one": {"a": ["fox"]},
    "array of numbers": {"a": [30, 40]},
    "array in array": {"a": [[30, "fox"]]},
    "object": {"a": {"c": 30}},
    "empty object": {"a": {}},
    "array of objects": {"a": [{"b": 30}, {"b": "fox"}, {}]},
    "array of arrays of objects": {"a": [[{"b": 30}]]},
    "below": {"a": {"b": 30}},
    "array below": {"a": {"b": [30, "fox"]}},
    "empty array below": {"a": {"b": []}},
    "null below": {"a": {"b": None}},
    "arrays below arrays": {"a": [{"b": [1, [30]]}, {"b": [True]}, 5]},
    "nothing below": {"a": [{"c": 1}, "b"]},
    "an array as data": [{"a": 30}, {"a": ["fox"]}, 7],
    "text as data": "fox",
}

CONDITIONS = {
    "equals a number": condition(DATA, "eq", 30),
    "equals a number or its text": condition(DATA, "eq", 30, "30"),
    "equals one": condition(DATA, "eq", 1),
    "equals text": condition(DATA, "eq", "fox"),
    "equals empty text": condition(DATA, "eq", ""),
    "equals true": condition(DATA, "eq", True),
    "equals null": condition(DATA, "eq", None),
    "equals a number beyond doubles": condition(DATA, "eq", 2.0**53),
    "equals text with NUL": condition(DATA, "eq", "fo\0x"),
    "equals half a pair": condition(DATA, "eq", "\ud83e"),
    "equals quotes": condition(DATA, "eq", '"it\'s"\\\n'),
    "equals long text": condition(DATA, "eq", LONG + "xy"),
    "equals the beginning of long text": condition(DATA, "eq", (LONG + "xy")[:240]),
    "is one of many": condition(DATA, "eq", 30, "fox", None, True, -2.5),
    "is one of none": condition(DATA, "eq"),
    "differs from a number": condition(DATA, "ne", 30),
    "differs from text": condition(DATA, "ne", "fox"),
    "differs from long text": condition(DATA, "ne", LONG + "xy"),
    "differs from null": condition(DATA, "ne", None),
    "differs from many": condition(DATA, "ne", 30, 1, "fox", None, True),
    "greater than a number": condition(DATA, "gt", 1),
    "a number at least": condition(DATA, "gte", 30),
    "less than a number": condition(DATA, "lt", 1),
    "a number at most": condition(DATA, "lte", 1.0),
    "greater than one beyond doubles": condition(DATA, "gt", 2.0**53),
    "less than infinity": condition(DATA, "lt", float("inf")),
    "greater than text": condition(DATA, "gt", "fox"),
    "text at least": condition(DATA, "gte", "fox"),
    "less than text": condition(DATA, "lt", "\U0001f98a"),
    "text at most": condition(DATA, "lte", "fox"),
    "greater than long text": condition(DATA, "gt", LONG + "xy"),
    "long text at least": condition(DATA, "gte", LONG + "xz"),
    "less than long text": condition(DATA, "lt", LONG + "xz"),
    "long text at most": condition(DATA, "lte", LONG + "xy"),
    "greater than true": condition(DATA, "gt", True),
    "less than null": condition(DATA, "lt", None),
    "matches": condition(DATA, "regex", "^fo"),
    "matches in any case": condition(DATA, "regex", "(?i)FOX"),
    "matches at the end": condition(DATA, "regex", "x$"),
    "matches NUL": condition(DATA, "regex", r"o\x00x"),
    "matches anything": condition(DATA, "regex", ""),
    "matches a line": condition(DATA, "regex", r"s.*\n"),
    "has an element of one member": element(DATA, condition(("b",), "eq", 30)),
    "has an element with two": element(DATA, condition(("b",), "eq", "fox"), condition(("c",), "exists", False)),
    "has an element that differs": element(DATA, condition(("b",), "ne", 30), condition(("b",), "exists", True)),
    "has an element that matches": element(DATA, condition(("b",), "regex", "^fo")),
    "has an element that matches and is there": element(
        DATA, condition(("b",), "regex", "x$"), condition(("b",), "exists", True)
    ),
    "has an element with an element": element(("data",), element(("a",), condition(("b",), "gte", 1))),
    "has an element beyond doubles": element(DATA, condition(("b",), "gt", 2.0**53), condition(("b",), "eq", 1, None)),
    "is there": condition(DATA, "exists", True),
    "is not there": condition(DATA, "exists", False),
}
BELOW = {
    f"below: {name}": Condition(DEEP, one.op, one.values, one.test)
    for name, one in CONDITIONS.items()
    if "long" not in name and one.op != "element"
}

ODD_MEMBERS = ["", " ", ".", "a.b", '"', "\\", "'", "$", "[0]", "*", "ä", "\0", "\n", "\ud83e", "\U0010fffe", "a\"b'c"]

SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, -1.5, 30, 2**53 + 1, "", "a", "b", "30", "ab", "ä", LONG])
VALUE = st.recursive(
    SCALARS,
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", '"', "c d"]), inside, max_size=3)
    ),
    max_leaves=8,
)
PATH = st.lists(st.sampled_from(["a", "b", '"', "c d"]), min_size=0, max_size=3).map(lambda path: ("data", *path))
COMPARED = st.sampled_from([0, 1, -1.5, 30, "a", "ab", "30", LONG])
CONDITION = st.one_of(
    st.builds(condition, PATH, st.sampled_from(["eq", "ne"]), SCALARS),
    st.builds(
        lambda path, op, values: condition(path, op, *values),
        PATH,
        st.sampled_from(["eq", "ne"]),
        st.lists(SCALARS, max_size=3),
    ),
    st.builds(condition, PATH, st.sampled_from(["gt", "gte", "lt", "lte"]), COMPARED),
    st.builds(condition, PATH, st.just("regex"), st.sampled_from(["a", "^b", "[0-9]$", "", "ä"])),
    st.builds(condition, PATH, st.just("exists"), st.booleans()),
)
BELOW_PATH = st.lists(st.sampled_from(["a", "b", '"', "c d"]), min_size=1, max_size=2)
WITHIN = st.one_of(
    st.builds(condition, BELOW_PATH, st.sampled_from(["eq", "ne"]), SCALARS),
    st.builds(condition, BELOW_PATH, st.sampled_from(["gt", "gte", "lt", "lte"]), COMPARED),
    st.builds(condition, BELOW_PATH, st.just("regex"), st.sampled_from(["a", "^b", "[0-9]$", "", "ä"])),
    st.builds(condition, BELOW_PATH, st.just("exists"), st.booleans()),
)
CONDITION |= st.builds(lambda path, inside: element(path, *inside), PATH, st.lists(WITHIN, min_size=1, max_size=3))
SORT = st.lists(st.builds(SortKey, PATH, st.booleans()), max_size=2, unique_by=lambda key: key.path).map(tuple)
KEYS = st.lists(st.builds(Indexed, PATH, st.none() | PATH), max_size=3, unique=True)
#: the same tests are run for each engine, and one index serves all examples of one
QUICK = settings(
    max_examples=25,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.differing_executors,
    ],
)


def read_back(value: Any) -> Any:
    """A value as an index keeps it: what stands elsewhere in an order is text that engines do not take."""
    return encoding.decode(encoding.dump({"value": value}))["value"]


def in_order(documents: Iterable[Any], keys: Sequence[SortKey]) -> list[str]:
    """The names in the order that is meant."""
    ordered = sorted(documents, key=lambda document: document["name"])
    for key in reversed(keys):
        ordered.sort(
            key=lambda document: collation.sortable(collation.at(read_back(document), encoding.members(key.path))),
            reverse=key.descending,
        )
    return [document["name"] for document in ordered]


class IndexContract:
    """Inherit, and give a fixture ``open_index``: see :data:`Opener`; what it opens is empty in each test."""

    @pytest.fixture
    def index(self, open_index: Opener) -> Index:
        return open_index("images")

    @pytest.fixture(params=["without an index", "indexed before", "indexed after", "with another sort"])
    def filled(self, request: pytest.FixtureRequest, index: Index) -> Index:
        """Holds :data:`VALUES`."""
        keys = [] if request.param == "without an index" else [Indexed(DATA), Indexed(DEEP)]
        if request.param == "with another sort":
            keys = [Indexed(DATA, ("stars",)), Indexed(DEEP, ("data", "a"))]
        rows = [row(name, data, stars=len(name) % 3) for name, data in VALUES.items()]
        if "before" in request.param:
            for key in keys:
                index.add_index(key)
        index.put(rows)
        if "before" not in request.param:
            for key in keys:
                index.add_index(key)
        return index

    # -- rows ------------------------------------------------------------------------------

    def test_puts_a_row_only_over_one_whose_stamp_is_accepted(self, index: Index) -> None:
        index.put([row("a", 1), row("b", 1)])
        stamps = index.stamps(["a", "b"])
        index.put([row(name, 2) for name in "abc"], lambda stamp, row: (stamp, row.name) == (stamps["a"], "a"))
        assert {document["name"]: document["data"] for document in index.each(Filter())} == {"a": 2, "b": 1}
        index.put([row("b", 3)], lambda *_: False)
        assert index.count(Filter()) == 2

    def test_gives_back_what_was_put(self, index: Index) -> None:
        documents = [row(name, data, exif={'é\\"': ["x" * 300, 1e22, -0.0, 5e-324]}) for name, data in VALUES.items()]
        index.put(documents)
        assert {one["name"]: one for one in index.each(Filter())} == {one.name: one.document for one in documents}

    def test_numbers_come_back_as_they_were_written(self, index: Index) -> None:
        data = {"odd": [1e308, -1e300, 1e-7, 5e-324, -0.0, 1.5e16], "plain": [0, -1, 0.5, -0.25, 10**30, 100.0, 1.10]}
        index.put([row("a", data), row("b", {"x": 1})])
        for name in ("a", "b"):  # the other way round as well: what is odd no more
            assert json.dumps(data_of(index, name)) == json.dumps({"a": data, "b": {"x": 1}}[name])
        index.add_index(Indexed(("data", "odd")))
        assert matching(index, condition(("data", "odd"), "gt", 1e307)) == ["a"]
        index.put([row("a", {"x": 1}), row("b", data)])
        assert json.dumps(data_of(index, "a")) == json.dumps({"x": 1})
        assert json.dumps(data_of(index, "b")) == json.dumps(data)
        assert matching(index, condition(("data", "odd"), "gt", 1e307)) == ["b"]

    def test_a_row_put_again_is_over_the_old_one(self, index: Index) -> None:
        index.add_index(Indexed(DATA))
        index.put([row("x", {"a": "old"}, "1"), row("y")])
        index.put([row("x", {"a": "new", "b": "word"}, "2")])
        assert matching(index) == ["x", "y"]
        assert index.stamps(["x", "y", "z"]) == {"x": "2", "y": "1"}
        assert matching(index, condition(DATA, "eq", "old")) == []
        assert matching(index, condition(DATA, "eq", "new")) == ["x"]
        assert (matching(index, words=("old",)), matching(index, words=("word",))) == ([], ["x"])

    def test_of_two_rows_of_one_name_the_last_stays(self, index: Index) -> None:
        index.put([row("x", {"a": 1}), row("x", {"a": 2})])
        assert [one["data"] for one in index.each(Filter())] == [{"a": 2}]

    def test_many_rows_at_once(self, index: Index) -> None:
        index.put(row(f"{number:04}", {"a": number % 7}, str(number)) for number in range(1_203))
        assert index.count(Filter()) == 1_203
        assert index.names(limit=2_000) == [f"{number:04}" for number in range(1_203)]
        assert index.stamps([f"{number:04}" for number in range(1_203)])["1202"] == "1202"
        assert index.remove(f"{number:04}" for number in range(1_000)) == 1_000
        assert index.count(Filter((condition(DATA, "eq", 3),))) == sum(n % 7 == 3 for n in range(1_000, 1_203))

    def test_removes(self, index: Index) -> None:
        index.add_index(Indexed(DATA))
        index.put([row("x", {"a": "fox"}), row("y", {"a": "fox"})])
        assert index.remove(["x", "z"]) == 1
        assert index.remove(["x"]) == 0
        assert matching(index, condition(DATA, "eq", "fox")) == ["y"]
        assert matching(index, words=("fox",)) == ["y"]

    def test_all_or_none(self, index: Index) -> None:
        def rows() -> Iterable[Row]:
            yield from (row(f"{number}") for number in range(700))
            raise RuntimeError("the source broke")

        with pytest.raises(RuntimeError, match="broke"):
            index.put(rows())
        assert index.count(Filter()) == 0
        with pytest.raises(ValueError, match="JSON"):
            index.put([row("x"), row("y", {"a": float("nan")})])
        assert index.count(Filter()) == 0

    @pytest.mark.parametrize(
        "wanted",
        [
            pytest.param(Filter((condition(("name",), "eq", "a", "trip/b"),)), id="is one of"),
            pytest.param(Filter((condition(("name",), "ne", "a"),)), id="is not"),
            pytest.param(Filter((condition(("name",), "gt", "a"), condition(("name",), "lte", "trip/b"))), id="range"),
            pytest.param(Filter((condition(("name",), "regex", "^trip/"),)), id="expression"),
            pytest.param(
                Filter((condition(("name",), "regex", "n"), condition(DATA, "eq", "fox"))), id="expression and data"
            ),
            pytest.param(Filter((condition(("name",), "exists", True),)), id="exists"),
            pytest.param(Filter((condition(("name",), "exists", False),)), id="does not exist"),
            pytest.param(Filter(prefix="trip/"), id="folder"),
            pytest.param(Filter(words=("fox",)), id="word"),
            pytest.param(Filter(), id="nothing"),
        ],
    )
    def test_a_filter_below_a_folder_holds_there_as_the_filter_does_at_the_top(
        self, index: Index, wanted: Filter
    ) -> None:
        names = ["a", "anna", "trip/a", "trip/b", "u", "50%25", "Ä"]
        data = {"a": "fox"}
        index.put(row(name, data if "n" in name else None) for name in names)
        at_top = [document["name"] for document in index.each(wanted)]
        index.clear()
        for folder in ("ann/", "anna/", "50%2525/", ""):
            index.put(row(folder + name, data if "n" in name else None) for name in names)
        for folder in ("ann/", "50%2525/"):
            below = wanted.below(folder)
            assert [document["name"] for document in index.page(Query(below)).documents] == [
                folder + name for name in at_top
            ]
            assert index.count(below) == len(at_top)
            assert [document["name"] for document in index.each(below)] == [folder + name for name in at_top]

    def test_names_by_digest(self, index: Index) -> None:
        index.put(
            [row("b", sha256="1" * 64), row("a", sha256="1" * 64), row("c", sha256="2" * 64), row("d", sha256=None)]
        )
        assert matching(index, condition(("sha256",), "eq", "3" * 64)) == []
        assert matching(index, condition(("sha256",), "eq", "1" * 64)) == ["a", "b"]

    def test_names_behind_one(self, index: Index) -> None:
        names = ["A", "B", "a", "a/b", "b", "ä", "\uff5e", "\U0001f98a"]
        index.put(row(name) for name in reversed(names))
        assert index.names() == names
        assert index.names("a", 2) == ["a/b", "b"]
        assert index.names("\U0001f98a") == []

    def test_names_below_a_folder(self, index: Index) -> None:
        names = ["a", "a/", "a/b", "a/b/c", "a0", "aa/b", "b/a/b", "ä/b"]
        index.put(row(name) for name in names)
        assert matching(index, prefix="a/") == ["a/", "a/b", "a/b/c"]
        assert matching(index, condition(("name",), "regex", "c"), prefix="a/") == ["a/b/c"]
        assert matching(index, prefix="c/") == []

    def test_a_member_of_any_name(self, index: Index) -> None:
        for member in ODD_MEMBERS:
            index.clear()
            self._use_member(index, member)

    def _use_member(self, index: Index, member: str) -> None:
        path = ("data", member)
        index.put([row("x", {member: {member: ["fox"]}}), row("y", {member: 5}), row("z", {member + "z": 5})])
        assert matching(index, condition((*path, member), "eq", "fox")) == ["x"]
        assert matching(index, condition(path, "exists", False)) == ["z"]
        assert matching(index, order=(SortKey(path),)) == ["z", "y", "x"]
        index.add_index(Indexed((*path, member), path))
        assert matching(index, condition((*path, member), "eq", "fox")) == ["x"]
        assert index.indexed()[-1] == Indexed((*path, member), path)
        assert index.statistics(Filter(), (*path, member)).values == [("fox", 1)]

    def test_a_deep_document(self, index: Index) -> None:
        data: Any = 1
        for _ in range(400):
            data = {"a": [data]}
        index.put([row("x", data)])
        assert matching(index, condition(("data", *["a"] * 6), "exists", True)) == ["x"]

    # -- filters ---------------------------------------------------------------------------

    def test_each_condition_means_what_it_means_in_python(self, filled: Index) -> None:
        documents = [{"name": name, "data": data} for name, data in VALUES.items()]
        as_kept = [read_back(document) for document in documents]
        wrong = {}
        for what, wanted in (CONDITIONS | BELOW).items():
            there = as_kept if wanted.op in ("gt", "gte", "lt", "lte") else documents
            right = {document["name"] for document in there if holds(Filter((wanted,)), document)}
            if matching(filled, wanted) != sorted(right):
                wrong[what] = right ^ set(matching(filled, wanted))
        assert wrong == {}

    def test_conditions_are_joined(self, filled: Index) -> None:
        assert matching(filled, condition(DATA, "gte", 0), condition(DATA, "lt", 1)) == ["zero"]
        assert matching(filled, condition(DATA, "gt", 35), condition(DATA, "lt", 35)) == ["array of numbers"]

    @given(
        data=st.lists(VALUE, min_size=1, max_size=6), conditions=st.lists(CONDITION, min_size=1, max_size=2), keys=KEYS
    )
    @QUICK
    def test_any_filter_means_what_it_means_in_python(
        self, index: Index, data: list[Any], conditions: list[Condition], keys: list[Indexed]
    ) -> None:
        rows = [row(f"{number}", value) for number, value in enumerate(data)]
        self._start(index, keys, rows)
        wanted = Filter(tuple(conditions))
        assert matching(index, *conditions) == [one.name for one in rows if holds(wanted, one.document)]

    def _start(self, index: Index, keys: Sequence[Indexed], rows: Sequence[Row]) -> None:
        """Half of the keys before the rows, half after them."""
        for old in index.indexed():
            index.drop_index(old)
        index.clear()
        for key in keys[::2]:
            index.add_index(key)
        index.put(rows)
        for key in keys[1::2]:
            index.add_index(key)

    @pytest.mark.parametrize("distance", [0, 3, 4, 6, 8, 11])
    def test_near_hashes_are_those_that_differ_in_few_bits(self, index: Index, distance: int) -> None:
        random_bits = random.Random(distance)
        hashes = {"far": random_bits.getrandbits(64), "broken": 0}
        wanted = random_bits.getrandbits(64)
        for bits in range(14):
            for number in range(20):
                flips = random_bits.sample(range(64), bits)
                hashes[f"{bits:02} {number:02}"] = wanted ^ sum(1 << place for place in flips)
        rows = [row(name, dhash=f"{bits:016x}") for name, bits in hashes.items()]
        index.put([*rows, row("broken", dhash="no hash"), row("none")])
        near = read_near("near", f"{wanted:016x},{distance}")
        expected = sorted(name for name, bits in hashes.items() if (bits ^ wanted).bit_count() <= distance)
        assert matching(index, near) == expected
        assert expected == sorted(each.name for each in rows if holds(Filter((near,)), each.document))
        assert matching(index, near, prefix="00") == [name for name in expected if name.startswith("00")]
        index.put([row("00 00", dhash=f"{wanted ^ (1 << 64) - 1:016x}")])
        index.remove(["00 01"])
        assert matching(index, near) == expected[2:]

    def test_words(self, index: Index) -> None:
        index.put(
            [
                row("plots/plot_12", {"note": "A Fox, at Night"}),
                row("plots/plot_13", {"tags": ["Füchse", "fox-like"], "n": 2026}),
                row("straße", {"a.b": "写真"}),
            ]
        )
        assert matching(index, words=("fox",)) == ["plots/plot_12", "plots/plot_13"]
        assert matching(index, words=("fox", "nig")) == ["plots/plot_12"]
        assert matching(index, words=("füch", "202")) == ["plots/plot_13"]
        assert matching(index, words=("ox",)) == []
        assert matching(index, words=("strass",)) == ["straße"]
        assert matching(index, words=("写",)) == ["straße"]
        assert matching(index, condition(("data", "n"), "eq", 2026), words=("plot",)) == ["plots/plot_13"]
        assert matching(index, words=("z", "and", "or", "near")) == []

    # -- order and pages -------------------------------------------------------------------

    @pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
    def test_the_one_order(self, filled: Index, descending: bool) -> None:
        documents = [{"name": name, "data": data, "stars": len(name) % 3} for name, data in VALUES.items()]
        for path in (DATA, DEEP, ("name",), ("stars",), ("nothing",)):
            keys = (SortKey(path, descending),)
            assert matching(filled, order=keys) == in_order(documents, keys)
            for limit in (1, 7, 1_000):
                assert walked(filled, Query(order=keys, limit=limit)) == in_order(documents, keys)

    @given(
        data=st.lists(VALUE, max_size=9),
        keys=SORT,
        indexed=KEYS,
        limit=st.integers(1, 4),
        conditions=st.lists(CONDITION, max_size=1),
    )
    @QUICK
    def test_pages_leave_nothing_out_and_tell_nothing_twice(
        self,
        index: Index,
        data: list[Any],
        keys: tuple[SortKey, ...],
        indexed: list[Indexed],
        limit: int,
        conditions: list[Condition],
    ) -> None:
        rows = [row(f"{number}", value) for number, value in enumerate(data)]
        self._start(index, indexed, rows)
        wanted = Filter(tuple(conditions))
        expected = in_order([one.document for one in rows if holds(wanted, one.document)], keys)
        assert matching(index, *conditions, order=keys) == expected
        assert walked(index, Query(wanted, keys, limit=limit)) == expected
        assert [one["name"] for one in index.each(wanted, keys)] == expected

    def test_an_indexed_page(self, index: Index) -> None:
        """Filtered by one key, sorted by another, with and without further conditions, in both directions."""
        dice = random.Random(4)
        index.add_index(Indexed(("data", "site"), ("uploaded",)))
        index.add_index(Indexed(("data", "site"), ("data", "stars")))
        index.add_index(Indexed(("data", "stars")))
        rows = [
            row(
                f"n{number:04}",
                {"site": dice.choice(["a", "b", ["a", "c"]]), "stars": dice.choice([1, 2, 3, None]), "n": number},
                uploaded=f"2026-01-{dice.randrange(1, 29):02}",
            )
            for number in range(700)
        ]
        index.put(rows)
        documents = [one.document for one in rows]
        for conditions, path, descending in itertools.product(
            [
                (),
                (condition(("data", "site"), "eq", "a"),),
                (condition(("data", "site"), "eq", "a", "c"),),
                (condition(("data", "site"), "eq", "a"), condition(("data", "n"), "gt", 350)),
                (condition(("data", "stars"), "gte", 2),),
                (condition(("data", "stars"), "gte", 2), condition(("data", "site"), "regex", "[ab]")),
            ],
            [("uploaded",), ("data", "stars"), ("data", "n"), ("name",)],
            [False, True],
        ):
            wanted, keys = Filter(conditions), (SortKey(path, descending),)
            expected = in_order([one for one in documents if holds(wanted, one)], keys)
            assert walked(index, Query(wanted, keys, limit=90)) == expected
            page = index.page(Query(wanted, keys, skip=95, limit=10))
            assert ([one["name"] for one in page.documents], page.count) == (expected[95:105], len(expected))

    def test_skip_limit_and_select(self, index: Index) -> None:
        index.put(row(f"{number}", {"a": number, "b": {"c": 1, "d": 2}}) for number in range(9))
        page = index.page(Query(select=(("name",), ("data", "b", "c")), skip=4, limit=3))
        assert page.documents == [{"name": f"{number}", "data": {"b": {"c": 1}}} for number in (4, 5, 6)]
        assert (page.count, page.exact) == (9, True)
        assert index.page(Query(skip=9)).documents == []
        nothing = index.page(Query(limit=0))
        assert (nothing.documents, nothing.count, nothing.after) == ([], 9, None)

    @pytest.mark.parametrize("after", ["x", "", "W10", "é", "A" * 9_000, "eyJhIjoxfQ", "WzEsMl0", "bnVsbA"])
    def test_a_place_that_is_not_from_here(self, index: Index, after: str) -> None:
        index.put([row("x")])
        with pytest.raises(BadParameter) as caught:
            index.page(Query(after=after))
        assert caught.value.members["parameter"] == "after"

    def test_a_place_of_another_order(self, index: Index) -> None:
        index.put(row(f"{number}") for number in range(5))
        page = index.page(Query(limit=2))
        assert page.after is not None and page.after.replace("-", "").replace("_", "").isalnum()
        with pytest.raises(BadParameter):
            index.page(Query(order=(SortKey(("name",), True),), after=page.after))

    def test_a_page_goes_on_where_a_name_has_been_removed(self, index: Index) -> None:
        index.put(row(f"{number}") for number in range(6))
        page = index.page(Query(limit=3))
        index.remove(["2", "3"])
        assert [one["name"] for one in index.page(Query(limit=3, after=page.after)).documents] == ["4", "5"]

    def test_going_through_everything_while_it_changes(self, index: Index) -> None:
        index.put(row(f"{number:04}") for number in range(1_400))
        going = index.each(Filter())
        first = next(going)["name"]
        index.remove([f"{number:04}" for number in range(1_000, 1_200)])
        index.put([row("x")])
        assert first == "0000"
        assert sum(1 for _ in going) == 1_200

    def test_many_are_counted_roughly_unless_it_has_to_be_exact(self, index: Index) -> None:
        index.add_index(Indexed(("data", "b")))
        index.put(row(f"{number:05}", {"a": number, "b": number % 2}) for number in range(24_000))
        for wanted, right in (
            (Filter(), 24_000),
            (Filter((condition(DATA, "gte", 3_000),)), 21_000),
            (Filter((condition(("data", "b"), "eq", 0),)), 12_000),
        ):
            page = index.page(Query(wanted, limit=1))
            assert not page.exact
            assert page.count == pytest.approx(right, rel=0.25) and page.count > 10_000
            assert index.page(Query(wanted, limit=1, exact=True)).count == right
            assert index.count(wanted) == right
        page = index.page(Query(Filter((condition(DATA, "lt", 10_000),)), limit=1))
        assert (page.count, page.exact) == (10_000, True)

    # -- keys ------------------------------------------------------------------------------

    def test_keys_with_types_and_counts(self, index: Index) -> None:
        index.put([row("x", {"a": 1, "t": ["s", 2, [3], {"u": None}]}), row("y", {"a": "b"}), row("z", {"a": True})])
        keys, total = index.keys()
        assert [(key.path, key.count, key.types) for key in keys] == [
            (("data",), 3, {"object": 3}),
            (("data", "a"), 3, {"boolean": 1, "number": 1, "text": 1}),
            (("name",), 3, {"text": 3}),
            (("data", "t"), 1, {"list": 1, "number": 1, "object": 1, "text": 1}),
            (("data", "t", "u"), 1, {"null": 1}),
        ]
        assert total == 5
        assert index.keys(2) == (keys[:2], 5)

    def test_keys_are_counted_as_documents_come_and_go(self, index: Index) -> None:
        index.put([row("x", {"a": 1}), row("y", {"a": 1, "b": 1})])
        index.put([row("x", {"a": "t"}), row("z", {"c": 1})])
        index.remove(["y"])
        of_data = {key.path[1:]: (key.count, key.types) for key in index.keys()[0] if key.path[1:]}
        assert of_data == {("a",): (1, {"text": 1}), ("c",): (1, {"number": 1})}
        assert index.missing_keys([("data", "a"), ("data", "b"), ("data", "c")]) == [("data", "b")]
        index.clear()
        assert index.keys() == ([], 0)

    @given(data=st.lists(VALUE, max_size=6), gone=st.lists(VALUE, max_size=3))
    @QUICK
    def test_keys_are_those_that_exist(self, index: Index, data: list[Any], gone: list[Any]) -> None:
        index.clear()
        index.put(row(f"{number}", value) for number, value in enumerate([*gone, *data]))
        index.put(row(f"{number}", {}) for number in range(len(gone)))
        keys, total = index.keys()
        for key in keys:
            assert index.count(Filter((condition(key.path, "exists", True),))) == key.count
        assert keys == count_keys(index.each(Filter()))
        assert total == len(keys)

    def test_a_key_of_any_name_is_counted(self, index: Index) -> None:
        members = [*ODD_MEMBERS, "k" * 1_000]
        index.put([row("x", dict.fromkeys(members, 1) | {"ä" * 3_000: 1})])
        assert {key.path for key in index.keys()[0]} == {("name",), ("data",), *(("data", each) for each in members)}
        assert index.missing_keys([("data", each) for each in (*members, "ä" * 3_000, "none")]) == [("data", "none")]

    # -- statistics ------------------------------------------------------------------------

    def test_statistics_of_every_kind_of_value(self, filled: Index) -> None:
        for path in (DATA, DEEP, ("data",), ("name",), ("stars",), ("nothing",)):
            rows = [row(name, data, stars=len(name) % 3) for name, data in VALUES.items()]
            self._compare(filled, rows, Filter(), path)

    def test_statistics_of_numbers(self, index: Index) -> None:
        index.put(
            [row("x", {"a": 1}), row("y", {"a": [1.0, 3, "b"]}), row("z", {"a": None}), row("w", {"a": []}), row("v")]
        )
        statistics = index.statistics(Filter(), DATA)
        assert (statistics.most, statistics.least, statistics.count, statistics.more) == ("b", 1, 4, 0)
        assert statistics.mean == pytest.approx(5 / 3)
        assert statistics.values == [(1, 2), (None, 1), (3, 1), ("b", 1)]
        statistics = index.statistics(Filter((condition(DATA, "exists", True),)), DATA, most=2)
        assert (statistics.values, statistics.more) == ([(1, 2), (None, 1)], 2)

    @given(data=st.lists(VALUE, max_size=7), path=PATH, keys=KEYS, conditions=st.lists(CONDITION, max_size=1))
    @QUICK
    def test_any_statistics(
        self, index: Index, data: list[Any], path: tuple[str, ...], keys: list[Indexed], conditions: list[Condition]
    ) -> None:
        rows = [row(f"{number}", value) for number, value in enumerate(data)]
        self._start(index, keys, rows)
        self._compare(index, rows, Filter(tuple(conditions)), path)

    def _compare(self, index: Index, rows: Iterable[Row], wanted: Filter, path: tuple[str, ...]) -> None:
        documents = [one.document for one in rows if holds(wanted, one.document)]
        there = [one for one in documents if holds(Filter((condition(path, "exists", True),)), one)]
        tally = Tally()
        for one in there:
            tally.add_all(collation.reached(one, path))
        for most in (1_000, 2):
            statistics, expected = index.statistics(wanted, path, most), tally.statistics(len(there), most)
            assert statistics.values == expected.values
            assert (statistics.most, statistics.least) == (expected.most, expected.least)
            assert (statistics.count, statistics.more) == (expected.count, expected.more)
            assert statistics.mean == pytest.approx(expected.mean, nan_ok=True)

    # -- keys, notes, scopes ---------------------------------------------------------------

    def test_keys_that_are_kept_in_order(self, index: Index) -> None:
        keys = [Indexed(DATA), Indexed(DATA, ("uploaded",)), Indexed(("name",))]
        for key in (*keys, keys[0]):
            index.add_index(key)
        assert index.indexed() == keys
        assert index.drop_index(keys[1]) is True
        assert index.drop_index(keys[1]) is False
        index.clear()
        assert index.indexed() == [keys[0], keys[2]]

    def test_rows_that_are_put_while_a_key_is_made(self, index: Index) -> None:
        index.put(row(f"{number:04}", {"a": number % 5}) for number in range(3_000))
        with ThreadPoolExecutor(3) as pool:
            making = pool.submit(index.add_index, Indexed(DATA))
            putting = [pool.submit(index.put, [row(f"{number:04}", {"a": "new"})]) for number in range(0, 3_000, 60)]
            removing = pool.submit(index.remove, [f"{number:04}" for number in range(1, 3_000, 60)])
            for each in (making, removing, *putting):
                each.result(60)
        assert len(matching(index, condition(DATA, "eq", "new"))) == 50
        assert index.count(Filter((condition(DATA, "eq", 1),))) == 550

    def test_notes(self, index: Index) -> None:
        assert index.note("rebuild") is None
        index.keep_note("rebuild", "so far")
        index.keep_note("rebuild", "ä/b")
        index.keep_note("other", "1")
        assert (index.note("rebuild"), index.note("other")) == ("ä/b", "1")
        index.keep_note("other", None)
        assert index.note("other") is None
        index.clear()
        assert index.note("rebuild") is None

    def test_a_collection_has_rows_of_its_own(self, open_index: Opener) -> None:
        images, artifacts = open_index("images"), open_index("artifacts")
        images.put([row("x")])
        images.keep_note("n", "1")
        artifacts.put([row("y")])
        assert (matching(images), matching(artifacts)) == (["x"], ["y"])
        artifacts.clear()
        assert (matching(images), images.note("n")) == (["x"], "1")

    def test_what_is_put_is_there_when_it_is_opened_again(self, open_index: Opener) -> None:
        first = open_index("images")
        first.add_index(Indexed(DATA))
        first.put([row("x", {"a": "fox"})])
        first.close()
        again = open_index("images")
        assert matching(again, condition(DATA, "eq", "fox")) == ["x"]
        assert again.indexed() == [Indexed(DATA)]

    def test_another_scope_starts_empty(self, open_index: Opener) -> None:
        open_index("images", scope="one").put([row("x")])
        assert matching(open_index("images", scope="two")) == []

    def test_clear_leaves_nothing(self, index: Index) -> None:
        index.add_index(Indexed(DATA))
        index.put([row("x", {"a": "fox"}, sha256="1" * 64)])
        index.clear()
        assert matching(index) == matching(index, condition(DATA, "eq", "fox")) == matching(index, words=("fox",)) == []
        assert matching(index, condition(("sha256",), "eq", "1" * 64)) == [] and index.stamps(["x"]) == {}
        index.put([row("y", {"a": "fox"})])
        assert matching(index, condition(DATA, "eq", "fox")) == ["y"]

    def test_several_may_start_at_once(self, open_index: Opener) -> None:
        with ThreadPoolExecutor(6) as pool:
            for each in [pool.submit(lambda: open_index("images").check()) for _ in range(6)]:
                each.result(30)

    def test_threads_write_and_read_at_once(self, index: Index) -> None:
        def work(number: int) -> None:
            for step in range(5):
                index.put([row(f"{number}-{step}", {"a": step})])
                index.page(Query(Filter((condition(DATA, "eq", step),))))

        with ThreadPoolExecutor(8) as pool:
            for each in [pool.submit(work, number) for number in range(8)]:
                each.result(60)
        assert index.count(Filter()) == 40

    def test_what_it_is_and_how_large(self, index: Index) -> None:
        index.put([row(str(number), {"a": "x" * 1_000}) for number in range(200)])
        name, size = index.engine()
        assert name.split()[0] in index.description and name.split()[1][0].isdigit()
        assert 200_000 < size < 10_000_000

    def test_a_page_is_bounded_in_what_it_tells(self, index: Index) -> None:
        index.put([row(f"{number:03}", {"a": "x" * 60_000, "n": number}) for number in range(300)])
        with pytest.raises(BadParameter) as refused:
            index.page(Query(limit=300))
        assert refused.value.members["parameter"] == "limit"
        most = refused.value.members["most"]
        assert 250 < most < 300
        assert len(index.page(Query(limit=most)).documents) == most
        assert len(index.page(Query(limit=300, select=(("data", "n"),))).documents) == 300
        assert len(list(index.each(Filter()))) == 300
