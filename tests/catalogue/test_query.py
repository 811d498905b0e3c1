"""The query language: what a query string says, and what a filter means. Tables, and round trips."""

from __future__ import annotations

import json
import unicodedata
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_repo.catalogue import collation
from image_repo.catalogue.evaluator import holds, project
from image_repo.catalogue.grammar import (
    BULK_WORDS,
    FILTER_WORDS,
    IMAGES,
    MOST_CONDITIONS,
    PAGE_WORDS,
    Grammar,
    ParsedQuery,
)
from image_repo.catalogue.query import Condition, Filter, SortKey
from image_repo.catalogue.tokenizer import MOST_CHARACTERS, MOST_WORDS, words, words_of
from image_repo.errors import BadParameter, BadPattern
from image_repo.model.record import Record

LISTING = (*FILTER_WORDS, *PAGE_WORDS)


def read(query: str, known: tuple[str, ...] = LISTING, **options: Any) -> ParsedQuery:
    return IMAGES.read(parse_qsl(query, keep_blank_values=True), known, **options)


def conditions_of(query: str, **options: Any) -> list[tuple[str, str, list[Any]]]:
    """Path, operator and values of each condition; values as JSON has them, because in Python true equals 1."""
    conditions = read(query, **options).query.filter.conditions
    return [(".".join(each.path), each.op, json.loads(json.dumps(each.values))) for each in conditions]


def same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


# -- keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "path"),
    [
        pytest.param("width", ("width",), id="a field of the record"),
        pytest.param("image_id", ("image_id",), id="a field that is only told"),
        pytest.param("site", ("data", "site"), id="any other is the user's"),
        pytest.param("key", ("data", "key"), id="where the object is kept is no field"),
        pytest.param("xsize", ("data", "xsize"), id="a word of pictures means nothing here"),
        pytest.param("data.width", ("data", "width"), id="with data ahead"),
        pytest.param("data.limt", ("data", "limt"), id="with data ahead, whatever it looks like"),
        pytest.param("data.limit", ("data", "limit"), id="with data ahead, a word too"),
        pytest.param("site.plot.row", ("data", "site", "plot", "row"), id="dots go into objects"),
        pytest.param("exif.Model", ("exif", "Model"), id="dots go into objects of the record"),
        pytest.param("data", ("data",), id="all that is the user's"),
        pytest.param("données.été", ("data", "données", "été"), id="any script"),
        pytest.param("a b", ("data", "a b"), id="blanks"),
        pytest.param("my_gt", ("data", "my_gt"), id="one underscore is part of the key"),
        pytest.param("data.a__b", ("data", "a__b"), id="two underscores too, behind a dot"),
    ],
)
def test_a_key_leads_to(key, path):
    assert [each.path for each in read(f"{quote(key)}__exists=1").query.filter.conditions] == [path]


def test_the_fields_are_what_a_record_tells():
    record = Record(
        "a", "a.jpg", "v", "0" * 64, "image/jpeg", 1, 2, 3, dhash="0" * 16, thumbhash="1Q==", palette=["#000000"]
    )
    assert set(record.public()) == set(IMAGES.fields)


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b", "data.", "__gt"])
def test_a_key_has_no_empty_member(key):
    with pytest.raises(BadParameter) as refused:
        read(f"{key}=1")
    assert "such as width" in refused.value.detail


@pytest.mark.parametrize("key", [".".join("a" * 33), "data." + ".".join("a" * 33), "x" * 1001])
def test_a_key_is_bounded(key):
    with pytest.raises(BadParameter) as refused:
        read(f"{key}=1")
    assert len(refused.value.members["parameter"]) <= 40


def test_a_key_may_be_as_deep_as_data():
    assert len(read("data." + ".".join("a" * 32) + "=1").query.filter.conditions[0].path) == 33


