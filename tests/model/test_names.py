"""Names: what is one, what is none, and the keys that renditions are kept under."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_repo.errors import BadName
from image_repo.model.key import Key, prefix_of
from image_repo.model.names import MAX_NAME_BYTES, ImageName, parse_prefix
from image_repo.model.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "short", "long"),
    [
        pytest.param("a/b", "a/b", None, id="a name without an ending is itself"),
        pytest.param("a/b.png", "a/b", "a/b.png", id="an image ending is taken off"),
        pytest.param("a/b.JPG", "a/b", "a/b.JPG", id="whatever its case"),
        pytest.param("x.tif.jpg", "x.tif", "x.tif.jpg", id="only one ending is"),
        pytest.param("photo@2x+b (1)", "photo@2x+b (1)", None, id="anything else is a name"),
        pytest.param("a.tar", "a.tar", None, id="another ending is part of the name"),
        pytest.param("sha256:" + "ab" * 32, "sha256:" + "ab" * 32, None, id="a content address is a name"),
        pytest.param("été", unicodedata.normalize("NFC", "été"), None, id="NFD is the same as NFC"),
    ],
)
def test_readings(text, short, long):
    assert [name.text for name in ImageName.readings(text)] == [n for n in (short, long) if n]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("/a", id="an empty part ahead"),
        pytest.param("a//b", id="an empty part between"),
        pytest.param("a/", id="an empty part behind"),
        pytest.param(".", id="a dot"),
        pytest.param("a/../b", id="two dots"),
        pytest.param("a/.hidden", id="a part that begins with a dot"),
        pytest.param("a\\b", id="a backslash"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\r\nSet-Cookie: x", id="a line break"),
        pytest.param("a\x7fb", id="DEL"),
        pytest.param("a\x85b", id="a C1 control character"),
        pytest.param("a\ud800b", id="half a surrogate pair"),
        pytest.param("a" * (MAX_NAME_BYTES + 1), id="one byte too many"),
        pytest.param("é" * (MAX_NAME_BYTES // 6 + 1), id="too many bytes once it is percent-encoded"),
    ],
)
def test_what_is_no_name_is_refused_with_a_reason(text):
    with pytest.raises(BadName) as caught:
        ImageName.readings(text)
    assert len(caught.value.detail) > 10


def test_the_longest_name_is_accepted():
    assert ImageName.parse("a" * MAX_NAME_BYTES).text == "a" * MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("text", "prefix"), [("", ""), ("/", ""), ("a", "a/"), ("a/b/", "a/b/")], ids=["root", "slash", "folder", "below"]
)
def test_prefixes(text, prefix):
    assert parse_prefix(text) == prefix


@pytest.mark.parametrize("text", ["a//", "//", "../", "a/./"], ids=repr)
def test_what_is_no_folder_is_refused(text):
    with pytest.raises(BadName):
        parse_prefix(text)


names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\"), min_size=1, max_size=60
).filter(lambda text: all(part and not part.startswith(".") for part in unicodedata.normalize("NFC", text).split("/")))


@given(names, st.text("0123456789abcdef+@.()-", min_size=1), st.integers(1, 99))
def test_a_key_parses_back(text, version, quality):
    key = Key(ImageName.parse(text), version, Recipe(width=30, quality=quality), "1a2b3c4d")
    assert Key.parse(str(key)) == key
    assert str(key).startswith(prefix_of(key.name))


@given(names, names)
def test_the_prefix_of_a_name_begins_no_other_names_keys(one, other):
    first, second = ImageName.parse(one), ImageName.parse(other)
    if first != second:
        assert not str(Key(second, "v", Recipe(), "g")).startswith(prefix_of(first))


@pytest.mark.parametrize("text", ["", "a/b", "a@v", "a@v+size(1,2).jpg", "a@v+g(1).exe", "a@v+nonsense(1)+g(1).jpg"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r"^Expected an? (key|recipe|operation) but received"):
        Key.parse(text)
