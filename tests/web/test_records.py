"""Records over HTTP: what users say of images, descriptions without a picture, entity tags, many writers at once."""

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from swiftserved import house, sharing
from webserver import embedded, serving

from image_repo.concurrency.locks import KeyedLock
from image_repo.errors import BadBody, Busy, TooLarge
from image_repo.model.record import Record
from image_repo.repository.metadata import MAX_NESTING, MOST_DATA, check_data, merge

JSON, PATCH = "application/json", "application/merge-patch+json"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    with serving(embedded(folder, freshness=0.0), folder) as served:
        yield served


@pytest.fixture
def client(served):
    return served.client


def picture(seed: int = 0) -> bytes:
    return pictures.jpeg(pictures.photo(64, 48, seed))


def say(client, method, path, data, kind=JSON, **headers):
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return client(method, path, body, Content_Type=kind, **headers)


def record(client, name):
    return client.get(f"/images/{name}?meta=True")


# -- merging ----------------------------------------------------------------------------------

#: RFC 7396, appendix A
CASES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("data", "patch", "merged"), CASES, ids=[json.dumps(case[:2]) for case in CASES])
def test_the_cases_of_rfc_7396(data, patch, merged):
    before = json.dumps(data)
    assert merge(data, patch) == merged
    assert json.dumps(data) == before, "what is remembered elsewhere must not change"


_VALUES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=2), _VALUES), st.dictionaries(st.text(max_size=2), _VALUES))
def test_a_patch_done_twice_is_done_once(data, patch):
    once = merge(data, patch)
    assert merge(once, patch) == once
    assert merge({}, data) == data, "without null, data is a patch of nothing"


def nested(levels):
    return json.loads('{"a":' * levels + "1" + "}" * levels)