# -- operators and values -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("stars=30", [("data.stars", "eq", [30, "30"])], id="a number equals 30, and text that reads so"),
        pytest.param('stars="30"', [("data.stars", "eq", [30, "30"])], id='a number equals "30"'),
        pytest.param("stars=-1.5e2", [("data.stars", "eq", [-150, "-1.5e2"])], id="as JSON writes numbers"),
        pytest.param("stars=0.5", [("data.stars", "eq", [0.5, "0.5"])], id="fractions"),
        pytest.param("stars=007", [("data.stars", "eq", ["007"])], id="no number with zeros ahead"),
        pytest.param("stars=+1", [("data.stars", "eq", [" 1"])], id="a plus is a blank"),
        pytest.param("stars=%EF%BC%93", [("data.stars", "eq", ["３"])], id="full-width digits are text"),
        pytest.param("stars=NaN", [("data.stars", "eq", ["NaN"])], id="NaN is text"),
        pytest.param("stars=Infinity", [("data.stars", "eq", ["Infinity"])], id="Infinity is text"),
        pytest.param("stars=1e999", [("data.stars", "eq", ["1e999"])], id="what no double holds is text"),
        pytest.param("x=9007199254740993", [("data.x", "eq", [2**53, "9007199254740993"])], id="numbers are doubles"),
        pytest.param("ok=true", [("data.ok", "eq", [True])], id="true is itself"),
        pytest.param("ok=false", [("data.ok", "eq", [False])], id="false is itself"),
        pytest.param("ok=null", [("data.ok", "eq", [None])], id="null is itself"),
        pytest.param("ok=True", [("data.ok", "eq", ["True"])], id="True is text: JSON has true"),
        pytest.param('ok="true"', [("data.ok", "eq", ["true"])], id="quoted, it is text"),
        pytest.param('ok="a\\u0062"', [("data.ok", "eq", ["ab"])], id="a JSON string"),
        pytest.param('ok="a', [("data.ok", "eq", ['"a'])], id="a quote that is not closed is text"),
        pytest.param('ok="a"b"', [("data.ok", "eq", ['"a"b"'])], id="what is no JSON string is text"),
        pytest.param('ok="\\ud800"', [("data.ok", "eq", ['"\\ud800"'])], id="half a surrogate pair is no text"),
        pytest.param("ok=", [("data.ok", "eq", [""])], id="empty text"),
        pytest.param("ok=a,b", [("data.ok", "eq", ["a,b"])], id="a comma is text"),
        pytest.param("ok=%7B%22a%22:1%7D", [("data.ok", "eq", ['{"a":1}'])], id="an object is text"),
        pytest.param("x__eq=1", [("data.x", "eq", [1, "1"])], id="eq"),
        pytest.param("x__equals=1", [("data.x", "eq", [1, "1"])], id="equals"),
        pytest.param("x__ne=1", [("data.x", "ne", [1, "1"])], id="ne"),
        pytest.param("x__gt=1", [("data.x", "gt", [1])], id="gt of a number"),
        pytest.param('x__gte="1"', [("data.x", "gte", ["1"])], id="gte of quoted text"),
        pytest.param("x__lt=2024-05", [("data.x", "lt", ["2024-05"])], id="lt of a time"),
        pytest.param("x__lte=true", [("data.x", "lte", ["true"])], id="lte of a word is text"),
        pytest.param("uploaded__gte=2026", [("uploaded", "gte", ["2026"])], id="a field of text has no numbers"),
        pytest.param("width__gte=2026", [("width", "gte", [2026])], id="a field of numbers"),
        pytest.param("exif.ISO__gte=200", [("exif.ISO", "gte", [200])], id="a number within a field"),
        pytest.param("x__in=a,2,true", [("data.x", "eq", ["a", 2, "2", True])], id="in"),
        pytest.param("x__nin=a", [("data.x", "ne", ["a"])], id="nin"),
        pytest.param('x__in="a,b",c', [("data.x", "eq", ["a,b", "c"])], id="in with a comma in quotes"),
        pytest.param('x__in=a"b,c', [("data.x", "eq", ['a"b', "c"])], id="a quote within is itself"),
        pytest.param("x__in=", [("data.x", "eq", [""])], id="in of empty text"),
        pytest.param("x__in=a,", [("data.x", "eq", ["a", ""])], id="in ends with empty text"),
        pytest.param("x__in=1,true", [("data.x", "eq", [1, "1", True])], id="in keeps 1 and true apart"),
        pytest.param("x__exists=1", [("data.x", "exists", [True])], id="exists"),
        pytest.param("x__exists=no", [("data.x", "exists", [False])], id="does not exist"),
        pytest.param("name=e%CC%81", [("name", "eq", ["é"])], id="names are in NFC"),
        pytest.param("regex=e%CC%81", [("name", "regex", ["é"])], id="and patterns for them"),
        pytest.param("x=e%CC%81", [("data.x", "eq", ["e\u0301"])], id="all else is as it is"),
        pytest.param("x__regex=^a", [("data.x", "regex", ["^a"])], id="regex on a key"),
        pytest.param("regex=^a", [("name", "regex", ["^a"])], id="regex alone is on the name"),
        pytest.param("a=1&b=2", [("data.a", "eq", [1, "1"]), ("data.b", "eq", [2, "2"])], id="several"),
        pytest.param("a=1&a=2", [("data.a", "eq", [1, "1"]), ("data.a", "eq", [2, "2"])], id="one key twice"),
        pytest.param("name=true", [("name", "eq", ["true"])], id="a field of text has no booleans"),
        pytest.param("owner=null", [("owner", "eq", [None])], id="but may be null"),
        pytest.param("width=null", [("width", "eq", [None])], id="so may a field of numbers"),
        pytest.param(
            "uploaded__gt=2026-11-21 11:59", [("uploaded", "gt", ["2026-11-21T11:59"])], id="a blank before the hour"
        ),
        pytest.param("a__gt=1&a__lt=2", [("data.a", "gt", [1]), ("data.a", "lt", [2])], id="several on one key"),
        pytest.param("limit__gt=1", [("data.limit", "gt", [1])], id="a word with an operator is a key"),
        pytest.param("a__b__gt=1", [("data.a__b", "gt", [1])], id="the last underscores count"),
    ],
)
def test_a_condition_is_read(query, expected):
    assert same(conditions_of(query), expected), conditions_of(query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("a_gt=1", ("data.a", "gt", [1]), id="gt"),
        pytest.param("a_gte=1", ("data.a", "gte", [1]), id="gte"),
        pytest.param("a_lt=1", ("data.a", "lt", [1]), id="lt"),
        pytest.param("a_lte=1", ("data.a", "lte", [1]), id="lte"),
        pytest.param("a_ne=1", ("data.a", "ne", [1, "1"]), id="ne"),
        pytest.param("width_gt=1", ("width", "gt", [1]), id="on a field"),
        pytest.param("data.a.b_gt=1", ("data.a.b", "gt", [1]), id="on a path"),
        pytest.param("a_in=1", ("data.a_in", "eq", [1, "1"]), id="no other operator"),
        pytest.param("a_gt__eq=1", ("data.a_gt", "eq", [1, "1"]), id="a key that ends so, with its operator"),
        pytest.param("image_id=x", ("image_id", "eq", ["x"]), id="no field is cut"),
    ],
)
def test_one_underscore_is_enough_in_a_search(query, expected):
    assert same(conditions_of(query, single_underscore=True), [expected])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        pytest.param("x__gtt=1", "x__gtt", id="an operator that there is not"),
        pytest.param("x__gt=" + "9" * 5000, "x__gt", id="a number of 5,000 digits"),
        pytest.param("x__lt=1e999", "x__lt", id="a number that no double holds"),
        pytest.param("x__exists=maybe", "x__exists", id="no boolean"),
        pytest.param('x__in="a', "x__in", id="a quote in a list that is not closed"),
        pytest.param('x__in="a"b,c', "x__in", id="a quoted value that goes on"),
        pytest.param("x__in=" + ",".join("a" * 101), "x__in", id="101 values"),
        pytest.param("width__gt=abc", "width__gt", id="text for a number"),
        pytest.param('width__gt="5"', "width__gt", id="quoted text for a number"),
        pytest.param("width=abc", "width", id="a number equals no text"),
        pytest.param("height__ne=abc", "height__ne", id="and always differs from it"),
        pytest.param("bytes__in=1,x", "bytes__in", id="nor is it one of several"),
        pytest.param("width=true", "width", id="a number is no boolean"),
        pytest.param("width__regex=6", "width__regex", id="a pattern for a number"),
        pytest.param("exif=x", "exif", id="an object equals nothing"),
        pytest.param("uploaded__lt=yesterday", "uploaded__lt", id="no time"),
        pytest.param("uploaded__lt=26-11-2026", "uploaded__lt", id="no time of ISO 8601"),
        pytest.param("uploaded__gt=2026-11-21T12:59:47+01:00", "uploaded__gt", id="a plus that became a blank"),
        pytest.param("uploaded__in=2026,lately", "uploaded__in", id="no time in a list"),
        pytest.param("limit=1&limit=2", "limit", id="a word twice"),
        pytest.param("regex=(", "regex", id="no pattern"),
        pytest.param("x__regex=(?=a)", "x__regex", id="look-ahead"),
        pytest.param("x__regex=(a)\\1", "x__regex", id="a back-reference"),
        pytest.param("regex=" + "a" * 1001, "regex", id="a pattern of 1,001 characters"),
        pytest.param("text=", "text", id="no words"),
        pytest.param("text=-+!", "text", id="nothing but marks"),
        pytest.param("text=" + "+".join(f"w{n}" for n in range(21)), "text", id="21 words"),
        pytest.param("count=3", "count", id="count is exact"),
        pytest.param("sort=", "sort", id="sorted by nothing"),
        pytest.param("sort=-", "sort", id="sorted by nothing, descending"),
        pytest.param("sort=a,,b", "sort", id="an empty key among others"),
        pytest.param("sort=a,-a", "sort", id="a key twice"),
        pytest.param("sort=" + ",".join("abcdefghi"), "sort", id="nine keys"),
        pytest.param("select=", "select", id="nothing selected"),
        pytest.param("select=" + ",".join(f"k{n}" for n in range(101)), "select", id="101 keys selected"),
        pytest.param("limit=0", "limit", id="a page of none"),
        pytest.param("limit=1001", "limit", id="a page of 1,001"),
        pytest.param("limit=%EF%BC%91", "limit", id="a full-width digit"),
        pytest.param("page=0", "page", id="pages begin with 1"),
        pytest.param("skip=-1", "skip", id="nobody goes back"),
        pytest.param("skip=" + "1" * 5000, "skip", id="5,000 digits"),
        pytest.param("skip=1&page=2", "skip", id="skip and page"),
        pytest.param("skip=1&after=x", "skip", id="skip and after"),
    ],
)
def test_what_is_wrong_is_named(query, parameter):
    with pytest.raises(BadParameter) as refused:
        read(query)
    assert refused.value.members["parameter"] == parameter
    assert refused.value.status == 400
    assert len(refused.value.detail) < 400


