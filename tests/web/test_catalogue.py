"""The collection over HTTP: pages of records, filters, search, statistics, and changes of many."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threats import is_clean_problem
from webserver import Answer, Client, Served, embedded, serving

from image_repo.catalogue.base import Row
from image_repo.catalogue.evaluator import holds
from image_repo.catalogue.grammar import FILTER_WORDS, IMAGES, OPERATORS
from image_repo.config import CatalogueConfiguration, RenderConfiguration
from image_repo.model.names import ImageName
from image_repo.model.record import Record

#: name → what is said of it; none of them has a picture
SAID: dict[str, dict[str, Any]] = {
    "birds/auk": {"stars": 30, "species": "Alca torda", "seen": "2026-03-01T10:00:00Z", "tags": ["sea", "black"]},
    "birds/finch": {"stars": "30", "species": "Fringilla coelebs", "seen": "2026-03-02", "tags": ["wood"]},
    "birds/owl": {"stars": 4.5, "species": "Strix aluco", "ok": True, "tags": [], "site": {"plot": 12, "in": "Bern"}},
    "foxes/one": {"stars": 7, "species": "Vulpes vulpes", "ok": False, "site": {"plot": 3, "in": "Thun"}},
    "foxes/two": {"stars": None, "boxes": [{"label": "fox", "x": 1}, {"label": "cub", "x": 9}], "limt": 3},
    "hedge-hog": {"species": "Straße 12", "page": 3, "my_gt": 1, "ok": "true"},
}
PICTURES = ("shots/a", "shots/b")
ALL = sorted((*SAID, *PICTURES))


@pytest.fixture(scope="module", params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.servers)])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    url = request.getfixturevalue("postgres") if request.param == "PostgreSQL" else None
    config = embedded(folder, freshness=0.0, catalogue=CatalogueConfiguration(url=url))
    with serving(config, folder) as served:
        for name, data in SAID.items():
            assert say(served.client, "PUT", f"/images/{name}", data).status == 201
        for number, name in enumerate(PICTURES):
            body = pictures.jpeg(pictures.photo(64 + number, 48, number), camera=True, gps=True)
            assert served.client.put(f"/images/{name}", body).status == 201
        yield served


@pytest.fixture
def get(served):
    return served.client.get


def say(client: Client, method: str, path: str, data: Any, **headers: str) -> Answer:
    return client(method, path, json.dumps(data).encode(), Content_Type="application/json", **headers)


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body[:300]
    page = answer.json()
    listed = [image["name"] for image in page["images"]]
    assert page["count"] == len(listed)
    return listed


def put_rows(served: Served, count: int, *, begin: str = "many") -> None:
    """Tells the index alone: what it does with many is of interest, not where they come from."""
    rows = ((f"{begin}/{number:05}", {"n": number, "half": number // 2}) for number in range(count))
    served.repo.indexer.index.put(Row(name, Record.description(name, data).public(), "s") for name, data in rows)


# -- filters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("", ALL, id="everything, by name"),
        pytest.param("width=64", ["shots/a"], id="a bare key that is a field means the field"),
        pytest.param("stars=7", ["foxes/one"], id="any other means data.KEY"),
        pytest.param("data.stars=7", ["foxes/one"], id="which can be written out"),
        pytest.param("limt=3", ["foxes/two"], id="whatever it looks like"),
        pytest.param("page__gt=2", ["hedge-hog"], id="or like a word"),
        pytest.param("name=birds/owl", ["birds/owl"], id="a name"),
        pytest.param("stars=30", ["birds/auk", "birds/finch"], id="a number equals 30, and so does text"),
        pytest.param('stars="30"', ["birds/auk", "birds/finch"], id='a number equals "30"'),
        pytest.param("stars=30.0", ["birds/auk"], id="a number, however it is written"),
        pytest.param("stars__eq=7", ["foxes/one"], id="eq"),
        pytest.param("stars__equals=7", ["foxes/one"], id="equals"),
        pytest.param("name__regex=^birds&stars__ne=30", ["birds/owl"], id="ne"),
        pytest.param("stars__ne=30&stars__exists=1", ["birds/owl", "foxes/one", "foxes/two"], id="ne of what is there"),
        pytest.param("stars__gt=7", ["birds/auk"], id="gt is numeric for numbers"),
        pytest.param("stars__gte=7", ["birds/auk", "foxes/one"], id="gte"),
        pytest.param("stars__lt=7", ["birds/owl"], id="lt"),
        pytest.param("stars__lte=7", ["birds/owl", "foxes/one"], id="lte"),
        pytest.param('stars__gt="1"', ["birds/finch"], id="quoted, it is text"),
        pytest.param("seen__gt=2026-03-01T12:00:00Z", ["birds/finch"], id="ISO order for times"),
        pytest.param("seen__lt=2026-03-02", ["birds/auk"], id="ISO order for dates"),
        pytest.param("stars__in=7,4.5", ["birds/owl", "foxes/one"], id="in"),
        pytest.param('species__in="Strix aluco",x', ["birds/owl"], id="in with quotes"),
        pytest.param("name__regex=^(birds|foxes)&stars__nin=30,7", ["birds/owl", "foxes/two"], id="nin"),
        pytest.param("species__regex=^[AF]", ["birds/auk", "birds/finch"], id="regex"),
        pytest.param("regex=o[nw]", ["birds/owl", "foxes/one"], id="regex alone is on the name"),
        pytest.param("ok__exists=True", ["birds/owl", "foxes/one", "hedge-hog"], id="exists"),
        pytest.param("name__regex=^foxes&ok__exists=no", ["foxes/two"], id="does not exist"),
        pytest.param("ok=true", ["birds/owl"], id="true is itself"),
        pytest.param("ok=false", ["foxes/one"], id="false is itself"),
        pytest.param('ok="true"', ["hedge-hog"], id="true as text"),
        pytest.param("stars=null", ["foxes/two"], id="null is itself"),
        pytest.param("site.plot=12", ["birds/owl"], id="dots go into objects"),
        pytest.param("site.plot__lt=12&site.in=Thun", ["foxes/one"], id="several are and-ed"),
        pytest.param("boxes.label=cub", ["foxes/two"], id="dots go into each element of an array"),
        pytest.param("boxes.x__gt=8&boxes.label=fox", ["foxes/two"], id="each condition for one of its elements"),
        pytest.param("boxes[label=fox].x__lt=8", ["foxes/two"], id="both for one element"),
        pytest.param("boxes[label=fox].x__gt=8", [], id="not for two"),
        pytest.param("boxes[label=cub].label__regex=^c", ["foxes/two"], id="a pattern for the same element"),
        pytest.param("tags=sea&tags=black", ["birds/auk"], id="one key twice: both hold"),
        pytest.param("stars__in=30,7&stars__in=7,8", ["foxes/one"], id="one operator twice: both hold"),
        pytest.param("tags=wood", ["birds/finch"], id="an array that has the element"),
        pytest.param("tags__regex=^s", ["birds/auk"], id="a pattern for one of its elements"),
        pytest.param("tags__exists=True&tags__ne=sea", ["birds/auk", "birds/finch", "birds/owl"], id="ne for elements"),
        pytest.param("text=bird+owl", ["birds/owl"], id="free text, in the name"),
        pytest.param("text=STRASSE", ["hedge-hog"], id="free text, in data, any case"),
        pytest.param("text=vulp", ["foxes/one"], id="the beginning of a word"),
        pytest.param("text=ulpes", [], id="not its middle"),
        pytest.param("image_id__exists=True&image_id__ne=null", list(PICTURES), id="a field of pictures"),
        pytest.param("uploaded__gte=2026", list(PICTURES), id="a field of text"),
        pytest.param("exif.camera_model=K-1000", list(PICTURES), id="a field of exif"),
        pytest.param("xsize=3", [], id="what means something for pictures is a key here"),
    ],
)
def test_a_filter(get, query, expected):
    path = quote(query, safe="=&.,+()^[]|\"'")
    assert names(get(f"/images?{path}")) == expected
    assert names(get(f"/search?{path}")) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("stars_gt=7", ["birds/auk"], id="gt"),
        pytest.param("stars_gte=7", ["birds/auk", "foxes/one"], id="gte"),
        pytest.param("stars_lt=7", ["birds/owl"], id="lt"),
        pytest.param("stars_lte=7", ["birds/owl", "foxes/one"], id="lte"),
        pytest.param("regex=^birds&stars_ne=30", ["birds/owl"], id="ne"),
        pytest.param("site.plot_gt=3", ["birds/owl"], id="on a path"),
        pytest.param("width_gt=64", ["shots/b"], id="on a field"),
        pytest.param("my_gt__eq=1", ["hedge-hog"], id="a key that ends so, with an operator of its own"),
    ],
)
def test_one_underscore_is_enough_in_a_search(get, query, expected):
    assert names(get(f"/search?{query}")) == expected


def test_one_underscore_is_part_of_a_key_in_the_listing(get):
    assert names(get("/images?my_gt=1")) == ["hedge-hog"]
    assert names(get("/images?stars_gt=7")) == []


@pytest.mark.parametrize("where", ["/images", "/search", "/stats/stars"])
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        pytest.param("stars__gtt=3", "stars__gtt", id="no operator"),
        pytest.param("text=1&text=2", "text", id="given twice"),
        pytest.param("width__gt=abc", "width__gt", id="text for a number"),
        pytest.param("uploaded__lt=yesterday", "uploaded__lt", id="no time"),
        pytest.param("stars=7&regex=true", "regex", id="a switch of another system"),
        pytest.param("stars[gte]=1", "stars[gte]", id="an operator in brackets"),
        pytest.param("stars__regex=(?=a)", "stars__regex", id="look-ahead"),
        pytest.param("stars__regex=(a", "stars__regex", id="no pattern"),
        pytest.param("stars__gt=" + "9" * 5000, "stars__gt", id="5,000 digits"),
        pytest.param("limit=0", "limit", id="a page of nothing"),
        pytest.param("limit=1001", "limit", id="too large a page"),
        pytest.param("all=True", "all", id="a word of changes"),
        pytest.param("text=%2B", "text", id="no words"),
    ],
)
def test_a_bad_query_is_refused(get, where, query, parameter):
    answer = get(f"{where}?{query}")
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)
    is_clean_problem(answer)


@pytest.mark.parametrize(
    ("query", "keys", "nearest"),
    [
        pytest.param("star=3", ["star"], {"star": "stars"}, id="near a key"),
        pytest.param("lmit=3", ["lmit"], {"lmit": "limit"}, id="near a parameter"),
        pytest.param("data.nothing=3", ["nothing"], {}, id="near nothing"),
        pytest.param("stars__ne=3&sit__ne=3", ["sit"], {"sit": "site"}, id="where records match"),
        pytest.param("boxes[labl=fox].x=1", ["boxes.labl"], {"boxes.labl": "boxes.label"}, id="in brackets"),
        pytest.param("sort=star&limit=1", ["star"], {"star": "stars"}, id="in the order"),
        pytest.param("select=nmae", ["nmae"], {"nmae": "name"}, id="in what is selected"),
        pytest.param("ids=birds/owl", ["ids"], {"ids": "name__in=NAME,NAME"}, id="a parameter of another system"),
        pytest.param("order=-1", ["order"], {"order": "sort=-KEY"}, id="an order of another system"),
        pytest.param('filter={"a":1}', ["filter"], {"filter": "KEY__OP=VALUE"}, id="a filter of another system"),
    ],
)
def test_a_page_names_keys_that_no_record_has(get, query, keys, nearest):
    for path in ("/images", "/search"):
        page = get(f"{path}?{quote(query, safe='=&[]')}").json()
        assert (page["unknown_keys"], page.get("nearest", {})) == (keys, nearest)


def test_keys_that_records_have_are_not_named(get):
    page = get("/images?site.plot=12&exif.camera_model__exists=False&sort=boxes.x&select=name,width").json()
    assert "unknown_keys" not in page
    assert get("/stats/nothng").json()["unknown_keys"] == ["nothng"]
    assert "unknown_keys" not in get("/stats/stars?width__gt=3").json()


def test_the_keys_that_there_are(get):
    answer = get("/keys")
    keys = {usage["key"]: (usage["count"], usage["types"]) for usage in answer.json()["keys"]}
    assert keys["name"] == (8, {"text": 8})
    assert keys["width"] == (8, {"null": 6, "number": 2})
    assert keys["stars"] == (5, {"null": 1, "number": 3, "text": 1})
    assert keys["tags"] == (3, {"list": 3, "text": 2})
    assert keys["boxes.label"] == (1, {"text": 1})
    assert keys["data.page"] == (1, {"number": 1}), "page alone is a parameter"
    assert get("/keys", If_None_Match=answer.headers["ETag"]).status == 304
    first = get("/keys?limit=2").json()
    assert (len(first["keys"]), first["more"]) == (2, len(keys) - 2)
    assert get("/keys?limit=0").json()["parameter"] == "limit"


def test_a_query_that_is_no_utf8_is_refused(get):
    assert get("/images?name=%FF").slug == "bad-request"


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|aa)+$", "(.*){1,30}x", "^(([a-z])+.)+[A-Z]([a-z])+$", "(x+x+)+y", "\\pL{500}z"],
)
def test_patterns_that_hang_others_are_answered(served, pattern):
    data = {"long": "a" * 60_000}
    say(served.client, "PUT", "/images/zz-long", data)
    try:
        answer = served.client.get(f"/images?long__regex={quote(pattern)}&select=name")
        assert answer.status in (200, 400)
    finally:
        served.client.delete("/images/zz-long")


_KEYS = st.sampled_from(
    [
        "stars",
        "width",
        "name",
        "site.plot",
        "boxes.x",
        "tags",
        "data",
        "data.ok",
        "exif.camera_model",
        "my_gt",
        "nothing",
    ]
) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
_OPERATORS = st.sampled_from(["", *(f"__{name}" for name in OPERATORS), "_gt", "_ne"])
_TEXTS = st.sampled_from(
    ["30", '"30"', "true", "null", "fox", "[a-f]", "7,4.5", '"a,b",c', "-1e3", "", "sea", "True", "2026", "owl", "\0"]
) | st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=60)
@given(st.lists(st.tuples(_KEYS, _OPERATORS, _TEXTS), min_size=1, max_size=3), st.booleans())
def test_whatever_is_asked_is_refused_or_answered_as_it_is_meant(served, query_text, words):
    pairs = [(key + operator, text) for key, operator, text in query_text]
    pairs += [("text", query_text[0][2])] if words else []
    query = urlencode(pairs, quote_via=quote)
    answer = served.client.get(f"/search?{query}")
    if answer.status == 400:
        is_clean_problem(answer)
        return
    wanted = IMAGES.read(parse_qsl(query, keep_blank_values=True), FILTER_WORDS, single_underscore=True).query.filter
    everything = served.client.get("/images?limit=1000").json()["images"]
    assert names(answer) == [document["name"] for document in everything if holds(wanted, document)]


# -- pages --------------------------------------------------------------------------------


def test_a_page_tells_whole_records(get):
    page = get("/images?name=shots/a").json()
    assert {**page, "images": None} == {"count": 1, "page": 1, "limit": 100, "pages": 1, "images": None}
    assert page["images"] == [get("/images/shots/a?meta=True").json()]


def test_positions_are_not_found_where_they_are_not_told(get):
    assert "GPSLatitude" not in get("/images/shots/a?meta=True").json()["exif"]
    assert "GPS" not in get("/images?limit=1000").body.decode()
    assert names(get("/images?exif.latitude__exists=True")) == []
    assert get("/stats/exif.latitude").json()["count"] == 0


def test_what_is_selected(get):
    images = get("/images?regex=^birds&select=name,site.in,data.stars").json()["images"]
    assert images == [
        {"name": "birds/auk", "data": {"stars": 30}},
        {"name": "birds/finch", "data": {"stars": "30"}},
        {"name": "birds/owl", "data": {"site": {"in": "Bern"}, "stars": 4.5}},
    ]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("stars", ["birds/owl", "birds/auk", "birds/finch"]),
        ("-data.stars", ["birds/finch", "birds/auk", "birds/owl"]),
        ("-name", ["birds/owl", "birds/finch", "birds/auk"]),
        ("site.in,-name", ["birds/finch", "birds/auk", "birds/owl"]),
    ],
)
def test_the_order(get, sort, expected):
    assert names(get(f"/images?regex=^birds&sort={sort}")) == expected


def links(answer: Answer) -> dict[str, str]:
    return {rel: path for path, rel in re.findall('<([^>]*)>; rel="([a-z]+)"', answer.headers.get("Link", ""))}


def walk(client: Client, path: str, rel: str = "next") -> list[dict[str, Any]]:
    pages = []
    while path:
        answer = client.get(path)
        pages.append(answer.json())
        path = links(answer).get(rel, "")
    return pages


@pytest.mark.parametrize("limit", [1, 3, 8])
@pytest.mark.parametrize("query", ["", "&sort=-stars", "&sort=site.in,-name&regex=e", "&sort=-tags,stars&text=s"])
def test_next_leads_through_everything_once(served, limit, query):
    whole = names(served.client.get(f"/images?limit=1000{query}"))
    pages = walk(served.client, f"/images?limit={limit}{query}")
    assert [image["name"] for page in pages for image in page["images"]] == whole
    assert [page["page"] for page in pages] == list(range(1, len(pages) + 1))
    assert {page["pages"] for page in pages} == {len(pages)}


def test_next_leads_on_whatever_is_added_or_deleted_before(served):
    client = served.client
    first = client.get("/images?limit=3")
    say(client, "PUT", "/images/aaa", {})
    try:
        second = client.get(links(first)["next"])
        assert [image["name"] for image in second.json()["images"]] == ALL[3:6]
    finally:
        client.delete("/images/aaa")


def test_first_and_prev(served):
    answer = served.client.get("/images?limit=3&page=3&sort=-name")
    assert [image["name"] for image in answer.json()["images"]] == ALL[::-1][6:]
    back = walk(served.client, "/images?limit=3&page=3&sort=-name", "prev")
    assert [page["page"] for page in back] == [3, 2, 1]
    first = served.client.get(links(answer)["first"]).json()
    assert (first["page"], first["images"]) == (1, back[-1]["images"])
    assert set(links(served.client.get("/images"))) == {"first"}


def test_far_beyond_the_end_leads_back(served):
    """Said as it was asked for: a number of a page may stand for more than may be skipped."""
    for path, before in (("page=999999&limit=1000", "page=999998"), ("page=2&limit=1000", ""), ("skip=7", "skip=4")):
        back = links(served.client.get(f"/images?{path}" + ("&limit=3" if "skip" in path else "")))["prev"]
        assert before in back and ("page=" in back or "skip=" in back) is bool(before)
        assert served.client.get(back).status == 200


def test_skip_and_page(get):
    assert [image["name"] for image in get("/images?skip=2&limit=2").json()["images"]] == ALL[2:4]
    page = get("/images?page=2&limit=2").json()
    assert ([image["name"] for image in page["images"]], page["page"], page["pages"]) == (ALL[2:4], 2, 4)
    assert get("/images?skip=1000").json()["images"] == []


def test_the_link_keeps_what_was_asked(get):
    answer = get(f"/search?limit=1&stars_gte=1&text=bird&sort=-stars&{quote('site.in__ne')}={quote('a&b/ü')}")
    following = links(answer)["next"]
    assert "stars_gte=1" in following
    assert quote("a&b/ü", safe="/") in following.replace("%2F", "/")
    assert following.startswith("/search?")
    assert get(following).status == 200


def test_head(served):
    whole = served.client.get("/images?limit=2")
    answer = served.client("HEAD", "/images?limit=2")
    assert (answer.status, answer.body) == (200, b"")
    for name in ("Content-Type", "ETag", "Link", "Content-Length"):
        assert answer.headers[name] == whole.headers[name]
    assert served.client("HEAD", "/search?limit=0").status == 400


def test_the_head_of_a_page(get):
    answer = get("/images")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    again = get("/images", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def test_up_to_ten_thousand_are_counted_and_beyond_where_it_is_asked(tmp_path):
    with serving(embedded(tmp_path), tmp_path) as other:
        get = other.client.get
        put_rows(other, 10_000)
        page = get("/images?limit=1").json()
        assert (page["count"], "count_is" in page) == (10_000, False)
        put_rows(other, 50, begin="more")
        page = get("/images?limit=1").json()
        assert page["count_is"] == "estimate"
        assert page["count"] > 10_000
        exact = get("/images?limit=1&count=exact").json()
        assert (exact["count"], exact["pages"], "count_is" in exact) == (10_050, 10_050, False)
        assert get("/images?limit=1&n__lt=20").json()["count"] == 40


def test_a_page_while_the_catalogue_is_made_says_so(tmp_path):
    with serving(embedded(tmp_path), tmp_path) as other:
        other.repo.indexer.index.keep_note("rebuilding", "0.43")
        for path in ("/images", "/search", "/stats/width"):
            assert other.client.get(path).json()["catalogue"] == "rebuilding"
        answer = other.client.delete("/images?all=True")
        assert answer.json() == {"matched": 0, "modified": 0, "catalogue": "rebuilding"}


def test_an_index_that_somebody_has_just_deleted_is_not_taken_for_whole(tmp_path):
    with serving(embedded(tmp_path), tmp_path) as other:
        say(other.client, "PUT", "/images/there", {"site": "a"})
        assert "catalogue" not in other.client.get("/images").json()
        for file in (tmp_path / "shared").rglob("catalogue.sqlite*"):
            file.unlink()
        document = other.client.get("/images").json()
        assert (document["count"], document["catalogue"]) == (0, "rebuilding")
        assert other.client("PATCH", "/images?site=a", b"{}", Content_Type="application/json").json() == {
            "matched": 0,
            "modified": 0,
            "catalogue": "rebuilding",
        }
        for method, path in (("GET", "/export"), ("POST", "/snapshots?site=a")):
            assert other.client(method, path).slug == "catalogue-unavailable"


def test_nothing_is_told_of_what_is_no_image(served):
    data = served.folder / "data"
    (data / "secret.json").write_text('{"their": "own"}')
    say(served.client, "POST", "/artifacts?kind=model", {"their": "own"})
    assert names(served.client.get("/images")) == ALL
    assert names(served.client.get("/images?their=own")) == []
    assert served.client.get("/stats/their").json()["count"] == 0


# -- statistics ---------------------------------------------------------------------------


def test_statistics_of_numbers_and_strings_mixed(get):
    assert get("/stats/stars").json() == {
        "_id": None,
        "max": "30",
        "min": 4.5,
        "avg": pytest.approx((30 + 4.5 + 7) / 3),
        "count": 5,
        "key": "stars",
        "values": [{"count": 1, "value": value} for value in (None, 4.5, 7, 30, "30")],
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("site.plot", {"max": 12, "min": 3, "avg": 7.5, "count": 2}, id="nested"),
        pytest.param("data.site.plot", {"max": 12, "min": 3, "avg": 7.5, "count": 2}, id="nested, written out"),
        pytest.param("width", {"max": 65, "min": 64, "avg": 64.5, "count": 8}, id="a field"),
        pytest.param("site.in", {"max": "Thun", "min": "Bern", "avg": None, "count": 2}, id="strings"),
        pytest.param("stars?stars_gt=5", {"max": 30, "min": 7, "avg": 18.5, "count": 2}, id="of those that match"),
        pytest.param("stars?stars__gt=5", {"max": 30, "min": 7, "avg": 18.5, "count": 2}, id="two underscores"),
        pytest.param("stars?regex=^birds&text=owl", {"max": 4.5, "min": 4.5, "avg": 4.5, "count": 1}, id="by words"),
        pytest.param("nothing", {"max": None, "min": None, "avg": None, "count": 0, "values": []}, id="no such key"),
    ],
)
def test_statistics(get, path, expected):
    document = get(f"/stats/{path}").json()
    assert {name: document[name] for name in expected} == expected
    assert document["key"] == path.partition("?")[0]


def test_every_element_counts_and_the_most_frequent_is_first(get):
    document = get("/stats/tags?limit=2").json()
    assert (document["count"], document["values"], document["more"]) == (
        3,
        [{"count": 1, "value": v} for v in ("black", "sea")],
        1,
    )
    document = get("/stats/media_type").json()
    assert document["values"] == [{"count": 6, "value": None}, {"count": 2, "value": "image/jpeg"}]


@pytest.mark.parametrize("key", ["", "a.", "a..b", "x" * 1001])
def test_a_bad_key_is_refused(get, key):
    answer = get(f"/stats/{key}")
    assert (answer.status, answer.json()["parameter"]) == (400, "KEY")


# -- changes of many ----------------------------------------------------------------------


@pytest.fixture
def other(tmp_path):
    with serving(embedded(tmp_path, freshness=0.0), tmp_path) as other:
        for number in range(6):
            say(other.client, "PUT", f"/images/d/{number}", {"n": number, "even": number % 2 == 0})
        other.client.put("/images/p", pictures.jpeg(pictures.photo(64, 48)))
        yield other


def records_by_name(other: Served) -> dict[str, Any]:
    """What is said of each image, as the container has it; the index says the same."""
    listed = {image["name"]: image["data"] for image in other.client.get("/images").json()["images"]}
    stored = {name: other.client.get(f"/images/{name}?meta=True").json()["data"] for name in listed}
    assert listed == stored
    return stored


def test_a_patch_of_many_merges(other):
    before = records_by_name(other)
    answer = say(other.client, "PATCH", "/images?even=true", {"even": None, "site": {"in": "Bern"}})
    assert (answer.status, answer.json()) == (200, {"matched": 3, "modified": 3})
    after = records_by_name(other)
    assert after.pop("d/2") == {"n": 2, "site": {"in": "Bern"}}
    assert {name for name in after if after[name] != before[name]} == {"d/0", "d/4"}


def test_a_patch_counts_what_really_changed(other):
    assert say(other.client, "PATCH", "/images?even=true", {"n": 2}).json() == {"matched": 3, "modified": 2}
    assert say(other.client, "PATCH", "/images?even=true", {"n": 2}).json() == {"matched": 3, "modified": 0}
    assert say(other.client, "PATCH", "/images?n=2", {"n": 2.5}).json() == {"matched": 3, "modified": 3}
    assert say(other.client, "PATCH", "/images?even=true", {"even": 1}).json() == {"matched": 3, "modified": 3}


def test_a_delete_of_many(other):
    answer = other.client.delete("/images?n__gte=2")
    assert (answer.status, answer.json()) == (200, {"matched": 4, "modified": 4})
    assert sorted(records_by_name(other)) == ["d/0", "d/1", "p"]
    assert other.client.get("/images/d/5?meta=True").status == 404
    assert other.client.delete("/images?regex=^p$").json() == {"matched": 1, "modified": 1}
    assert not list((other.folder / "data").glob("p.*"))


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("query", ["", "all=False", "all=0"])
def test_everything_has_to_be_said(served, method, query):
    before = records_by_name(served)
    answer = say(served.client, method, f"/images?{query}", {"a": 1})
    assert (answer.status, answer.json()["parameter"]) == (400, "all")
    assert records_by_name(served) == before


def test_everything_where_it_is_said(other):
    assert say(other.client, "PATCH", "/images?all=True", {"a": 1}).json() == {"matched": 7, "modified": 7}
    assert other.client.delete("/images?all=True&even=true").json() == {"matched": 3, "modified": 3}
    assert other.client.delete("/images?all=1").json() == {"matched": 4, "modified": 4}
    assert records_by_name(other) == {}


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        pytest.param("limit=2&even=true", "limit", id="a page"),
        pytest.param("sort=n&even=true", "sort", id="an order"),
        pytest.param("labl__ne=cat", "labl", id="a key that no record has: all differ"),
        pytest.param("labl__nin=cat,dog&stars__gt=1", "labl", id="nor is it one of several"),
        pytest.param("data.labl__exists=False", "labl", id="nor does it exist"),
        pytest.param("boxes[labl__ne=fox].x=1", "boxes.labl", id="in brackets"),
        pytest.param("width__ne=abc", "width__ne", id="a number always differs from text"),
        pytest.param("uploaded__lt=yesterday", "uploaded__lt", id="every time is before text"),
        pytest.param("all=maybe", "all", id="no boolean"),
    ],
)
def test_a_change_of_many_takes_only_a_filter(served, method, query, parameter):
    before = records_by_name(served)
    answer = say(served.client, method, f"/images?{query}", {"a": 1})
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)
    assert records_by_name(served) == before


def test_the_nearest_of_a_key_that_no_record_has(other):
    document = say(other.client, "PATCH", "/images?evn__ne=true", {"a": 1}).json()
    assert (document["parameter"], document["nearest"]) == ("evn", "even")
    answer = other.client.delete("/images?evn=true")
    assert (answer.status, answer.json()) == (
        200,
        {"matched": 0, "modified": 0, "unknown_keys": ["evn"], "nearest": {"evn": "even"}},
    )
    assert say(other.client, "PATCH", "/images?new__exists=False&all=True", {"new": 1}).json()["modified"] == 7
    assert other.client.delete("/images?new__ne=1").json() == {"matched": 0, "modified": 0}


def test_a_dry_run_counts_and_changes_nothing(other):
    before = records_by_name(other)
    for answer in (
        say(other.client, "PATCH", "/images?even=true&dry=True", {"a": 1}),
        other.client.delete("/images?even=true&dry=True"),
    ):
        assert (answer.status, answer.json()) == (200, {"matched": 3, "modified": 0, "dry": True})
    assert other.client.delete("/images?dry=1").json()["parameter"] == "all"
    assert other.client.delete("/images?dry=1&all=1").json()["matched"] == 7
    assert other.client.delete("/images?dry=1&evn__ne=1").json()["parameter"] == "evn"
    assert say(other.client, "PATCH", "/images?dry=1&all=1", []).status == 400
    assert records_by_name(other) == before


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("header", ["If_Match", "If_None_Match", "If_Unmodified_Since"])
def test_conditions_are_for_one_image(served, method, header):
    before = records_by_name(served)
    assert say(served.client, method, "/images?all=True", {"a": 1}, **{header: "*"}).slug == "bad-request"
    assert records_by_name(served) == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        pytest.param(b"[]", "application/json", 400, id="no object"),
        pytest.param(b"{", "application/json", 400, id="no JSON"),
        pytest.param(b'{"a":NaN}', "application/json", 400, id="NaN"),
        pytest.param(b"{}", "text/plain", 415, id="another type"),
        pytest.param(b'{"a":"' + b"x" * (65 << 10) + b'"}', "application/json", 413, id="too much"),
    ],
)
def test_a_patch_of_many_is_judged_as_that_of_one(served, body, kind, status):
    before = records_by_name(served)
    answer = served.client("PATCH", "/images?all=True", body, Content_Type=kind)
    assert answer.status == status
    is_clean_problem(answer)
    assert records_by_name(served) == before


def test_a_merge_patch_is_taken(other):
    answer = other.client("PATCH", "/images?n=1", b'{"n":null}', Content_Type="application/merge-patch+json")
    assert answer.json() == {"matched": 1, "modified": 1}


def foreign_json(other: Served, name: str) -> None:
    """Another tool's JSON lies where the record of an image would be."""
    (other.folder / "data" / f"{name}.json").write_text('{"their": "own"}')