def test_data_is_bounded():
    room = MOST_DATA - len('{"a":""}')
    check_data({"a": "x" * room})
    check_data(nested(MAX_NESTING))
    with pytest.raises(TooLarge, match=str(MOST_DATA)):
        check_data({"a": "é" * (room // 2 + 1)})
    with pytest.raises(BadBody, match=str(MAX_NESTING)):
        check_data(nested(MAX_NESTING + 1))


# -- changing data ----------------------------------------------------------------------------


#: what is no object, and is data all the same
PLAIN = [[1, {"a": [2]}], "text", "", 7, 0, 1e-7, True, False, []]


@pytest.mark.parametrize("data", PLAIN, ids=json.dumps)
def test_data_is_any_json(client, data):
    assert say(client, "PUT", "/images/any", data).json()["data"] == data
    assert record(client, "any").json()["data"] == data
    assert say(client, "PATCH", "/images/any", {"a": 1}).json()["data"] == {"a": 1}
    assert say(client, "PATCH", "/images/any", data).json()["data"] == data
    answer = client.form("/images/anyform", ("file", "a.jpg", picture()), ("data", None, json.dumps(data).encode()))
    assert answer.json()["data"] == data == record(client, "anyform").json()["data"]
    assert client.get("/images/anyform?w=20").status == 200, "no point of interest is looked for in it"
    client.delete("/images/anyform")


def test_data_that_is_no_object_is_found(client):
    say(client, "PUT", "/images/found/list", [{"site": "north"}, {"site": "south", "n": 3}])
    say(client, "PUT", "/images/found/text", "a lonely walrus")
    say(client, "PUT", "/images/found/number", 12)

    def names(query):
        return [image["name"] for image in client.get(f"/images?name__regex=^found/&{query}").json()["images"]]

    assert names("site=south") == names("n__gte=3") == ["found/list"]
    assert names("data=12") == names("data__gt=11") == ["found/number"]
    assert names("text=walrus") == names("data__regex=lonely") == ["found/text"]
    assert names("site__exists=False") == ["found/number", "found/text"]
    assert names("sort=-data") == ["found/list", "found/text", "found/number"]


def test_fields_stand_beside_members_alone(client):
    parts = ("file", "a.jpg", picture()), ("data", None, b"[1]"), ("site", None, b"north")
    answer = client.form("/images/beside", *parts)
    assert (answer.status, answer.slug) == (400, "bad-body")
    assert "object" in answer.json()["detail"]


def test_the_same_bytes_again_say_something_else(client):
    for data, merged in (({"a": 1}, {"a": 1}), ({"b": 2}, {"a": 1, "b": 2}), ([3], [3]), ({"c": 4}, {"c": 4})):
        parts = ("file", "a.jpg", picture(99)), ("data", None, json.dumps(data).encode())
        assert client.form("/images", *parts).json()["data"] == merged


@pytest.mark.parametrize("kind", [PATCH, JSON, "application/json; charset=utf-8"])
def test_a_patch_is_merged_and_leaves_the_facts_alone(client, kind):
    client.form("/images/p", ("file", "a.jpg", picture()), ("data", None, b'{"site":{"id":7,"old":1},"stars":3}'))
    before, rendition = record(client, "p").json(), client.get("/images/p?w=20")
    answer = say(client, "PATCH", "/images/p.jpg", {"site": {"old": None, "new": [1]}, "width": 9, "owner": "me"}, kind)
    assert answer.status == 200
    data = {"site": {"id": 7, "new": [1]}, "stars": 3, "width": 9, "owner": "me"}
    assert answer.json() == {**before, "data": data} == record(client, "p").json()
    assert client.get("/images/p?w=20").headers["ETag"] == rendition.headers["ETag"], "the picture is the same"


def test_put_with_json_replaces_the_data_and_only_that(client):
    client.form("/images/r", ("file", "a.jpg", picture()), ("data", None, b'{"a":1}'))
    before = record(client, "r").json()
    answer = say(client, "PUT", "/images/r", {"b": None, "é": "日本"})
    assert (answer.status, answer.json()) == (200, {**before, "data": {"b": None, "é": "日本"}})
    assert record(client, "r").json() == answer.json()
    assert client.put("/images/r", picture(2)).json()["data"] == {"b": None, "é": "日本"}


def test_data_of_a_picture_that_another_tool_put_there(client, served):
    path = served.folder / "data" / "theirs.JPG"
    path.write_bytes(picture(3))
    answer = say(client, "PATCH", "/images/theirs", {"a": 1})
    assert (answer.status, answer.json()["width"], answer.json()["data"]) == (200, 64, {"a": 1})
    path.write_bytes(pictures.jpeg(pictures.photo(99, 33)))
    document = say(client, "PATCH", "/images/theirs", {"b": 2}).json()
    assert (document["width"], document["data"]) == (99, {"a": 1, "b": 2})


def test_another_tools_json_is_left_alone(client, served):
    folder = served.folder / "data"
    (folder / "note.jpg").write_bytes(picture())
    for name in ("note", "alone"):
        (folder / f"{name}.json").write_text('{"their": "own"}')
        answer = say(client, "PUT", f"/images/{name}", {"a": 1})
        assert (answer.status, answer.slug) == (409, "name-conflict")
        assert (folder / f"{name}.json").read_text() == '{"their": "own"}'


def test_the_point_of_interest_is_followed_at_once(tmp_path):
    config = embedded(tmp_path, freshness=3600.0)
    with serving(config, tmp_path) as one, serving(config, tmp_path) as two:
        one.client.put("/images/f", picture())
        path = "/images/f?w=20&h=40&fit=cover&kind=png"
        before = two.client.get(path)
        say(one.client, "PATCH", "/images/f", {"focus": "0,0"})
        left = one.client.get("/images/f?w=20&h=40&fit=cover&kind=png&focus=0,0")
        assert before.body != left.body == two.client.get(path).body == one.client.get(path).body


def test_who_looks_between_a_picture_and_its_record_sees_what_is_said_with_it_at_once(tmp_path, monkeypatch):
    config = embedded(tmp_path, freshness=3600.0)
    with serving(config, tmp_path) as one, serving(config, tmp_path) as two:
        path = "/images/f?w=20&h=40&fit=cover&kind=png"
        one.client.form("/images/f", ("file", "a.jpg", picture()), ("data", None, b'{"focus":"1,1"}'))
        store, looked = one.repo.origin._store, []
        put = store.put

        def put_seen(key, *rest, **options):
            if key == "f.json":
                looked.append(two.client.get(path).body)
            return put(key, *rest, **options)

        monkeypatch.setattr(store, "put", put_seen)
        one.client.form("/images/f", ("file", "a.jpg", picture(2)), ("data", None, b'{"focus":"0,0"}'))
        old, new = (one.client.get(f"{path}&focus={focus}").body for focus in ("1,1", "0,0"))
        ahead, between = looked  # of the new picture: with its intent, and with its record
        assert ahead not in (old, new)
        assert between == new != old
        assert two.client.get(path).body == one.client.get(path).body == new


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
@pytest.mark.parametrize(
    ("body", "status", "slug", "message"),
    [
        pytest.param(b"", 400, "bad-body", "JSON", id="nothing"),
        pytest.param(b"{", 400, "bad-body", "JSON", id="half an object"),
        pytest.param(b"null", 400, "bad-body", "other than null", id="null"),
        pytest.param(b'{"a":NaN}', 400, "bad-body", "NaN", id="NaN"),
        pytest.param(b'{"a":-Infinity}', 400, "bad-body", "Infinity", id="infinity"),
        pytest.param(b'{"a":1e999}', 400, "bad-body", "too large", id="beyond a float"),
        pytest.param(b'{"a":"\\ud800"}', 400, "bad-body", "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"\\udfff":1}', 400, "bad-body", "surrogate", id="half a surrogate pair as a key"),
        pytest.param(b'{"a":"\xff"}', 400, "bad-body", "UTF-8", id="no UTF-8"),
        pytest.param(json.dumps(nested(33)).encode(), 400, "bad-body", "32 deep", id="33 levels"),
        pytest.param(b'{"a":' + b"[" * 60_000, 400, "bad-body", "32 deep", id="60,000 levels"),
        pytest.param(json.dumps({"a": "x" * MOST_DATA}).encode(), 413, "too-large", "65536", id="64 KiB and more"),
        pytest.param(b" " * (1 << 20) + b"{}", 413, "too-large", "bytes", id="a megabyte of blanks"),
    ],
)
def test_data_that_is_refused_changes_nothing(client, method, body, status, slug, message):
    say(client, "PUT", "/images/bad", {"kept": True})
    answer = say(client, method, "/images/bad", body)
    assert (answer.status, answer.slug) == (status, slug)
    assert message in answer.json()["detail"]
    assert record(client, "bad").json()["data"] == {"kept": True}


def test_patches_together_may_not_pass_the_bound(client):
    say(client, "PUT", "/images/growing", {"a": "x" * 40_000})
    assert say(client, "PATCH", "/images/growing", {"b": "x" * 40_000}).slug == "too-large"
    assert list(record(client, "growing").json()["data"]) == ["a"]


@pytest.mark.parametrize(
    ("method", "kind", "status"),
    [
        ("PATCH", "text/plain", 415),
        ("PATCH", "application/json-patch+json", 415),
        ("PATCH", "image/jpeg", 415),
        ("PUT", PATCH, 415),
        ("PUT", "application/ld+json", 415),
    ],
)
def test_other_types_are_refused(client, method, kind, status):
    say(client, "PUT", "/images/typed", {})
    assert say(client, method, "/images/typed", {"a": 1}, kind).status == status
    assert record(client, "typed").json()["data"] == {}


def test_where_there_is_nothing_to_patch(client):
    assert say(client, "PATCH", "/images/nothing", {"a": 1}).slug == "image-not-found"
    assert say(client, "PATCH", "/images/folder/", {"a": 1}).slug == "bad-name"
    assert say(client, "PATCH", "/images/nothing?a=1", {"a": 1}).slug == "bad-parameter"


def test_digests_of_data_are_verified(client):
    wrong = say(client, "PUT", "/images/digest", {"a": 1}, Repr_Digest=f"sha-256=:{'A' * 43}=:")
    assert wrong.slug == "digest-mismatch"
    assert record(client, "digest").status == 404


# -- descriptions without a picture -----------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_description_waits_for_its_picture(client, served, method):
    name = f"later/{method}"
    made = say(client, method, f"/images/{name}", {"site": "Bern"})
    assert (made.status, made.headers["Location"]) == (201, f"/images/{name}")
    nothing = ("version", "sha256", "image_id", "media_type", "bytes", "width", "height", "filename", "uploaded")
    empty = {"name": name, **dict.fromkeys((*nothing, "owner")), "exif": {}, "data": {"site": "Bern"}}
    assert made.json() == empty == record(client, name).json() == record(client, f"{name}.png").json()
    for path in (name, f"{name}?w=20", f"{name}?url=True"):
        assert client.get(f"/images/{path}").slug == "image-not-found"
    assert name in [image["name"] for image in client.get("/images").json()["images"]]
    assert say(client, "PATCH", f"/images/{name}", {"stars": 2}).json()["data"] == {"site": "Bern", "stars": 2}
    uploaded = client.put(f"/images/{name}", picture())
    assert (uploaded.status, uploaded.json()["data"]) == (201, {"site": "Bern", "stars": 2})
    assert uploaded.json()["width"] == record(client, name).json()["width"] == 64
    assert client.get(f"/images/{name}?w=20").status == 200


def test_a_picture_that_another_tool_adds_keeps_what_was_said(client, served):
    say(client, "PUT", "/images/swiftly", {"a": 1})
    (served.folder / "data" / "swiftly.png").write_bytes(pictures.png(pictures.photo(31, 17)))
    document = record(client, "swiftly").json()
    assert (document["width"], document["data"]) == (31, {"a": 1})
    assert client.get("/images/swiftly").status == 200


def test_a_description_goes_as_images_do(client, served):
    say(client, "POST", "/images/gone", {"a": 1})
    answer = client.delete("/images/gone")
    assert answer.json()["deleted"] == {"original": 0, "record": 1, "memory": 0, "disk": 0, "cache": 0}
    assert (record(client, "gone").status, client.delete("/images/gone").status) == (404, 404)


def test_a_record_whose_original_was_taken_away_describes_nothing(client, served):
    client.form("/images/orphan", ("file", "a.jpg", picture()), ("data", None, b'{"a":1}'))
    (served.folder / "data" / "orphan.jpg").unlink()
    assert (record(client, "orphan").status, say(client, "PATCH", "/images/orphan", {"b": 1}).status) == (404, 404)
    assert say(client, "PUT", "/images/orphan", {"b": 1}).status == 201
    assert record(client, "orphan").json()["data"] == {"b": 1}


@pytest.mark.parametrize(
    ("path", "name", "called"),
    [
        ("/images", "own/name", "own/name"),
        ("/images", "own.jpg", "own"),
        ("/images/below/", "it", "below/it"),
    ],
)
def test_a_description_names_itself(client, path, name, called):
    answer = say(client, "POST", path, {"name": name, "a": 1})
    assert (answer.status, answer.json()["name"]) == (201, called)
    assert answer.json()["data"] == {"name": name, "a": 1} == record(client, called).json()["data"]


def test_a_description_without_a_name_gets_one(client):
    first, second = (say(client, "POST", "/images", {"a": 1}).json()["name"] for _ in range(2))
    assert first != second
    assert record(client, first).status == record(client, second).status == 200


@pytest.mark.parametrize(
    ("name", "slug"), [(3, "bad-body"), (None, "bad-body"), ("../x", "bad-name"), ("", "bad-name"), (".a", "bad-name")]
)
def test_a_name_that_is_none_is_refused(client, name, slug):
    answer = say(client, "POST", "/images", {"name": name})
    assert (answer.status, answer.slug) == (400, slug)


# -- entity tags and conditions ---------------------------------------------------------------


def test_a_record_has_an_entity_tag_of_its_own(client):
    client.put("/images/tagged", picture())
    first = record(client, "tagged")
    assert first.headers["ETag"] == f'"{hashlib.sha256(first.body).hexdigest()[:32]}"'
    assert first.headers["ETag"] != client.get("/images/tagged").headers["ETag"]
    same = client.get("/images/tagged?meta=True", If_None_Match=first.headers["ETag"])
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    changed = say(client, "PATCH", "/images/tagged", {"a": 1})
    assert changed.headers["Content-Location"] == "/images/tagged?meta=True"
    assert changed.headers["ETag"] == record(client, "tagged").headers["ETag"] != first.headers["ETag"]
    assert client.get("/images/tagged?meta=True", If_None_Match=first.headers["ETag"]).status == 200


@pytest.mark.parametrize("pictured", [True, False], ids=["a picture", "a description"])
@pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("tag", "status"),
    [("NOW", 200), ("*", 200), ('"other", NOW', 200), ('"other"', 412), ("BEFORE", 412), ("W/NOW", 412)],
)
def test_if_match_guards_against_lost_updates(client, pictured, method, tag, status):
    client.delete("/images/guarded")
    if pictured:
        client.put("/images/guarded", picture())
    before = say(client, "PUT", "/images/guarded", {"turn": 1}).headers["ETag"]
    now = say(client, "PATCH", "/images/guarded", {"turn": 2}).headers["ETag"]
    header = tag.replace("NOW", now).replace("BEFORE", before)
    body = None if method == "DELETE" else b'{"turn":3}'
    answer = client(method, "/images/guarded", body, Content_Type=JSON, If_Match=header)
    assert answer.status == status
    if status == 412:
        assert answer.slug == "precondition-failed"
        assert record(client, "guarded").json()["data"] == {"turn": 2}


def test_conditions_on_what_is_not_there_and_must_not_be(client):
    assert say(client, "PUT", "/images/cond", {}, If_Match="*").status == 412
    assert say(client, "PUT", "/images/cond", {}, If_None_Match="*").status == 201
    assert say(client, "PUT", "/images/cond", {}, If_None_Match="*").slug == "precondition-failed"
    assert client.put("/images/cond", picture(), If_None_Match="*").status == 201, "there was no picture yet"


def test_the_version_does_not_guard_data_but_the_picture(client):
    client.put("/images/version", picture())
    version = f'"{record(client, "version").json()["version"]}"'
    assert say(client, "PATCH", "/images/version", {"a": 1}, If_Match=version).status == 412
    assert client.delete("/images/version", If_Match=version).status == 200


# -- many at once -----------------------------------------------------------------------------


def test_of_patches_at_the_same_time_none_is_lost(tmp_path):
    config = embedded(tmp_path)
    with serving(config, tmp_path) as one, serving(config, tmp_path) as two:
        one.client.put("/images/busy", picture())
        barrier = threading.Barrier(16)

        def patch(number):
            barrier.wait()
            client = (one, two)[number % 2].client
            return [say(client, "PATCH", "/images/busy", {f"{number}-{turn}": turn}).status for turn in range(3)]

        with ThreadPoolExecutor(16) as pool:
            assert set().union(*pool.map(patch, range(16))) == {200}
        data = two.client.get("/images/busy?meta=True").json()["data"]
        assert data == {f"{number}-{turn}": turn for number in range(16) for turn in range(3)}
        assert not list(tmp_path.glob("shared/*/writing/*")), "no lock is left behind"


def test_of_two_that_must_be_the_first_one_is(client):
    barrier = threading.Barrier(6)

    def first(number):
        barrier.wait()
        return say(client, "PUT", "/images/first", {"by": number}, If_None_Match="*").status

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(first, range(6))) == [201] + [412] * 5


def test_a_picture_uploaded_while_data_changes_loses_none_of_it(client):
    client.put("/images/both", picture())
    with ThreadPoolExecutor(2) as pool:
        patches = pool.submit(lambda: [say(client, "PATCH", "/images/both", {str(n): n}).status for n in range(12)])
        uploads = pool.submit(lambda: [client.put("/images/both", picture(n)).status for n in range(6)])
        assert {*patches.result(), *uploads.result()} == {200}
    document = record(client, "both").json()
    assert document["data"] == {str(n): n for n in range(12)}
    assert document["sha256"] == hashlib.sha256(picture(5)).hexdigest()


def test_who_waits_too_long_for_a_name_is_told(tmp_path):
    ours, theirs = KeyedLock(tmp_path / "writing"), KeyedLock(tmp_path / "writing")
    with ours.held("a", 1.0):
        for other in (ours, theirs):
            with pytest.raises(Busy), other.held("a", 0.05):
                pytest.fail("it was held by two")
        with theirs.held("b", 1.0):
            pass
    with theirs.held("a", 1.0), pytest.raises(Busy), ours.held("a", 0.0):
        pytest.fail("it was held by two")


def test_a_problem_of_one_writer_is_not_told_to_the_next(tmp_path):
    ours, theirs = KeyedLock(tmp_path / "writing"), KeyedLock(tmp_path / "writing")
    inside, waiting = threading.Event(), threading.Event()

    def wait():
        inside.wait()
        waiting.set()
        with theirs.held("a", 5.0):
            return "held"

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(wait)
        with pytest.raises(TooLarge), ours.held("a", 1.0):
            inside.set()
            waiting.wait()
            raise TooLarge("mine alone")
        assert waiter.result(5.0) == "held"


def test_a_description_is_stored_like_any_record():
    made = Record.description("a/b", {"x": [1]})
    assert Record.load(made.dump()) == made
    assert made.is_description


# -- on Swift ---------------------------------------------------------------------------------


@pytest.mark.servers
def test_data_on_swift_over_two_nodes(swift, postgres, container, tmp_path):
    shared = sharing(postgres)
    with (
        house(swift, container, tmp_path) as building,
        building.node(**shared) as one,
        building.node("two", **shared) as two,
    ):
        assert say(one.client, "PUT", "/images/a/b", {"site": "Bern"}, If_None_Match="*").status == 201
        assert say(two.client, "PUT", "/images/a/b", {}, If_None_Match="*").status == 412
        assert two.client.get("/images/a/b").status == 404
        assert say(two.client, "PATCH", "/images/a/b", {"stars": 3}).json()["data"] == {"site": "Bern", "stars": 3}
        assert one.client.put("/images/a/b", picture()).json()["data"] == {"site": "Bern", "stars": 3}
        tag = two.client.get("/images/a/b?meta=True").headers["ETag"]
        assert say(one.client, "PATCH", "/images/a/b", {"stars": None}, If_Match=tag).status == 200
        assert say(two.client, "PATCH", "/images/a/b", {"stars": 9}, If_Match=tag).status == 412
        assert two.client.get("/images/a/b?meta=True").json()["data"] == {"site": "Bern"}
        assert two.client.delete("/images/a/b").json()["deleted"]["record"] == 1
        assert one.client.get("/images/a/b?meta=True").status == 404


@pytest.mark.servers
def test_of_patches_of_one_node_on_swift_none_is_lost(swift, container, tmp_path):
    with house(swift, container, tmp_path) as building, building.node() as one, building.node() as other:
        say(one.client, "PUT", "/images/a", {})

        def patch(number):
            return say((one, other)[number % 2].client, "PATCH", "/images/a", {str(number): number}).status

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(patch, range(24))) == {200}
        assert one.client.get("/images/a?meta=True").json()["data"] == {str(n): n for n in range(24)}