def test_a_bad_pattern_is_one():
    with pytest.raises(BadPattern):
        read("x__regex=(a")


def test_conditions_are_bounded():
    pairs = [f"k{number}=1" for number in range(MOST_CONDITIONS + 1)]
    assert len(conditions_of("&".join(pairs[1:]))) == MOST_CONDITIONS
    with pytest.raises(BadParameter):
        read("&".join(pairs))


# -- elements of lists --------------------------------------------------------------------


def inside(query: str, **options: Any) -> tuple[str, list[tuple[str, str, list[Any]]]]:
    """The path of the list, and the conditions that one element fulfils."""
    (condition,) = read(query, **options).query.filter.conditions
    assert (condition.op, condition.values) == ("element", ())
    return ".".join(condition.path), [(".".join(one.path), one.op, list(one.values)) for one in condition.inside]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("a[b=x].c=y", ("data.a", [("b", "eq", ["x"]), ("c", "eq", ["y"])]), id="two members"),
        pytest.param(
            "a%5Bb%3Dx%5D.c__regex=^3", ("data.a", [("b", "eq", ["x"]), ("c", "regex", ["^3"])]), id="encoded"
        ),
        pytest.param("a[b=3].c__gt=4", ("data.a", [("b", "eq", [3, "3"]), ("c", "gt", [4])]), id="numbers"),
        pytest.param("data.a.b[c.d=x].e.f=y", ("data.a.b", [("c.d", "eq", ["x"]), ("e.f", "eq", ["y"])]), id="deeper"),
        pytest.param("exif.a[b=x].c=y", ("exif.a", [("b", "eq", ["x"]), ("c", "eq", ["y"])]), id="in a field"),
        pytest.param("a[b__ne=x].c=y", ("data.a", [("b", "ne", ["x"]), ("c", "eq", ["y"])]), id="an operator inside"),
        pytest.param("a[b=x][c=y]", ("data.a", [("b", "eq", ["x"]), ("c", "eq", ["y"])]), id="brackets alone"),
        pytest.param('a[b="x]y"].c=z', ("data.a", [("b", "eq", ["x]y"]), ("c", "eq", ["z"])]), id="a quoted bracket"),
        pytest.param(
            "a[name=x].uploaded=y", ("data.a", [("name", "eq", ["x"]), ("uploaded", "eq", ["y"])]), id="no fields"
        ),
    ],
)
def test_conditions_on_one_element_are_read(query, expected):
    assert inside(query) == expected