def test_what_fails_midway_is_told_and_the_rest_is_done(other):
    for name in ("d/1x", "d/3x"):
        other.client.form(f"/images/{name}", ("file", "x.jpg", pictures.jpeg()), ("data", None, b'{"n": 9}'))
    foreign_json(other, "d/3x")
    answer = say(other.client, "PATCH", "/images?name__regex=^d/", {"new": True})
    document = answer.json()
    assert (answer.status, answer.slug) == (409, "partly-done")
    assert (document["matched"], document["modified"], document["more"]) == (8, 7, 0)
    assert [(each["name"], each["status"]) for each in document["failed"]] == [("d/3x", 409)]
    assert "another tool's" in document["failed"][0]["detail"]
    is_clean_problem(answer, str(other.folder))
    assert names(other.client.get("/images?new=true")) == ["d/0", "d/1", "d/1x", "d/2", "d/3", "d/4", "d/5"]
    assert (other.folder / "data" / "d" / "3x.json").read_text() == '{"their": "own"}'


def test_a_record_that_a_patch_would_make_too_large_fails_alone(other):
    say(other.client, "PUT", "/images/d/2", {"n": 2, "text": "x" * (40 << 10)})
    answer = say(other.client, "PATCH", "/images?all=True", {"more": "y" * (40 << 10)})
    document = answer.json()
    assert (answer.status, document["matched"], document["modified"]) == (409, 7, 6)
    assert [(each["name"], each["status"]) for each in document["failed"]] == [("d/2", 413)]