def test_one_underscore_is_enough_in_brackets_of_a_search():
    assert inside("a[b_gt=1].c_ne=x", single_underscore=True)[1] == [("b", "gt", [1]), ("c", "ne", ["x"])]


@pytest.mark.parametrize(
    "query",
    ["a[gte]=1", "a[]=1", "a[b]=1", "a[b=x]c=1", "a[b=x].=1", "a[b=x].c", "a[b=x]..c=1", "[a=1].b=2", "a[=1].b=2"],
)
def test_other_brackets_are_refused(query):
    with pytest.raises(BadParameter):
        read(query)


def test_conditions_on_elements_are_bounded_together():
    with pytest.raises(BadParameter, match="At most"):
        read("&".join(f"a[b={number}].c=1" for number in range(11)))


# -- words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["limt", "pages", "txt", "sotr", "age", "size", "from", "order", "total", "ids", "filter", "x", "Limit"]
)
def test_only_parameters_are_reserved(key):
    assert [path for path, _, _ in conditions_of(f"{key}=3")] == [f"data.{key}"]


@pytest.mark.parametrize(
    ("key", "keys", "nearest"),
    [
        pytest.param("labl", ["label", "site"], "label", id="a key that there is"),
        pytest.param("Site", ["label", "site"], "site", id="in another case"),
        pytest.param("widht", [], None, id="nothing near"),
        pytest.param("limt", ["label"], "limit", id="a parameter"),
        pytest.param("site.plt", ["site", "site.plot"], "site.plot", id="a member"),
        pytest.param("ids", [], "name__in=NAME,NAME", id="a parameter of another system"),
        pytest.param("order", ["border"], "sort=-KEY", id="before keys that are near"),
    ],
)
def test_the_nearest_key(key, keys, nearest):
    assert IMAGES.nearest(IMAGES.path("x", key), [IMAGES.path("x", each) for each in keys]) == nearest