def test_no_more_failures_are_told_than_fit(other):
    names_ = [f"f/{number:03}" for number in range(103)]
    for name in names_:
        other.client("PUT", f"/images/{name}", b'{"t":1}', Content_Type="application/json")
        (other.folder / "data" / f"{name}.json").write_text("{}")
        (other.folder / "data" / f"{name}.jpg").write_bytes(b"no picture")
    document = say(other.client, "PATCH", "/images?t=1", {"new": True}).json()
    assert (document["matched"], document["modified"], len(document["failed"]), document["more"]) == (103, 0, 100, 3)


def test_a_change_that_ended_early_says_where_and_that_it_may_be_asked_again(tmp_path):
    with serving(replace(embedded(tmp_path), render=RenderConfiguration(wait=0.2)), tmp_path) as busy:
        for name in ("a", "b"):
            say(busy.client, "PUT", f"/images/{name}", {"n": 1})
        with busy.repo.metadata.lock(ImageName("a")), busy.repo.metadata.lock(ImageName("b")):
            answer = busy.client.delete("/images?n=1")
        document = answer.json()
        assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "unfinished", "2")
        assert (document["matched"], document["modified"], document["last"]) == (2, 0, "b")
        assert [each["status"] for each in document["failed"]] == [503, 503]
        assert "name__gt" in document["detail"]
        with busy.repo.metadata.lock(ImageName("a")):
            answer = busy.client.delete("/images?n=1")
        assert (answer.status, answer.slug) == (503, "unfinished")
        assert "last" not in answer.json(), "all were looked at"
        assert busy.client.delete("/images?n=1").json() == {"matched": 1, "modified": 1}


def test_no_origin_is_told_where_none_may(tmp_path):
    with serving(replace(embedded(tmp_path), cors_origin=None), tmp_path) as closed:
        headers = closed.client.get("/images").headers
        assert not {name for name in headers if name.startswith("Access-Control")}


# -- without a catalogue ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/images"), ("GET", "/search"), ("GET", "/stats/a"), ("PATCH", "/images?a=1"), ("DELETE", "/images?a=1")],
)
def test_without_a_catalogue_nothing_is_asked(tmp_path, method, path):
    config = replace(embedded(tmp_path), catalogue=CatalogueConfiguration(enabled=False))
    with serving(config, tmp_path) as other:
        answer = say(other.client, method, path, {"a": 1})
        assert (answer.status, answer.slug) == (501, "catalogue-disabled")
        assert other.client.put("/images/a", pictures.jpeg()).status == 201
        assert other.client.get("/images/a").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/images"), ("GET", "/search"), ("GET", "/stats/a"), ("PATCH", "/images?a=1"), ("DELETE", "/images?a=1")],
)
def test_while_the_catalogue_cannot_be_asked_pictures_are_served(tmp_path, method, path):
    config = replace(embedded(tmp_path), catalogue=CatalogueConfiguration(url=f"sqlite:///{tmp_path}"))
    with serving(config, tmp_path) as other:  # it is a folder, and no file
        answer = say(other.client, method, path, {"a": 1})
        assert (answer.status, answer.slug) == (503, "catalogue-unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        is_clean_problem(answer, str(tmp_path))
        assert other.client.put("/images/a", pictures.jpeg()).status == 201
        assert other.client.get("/images/a").status == 200


def test_a_base_of_several_parts(tmp_path: Path):
    with serving(embedded(tmp_path, repository_base_pathname="api/images"), tmp_path) as other:
        say(other.client, "PUT", "/api/images/a", {"n": 1})
        say(other.client, "PUT", "/api/images/b", {"n": 1})
        answer = other.client.get("/api/images?limit=1")
        assert links(answer)["next"].startswith("/api/images?")
        assert names(other.client.get("/search?n=1")) == ["a", "b"]
        assert other.client.delete("/api/images?n=1").json() == {"matched": 2, "modified": 2}