@pytest.mark.parametrize("key", ["label", "site.plot", "width", "exif.Model", "data.width", "data.limit", "data"])
def test_a_path_is_spelled_as_it_is_read(key):
    assert IMAGES.key(IMAGES.path("x", key)) == key
    assert (
        IMAGES.key(IMAGES.path("x", f"data.{key}")) == (f"data.{key}" if key in ("width", "data") else key)
        or "." in key
    )


@pytest.mark.parametrize("text", ["true", "True", "false"])
def test_regex_is_no_switch(text):
    with pytest.raises(BadParameter, match="KEY__regex"):
        read(f"site=a&regex={text}")


@pytest.mark.parametrize("word", ["all", "limit", "sort", "after"])
def test_a_word_that_means_nothing_here_is_not_a_key(word):
    known = tuple(name for name in (*LISTING, *BULK_WORDS) if name != word)
    with pytest.raises(BadParameter) as refused:
        read(f"{word}=1", known)
    assert refused.value.members["parameter"] == word


def test_words_of_the_caller_are_left_to_it():
    wanted = read("kind=png&site=a&limit=5", (*FILTER_WORDS,), others=("kind", "limit"))
    assert wanted.rest == {"kind": "png", "limit": "5"}
    assert [each.path for each in wanted.query.filter.conditions] == [("data", "site")]


# -- pages --------------------------------------------------------------------------------


def test_a_page_as_it_is_where_nothing_is_said():
    wanted = read("")
    query = wanted.query
    assert query.filter.is_empty
    assert (query.skip, query.limit, query.after, query.exact, query.order, query.select) == (
        0,
        100,
        None,
        False,
        (),
        (),
    )
    assert (wanted.page, wanted.everything) == (1, False)


@pytest.mark.parametrize(
    ("query", "skip", "limit", "page"),
    [
        pytest.param("page=3", 200, 100, 3, id="a page"),
        pytest.param("page=3&limit=7", 14, 7, 3, id="a page of seven"),
        pytest.param("skip=14&limit=7", 14, 7, 3, id="what is passed over"),
        pytest.param("skip=15&limit=7", 15, 7, 3, id="no whole pages passed over"),
        pytest.param("after=x&page=9", 0, 100, 9, id="behind another, the number is a name"),
        pytest.param("after=x", 0, 100, None, id="behind another, nobody knows the number"),
    ],
)
def test_which_page(query, skip, limit, page):
    wanted = read(query)
    assert (wanted.query.skip, wanted.query.limit, wanted.page) == (skip, limit, page)


def test_the_order():
    wanted = (SortKey(("name",)), SortKey(("data", "stars"), descending=True), SortKey(("data", "site", "plot")))
    assert read("sort=name,-data.stars,site.plot").query.order == wanted


def test_what_is_selected():
    assert read("select=name,data.site,stars").query.select == (("name",), ("data", "site"), ("data", "stars"))


def test_exact_and_all():
    assert read("count=exact").query.exact
    assert read("all=True", (*FILTER_WORDS, *BULK_WORDS)).everything
    assert not read("all=0", (*FILTER_WORDS, *BULK_WORDS)).everything


def test_other_documents_have_other_fields():
    grammar = Grammar(fields={"artifact_id": "text", "kind": "text", "meta": "any"}, data="meta", name="artifact_id")
    read_one = grammar.read([("kind", "model"), ("width", "3"), ("regex", "^sha")], LISTING)
    paths = [each.path for each in read_one.query.filter.conditions]
    assert paths == [("artifact_id",), ("kind",), ("meta", "width")]
    assert grammar.key(("meta", "width")) == "width"
    with pytest.raises(BadParameter, match=r"meta\.all"):
        grammar.read([("all", "3")], LISTING)


# -- what a filter means ------------------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "name": "plots/été/n_12",
    "width": 640,
    "filename": None,
    "uploaded": "2026-03-01T10:00:00.000Z",
    "exif": {"Model": "X-T5"},
    "data": {
        "stars": 3,
        "text": "3",
        "ok": True,
        "no": False,
        "nothing": None,
        "tags": ["fox", "Dachs", 7],
        "empty": [],
        "hollow": {},
        "nested": [[1, 2], 3],
        "boxes": [{"label": "fox", "at": {"x": 1}}, {"label": "owl", "at": {"x": 9}}, 5],
        "huge": 10**400,
    },
}


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("stars=3", id="a number"),
        pytest.param('stars="3"', id="a number, quoted"),
        pytest.param("data.text=3", id="text that reads as the number"),
        pytest.param("stars=3.0", id="the same number"),
        pytest.param("ok=true&no=false&nothing=null", id="true, false and null"),
        pytest.param("filename=null", id="a field that is null"),
        pytest.param("tags=fox", id="an element"),
        pytest.param("tags=7", id="an element that is a number"),
        pytest.param("tags__ne=fox", id="another element is not"),
        pytest.param("boxes.label=owl", id="into each element"),
        pytest.param("boxes.at.x__gt=8", id="into each element, and on"),
        pytest.param("boxes.label=fox&boxes.at.x=9", id="each condition for some element"),
        pytest.param("missing__ne=1", id="what is not there differs"),
        pytest.param("empty__ne=1", id="an empty array reaches nothing"),
        pytest.param("hollow__ne=1", id="an object differs from everything"),
        pytest.param("missing__nin=1,2", id="what is not there is none of these"),
        pytest.param("stars__in=1,3", id="one of these"),
        pytest.param("stars__gt=2&stars__gte=3&stars__lt=4&stars__lte=3", id="numbers in order"),
        pytest.param("huge__gt=1e300", id="a whole number beyond a double"),
        pytest.param("uploaded__gte=2026&uploaded__lt=2026-03-02", id="times in order"),
        pytest.param("tags__regex=^D", id="a pattern in an element"),
        pytest.param("regex=^plots/.*_12$", id="a pattern in the name"),
        pytest.param("stars__exists=True&missing__exists=False", id="there, and not there"),
        pytest.param("empty__exists=True&nothing__exists=1&hollow__exists=1", id="nothing in it, but there"),
        pytest.param("boxes.label__exists=True", id="there in some element"),
        pytest.param("nested=3", id="an element beside an array"),
        pytest.param("text=ÉT", id="the beginning of a word of the name"),
        pytest.param("text=dachs+3+plots", id="words of data and name"),
        pytest.param("data.stars__ne=4", id="not equal"),
        pytest.param("tags=fox&tags=Dachs", id="one key twice, for an array that holds both"),
        pytest.param("boxes[label=owl].at.x=9", id="one element that fulfils both"),
        pytest.param("boxes[label__ne=owl].at.x__lt=5", id="one element that differs"),
        pytest.param("boxes[label=fox].z__exists=False", id="one element without a member"),
        pytest.param("data[stars=3].ok=true", id="an object that is no element"),
    ],
)
def test_a_filter_holds(query):
    assert holds(read(query).query.filter, DOCUMENT)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("stars=4", id="another number"),
        pytest.param("ok=1", id="true is not 1"),
        pytest.param('ok="true"', id="true is not text"),
        pytest.param("nothing=false", id="null is not false"),
        pytest.param("missing=null", id="what is not there is not null"),
        pytest.param("stars__ne=3", id="equal"),
        pytest.param("stars__nin=1,3", id="one of these"),
        pytest.param("hollow=1", id="an object equals nothing"),
        pytest.param("nested=1", id="an array in an array equals nothing"),
        pytest.param("data.text__gt=2", id="text is not above a number"),
        pytest.param('stars__gt="2"', id="a number is not above text"),
        pytest.param("stars__regex=3", id="a pattern is for text"),
        pytest.param("boxes.0.label=fox", id="elements have no number"),
        pytest.param("tags__exists=False", id="there"),
        pytest.param("empty.x__exists=True", id="nothing is in an empty array"),
        pytest.param("boxes.at=1", id="objects in elements equal nothing"),
        pytest.param("text=lots", id="the middle of a word"),
        pytest.param("text=fox+wolf", id="a word that is missing"),
        pytest.param("text=stars", id="a key is no word"),
        pytest.param("name.x=1", id="nothing is below text"),
        pytest.param("regex=^fox", id="the name is another"),
    ],
)
def test_a_filter_does_not_hold(query):
    assert not holds(read(query).query.filter, DOCUMENT)


@pytest.mark.parametrize(("prefix", "expected"), [("", True), ("plots/", True), ("plot/", False)])
def test_a_folder(prefix, expected):
    assert holds(Filter(prefix=prefix), DOCUMENT) is expected


_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from(["", "a", "b", "1"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(_VALUES, _SCALARS)
def test_what_is_equal_does_not_all_differ(value, other):
    document = {"name": "n", "data": {"a": value}}
    equal = holds(Filter((Condition(("data", "a"), "eq", (other,)),)), document)
    reached = collation.reached(document, ("data", "a"))
    all_equal = equal and len(reached) == 1
    assert holds(Filter((Condition(("data", "a"), "ne", (other,)),)), document) is not all_equal or len(reached) > 1


@given(_SCALARS.filter(lambda value: isinstance(value, str | float | int) and not isinstance(value, bool)), _SCALARS)
def test_comparisons_are_the_one_order(value, other):
    document = {"name": "n", "data": {"a": other}}
    if collation.kind_of(value) != collation.kind_of(other):
        expected = {"gt": False, "gte": False, "lt": False, "lte": False}
    else:
        one, than = collation.sortable(other), collation.sortable(value)
        expected = {"gt": one > than, "gte": one >= than, "lt": one < than, "lte": one <= than}
    results = {op: holds(Filter((Condition(("data", "a"), op, (value,)),)), document) for op in expected}
    assert results == expected


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(_TEXTS, min_size=1, max_size=5))
def test_values_in_quotes_are_read_as_they_were(texts):
    listed = ",".join(json.dumps(text, ensure_ascii=False) for text in texts)
    ((_, op, values),) = conditions_of("x__in=" + quote(listed))
    assert op == "eq"
    assert [value for value in values if isinstance(value, str)] == texts


@given(st.dictionaries(st.sampled_from(["a", "b", "c.d", "exif.x"]), _SCALARS, min_size=1))
def test_a_document_is_found_by_its_own_values(data):
    """What a client writes as JSON finds what holds it, whatever it is."""
    document: dict[str, Any] = {"name": "n", "exif": {"x": data.get("exif.x")}, "data": {"c": {"d": data.get("c.d")}}}
    document["data"].update({key: value for key, value in data.items() if "." not in key})
    query = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in data.items())
    assert holds(read(query).query.filter, document)


@settings(max_examples=200)
@given(st.lists(st.tuples(_TEXTS, _TEXTS), max_size=4), st.booleans())
def test_whatever_is_asked_is_read_or_refused(pairs, single):
    try:
        wanted = IMAGES.read(pairs, LISTING, single_underscore=single)
    except BadParameter as refused:
        assert refused.detail
    else:
        holds(wanted.query.filter, DOCUMENT)


# -- what is selected ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        pytest.param([], {"n": 1, "d": {"a": 1, "b": [{"x": 1, "y": 2}, 3]}}, id="nothing said is everything"),
        pytest.param([("n",)], {"n": 1}, id="a member"),
        pytest.param([("d", "a"), ("n",)], {"d": {"a": 1}, "n": 1}, id="in the order in which it is asked"),
        pytest.param([("d", "b", "x")], {"d": {"b": [{"x": 1}]}}, id="into each element"),
        pytest.param([("d",), ("d", "a")], {"d": {"a": 1, "b": [{"x": 1, "y": 2}, 3]}}, id="all of it, and a part"),
        pytest.param([("d", "a"), ("d",)], {"d": {"a": 1, "b": [{"x": 1, "y": 2}, 3]}}, id="a part, and all of it"),
        pytest.param([("z",), ("n", "z"), ("d", "z")], {"d": {}}, id="what is not there is left out"),
    ],
)
def test_a_projection(select, expected):
    document = {"n": 1, "d": {"a": 1, "b": [{"x": 1, "y": 2}, 3]}}
    assert same(project(document, select), expected)


# -- words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("plot_12/north-east", ["plot", "12", "north", "east"], id="marks stand between"),
        pytest.param("Straße STRASSE", ["strasse"], id="case does not count"),
        pytest.param("ﬁne ﬁne", ["fine"], id="nor do ligatures"),
        pytest.param("e\u0301te\u0301 été", ["été"], id="nor how an accent is written"),
        pytest.param("ete été", ["ete", "été"], id="the accent does"),
        pytest.param("हिन्दी 日本語", ["हिन्दी", "日本語"], id="any script, with its marks"),
        pytest.param("１２", ["12"], id="full-width digits"),
        pytest.param("x" * 60, ["x" * MOST_CHARACTERS], id="a long word is cut"),
        pytest.param("\x00 – …", [], id="none at all"),
    ],
)
def test_words(text, expected):
    assert list(words(text)) == expected


def test_words_of_a_document():
    document = {"name": "a/b", "filename": "no.jpg", "data": {"k": "One two", "n": [3.5, True, None, {"z": "two"}]}}
    assert words_of(document) == ("a", "b", "one", "two", "3", "5")


def test_words_are_bounded():
    document = {"name": "n", "data": {"t": " ".join(map(str, range(MOST_WORDS + 10)))}}
    assert len(words_of(document)) == MOST_WORDS


@given(st.text(max_size=30))
def test_words_of_words_are_themselves(text):
    split = words(text)
    assert words(" ".join(split)) == split
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        pytest.param("2026-11-21T11:59:47Z", "2026-11-21T11:59:47.000Z", id="to the second"),
        pytest.param("2026-11-21T11:59:47.477123Z", "2026-11-21T11:59:47.477Z", id="to the microsecond"),
        pytest.param("2026-11-21T12:59:47.477+01:00", "2026-11-21T11:59:47.477Z", id="with an offset"),
        pytest.param("2026-11-21", "2026-11-21", id="a day"),
        pytest.param("2026-11-21T11:59", "2026-11-21T11:59", id="nowhere"),
        pytest.param("2026", "2026", id="a year"),
        pytest.param("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00", id="before all years"),
    ],
)
@pytest.mark.parametrize("operator", ["", "__gte", "__lt", "__ne"])
def test_a_time_is_compared_as_records_tell_theirs(given: str, normalised: str, operator: str) -> None:
    query = IMAGES.read([(f"uploaded{operator}", given)], FILTER_WORDS).query
    assert query == IMAGES.read([(f"uploaded{operator}", normalised)], FILTER_WORDS).query
    assert normalised in query.filter.conditions[0].values
    (other,) = IMAGES.read([("data.t__gte", given)], FILTER_WORDS).query.filter.conditions
    assert given in map(str, other.values), "what users keep is theirs to spell"
