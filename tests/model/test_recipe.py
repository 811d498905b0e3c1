"""Recipes: how they are asked for, what is refused and how, and their canonical text."""

from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from image_repo import render
from image_repo.errors import BadParameter
from image_repo.model.formats import WRITABLE
from image_repo.model.key import Key
from image_repo.model.names import ImageName
from image_repo.model.operations import (
    ALIASES,
    OPERATIONS,
    PARAMETERS,
    TERMS,
    Operations,
    Region,
    read_focus,
    rows_of,
)
from image_repo.model.recipe import Defaults, Recipe, RecipeRequest, negotiate, read_request
from image_repo.model.watermark import Watermark

DEFAULTS = Defaults()
JPEG = Recipe(background="ffffff", quality=DEFAULTS.quality["jpg"])


def settled(query: str, defaults: Defaults = DEFAULTS, **options) -> Recipe:
    pairs = [part.split("=", 1) for part in query.split("&")] if query else []
    return read_request((name, value) for name, value in pairs)[0].settle(defaults, **options)[0]


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        pytest.param("", {}, id="nothing asked is a JPEG"),
        pytest.param("xsize=300", {"width": 300}, id="one side leaves the other free"),
        pytest.param("w=300&height=200", {"width": 300, "height": 200}, id="aliases"),
        pytest.param("thumbnail=True", {"width": 50, "height": 50, "sharpen": 1.0}, id="a thumbnail has a box"),
        pytest.param("thumbnail=1&w=90", {"width": 90, "height": 90, "sharpen": 1.0}, id="one side is a square"),
        pytest.param("thumbnail=no", {}, id="booleans have opposites"),
        pytest.param("w=9&h=9&fit=CROP", {"width": 9, "height": 9, "fit": "cover", "focus": (0.5, 0.5)}, id="imgix"),
        pytest.param("w=10&fit=cover", {"width": 10}, id="cover with a free side is inside"),
        pytest.param(
            "w=9&h=9&fit=cover&focus=ne", {"width": 9, "height": 9, "fit": "cover", "focus": (1.0, 0.0)}, id="compass"
        ),
        pytest.param("w=10&focus=smart", {"width": 10}, id="a focus without cover means nothing"),
        pytest.param("crop=1,2,3,4", {"region": Region("px", 1, 2, 3, 4)}, id="a region in pixels"),
        pytest.param("crop=pct:0,0,33.3,50", {"region": Region("pct", 0, 0, 33.3, 50)}, id="a region in percent"),
        pytest.param("w=100&dpr=2", {"width": 200}, id="dpr multiplies the box"),
        pytest.param("dpr=2", {}, id="dpr without a box means nothing"),
        pytest.param("enlarge=True", {}, id="enlarging without a box means nothing"),
        pytest.param("sharpen=True", {"sharpen": 1.0}, id="sharpen is a boolean or a strength"),
        pytest.param("background=red", {"background": "ff0000"}, id="a colour by name"),
        pytest.param("bg=%23abc".replace("%23", "#"), {"background": "aabbcc"}, id="a short colour"),
        pytest.param("kind=jpeg&q=90", {"quality": 90}, id="an ending is a kind"),
        pytest.param("rotate=90&flip=both&gray=on", {"rotate": 90, "flip": "hv", "gray": True}, id="several"),
    ],
)  # fmt: skip
def test_what_is_asked_for(query, changes):
    assert settled(query) == replace(JPEG, **changes)


def test_png_has_neither_quality_nor_background():
    assert settled("kind=png&quality=3") == Recipe(kind="png")


def test_padding_shows_the_background_in_every_kind():
    assert settled("kind=png&w=5&h=5&fit=contain").background == "ffffff"


def test_an_original_has_nothing_done_to_it():
    assert settled("kind=original&w=300&quality=4") == Recipe(kind="original")


def test_a_preset_is_laid_under_what_is_asked():
    defaults = Defaults(presets={"card": RecipeRequest(xsize=400, quality=60)})
    assert settled("preset=card&q=70", defaults) == replace(JPEG, width=400, quality=70)


def test_a_records_own_focus_is_the_default_of_cover():
    assert settled("w=5&h=5&fit=cover", focus=(0.1, 0.2)).focus == (0.1, 0.2)
    assert settled("w=5&h=5&fit=cover&focus=n", focus=(0.1, 0.2)).focus == (0.5, 0.0)


@pytest.mark.parametrize(
    ("value", "focus"),
    [([0.25, 0.5], (0.25, 0.5)), ("smart", "smart"), ("n", (0.5, 0)), ([2, 3], None), ({}, None), ("x", None)],
    ids=repr,
)
def test_the_focus_of_a_record(value, focus):
    assert read_focus(value) == focus


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        pytest.param("xsize=0", "xsize", id="zero"),
        pytest.param("xsize=-1", "xsize", id="negative"),
        pytest.param("xsize=1e9", "xsize", id="with an exponent"),
        pytest.param("xsize=1000000000", "xsize", id="huge"),
        pytest.param("xsize=10001", "xsize", id="one too many"),
        pytest.param("xsize=NaN", "xsize", id="NaN"),
        pytest.param("xsize=", "xsize", id="empty"),
        pytest.param("xsize= 5", "xsize", id="with a space"),
        pytest.param("xsize=１２", "xsize", id="full-width digits"),
        pytest.param("xsize=٣", "xsize", id="Arabic digits"),
        pytest.param("xsize=1_0", "xsize", id="Python's own digits"),
        pytest.param("xsize=" + "9" * 5000, "xsize", id="five thousand digits"),
        pytest.param("blur=inf", "blur", id="infinity"),
        pytest.param("blur=1e3", "blur", id="a number with an exponent"),
        pytest.param("thumbnail=maybe", "thumbnail", id="neither true nor false"),
        pytest.param("kind=exe", "kind", id="an unknown kind"),
        pytest.param("kind=jpg,quality=1", "kind", id="options in a kind"),
        pytest.param("kind=jpg;xsize=3", "kind", id="more options in a kind"),
        pytest.param("kind=../etc", "kind", id="a path as kind"),
        pytest.param("kind=heic", "kind", id="a kind that is read and not written"),
        pytest.param("quality=101", "quality", id="too good"),
        pytest.param("crop=1,2,3", "crop", id="three sides"),
        pytest.param("crop=0,0,0,5", "crop", id="an empty region"),
        pytest.param("crop=pct:0,0,101,5", "crop", id="more than all"),
        pytest.param("crop=-1,0,5,5", "crop", id="outside"),
        pytest.param("focus=2,0", "focus", id="a focus outside"),
        pytest.param("rotate=361", "rotate", id="more than a turn"),
        pytest.param("background=blurple", "background", id="no colour"),
        pytest.param("page=0", "page", id="page zero"),
        pytest.param("preset=nope", "preset", id="an unknown preset"),
        pytest.param("w=10000&dpr=2", "dpr", id="a box that dpr makes too large"),
        pytest.param("xsze=5", "xsze", id="misspelt"),
        pytest.param("xsize=5&xsize=5", "xsize", id="repeated"),
        pytest.param("xsize=5&w=5", "w", id="repeated under its alias"),
        pytest.param("XSIZE=5", "XSIZE", id="in capitals"),
    ],
)
def test_a_refusal_names_the_parameter(query, parameter):
    with pytest.raises(BadParameter) as caught:
        settled(query)
    assert caught.value.members["parameter"] == parameter
    assert parameter in caught.value.detail
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize(("given", "nearest"), [("xsze", "xsize"), ("qualty", "quality"), ("Kind", "kind")])
def test_a_misspelt_parameter_is_told_the_nearest(given, nearest):
    with pytest.raises(BadParameter, match=f"Did you mean {nearest}") as caught:
        read_request([(given, "1")])
    assert caught.value.members["nearest"] == nearest


def test_the_words_of_a_refusal():
    with pytest.raises(BadParameter, match=r"^Expected a whole number from 1 to 10000 for xsize but received 'x'\.$"):
        read_request([("xsize", "x")])


def test_what_concerns_the_caller_is_handed_back_as_text():
    request, rest = read_request([("w", "3"), ("meta", "True")], ("meta",))
    assert (request.values["xsize"], rest) == (3, {"meta": "True"})


def test_no_alias_is_a_parameter_of_its_own():
    assert not set(ALIASES) & set(PARAMETERS)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        pytest.param(None, "jpg", id="no Accept"),
        pytest.param("*/*", "jpg", id="anything"),
        pytest.param("image/*", "jpg", id="any picture"),
        pytest.param("image/avif,image/webp,*/*;q=0.8", "avif", id="what browsers say"),
        pytest.param("image/webp,image/avif;q=0.5", "webp", id="by quality"),
        pytest.param("image/avif;q=0, image/webp", "webp", id="q=0 is a refusal"),
        pytest.param("image/avif;q=x", "jpg", id="a bad quality is a refusal"),
        pytest.param("IMAGE/WEBP", "webp", id="in capitals"),
        pytest.param("a," * 30_000 + "image/avif", "jpg", id="sixty kilobytes are not read to the end"),
    ],
)
def test_negotiation(accept, kind):
    assert negotiate(accept, ("avif", "webp", "jpg")) == kind


# -- what is derived from the table ----------------------------------------------------------

numbers = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 4))
regions = st.builds(Region, st.just("pct"), *[numbers] * 4) | st.builds(
    Region, st.just("px"), *[st.integers(0, 99_999).map(float)] * 4
)
colours = st.from_regex(r"[0-9a-f]{6}([0-9a-f]{2})?", fullmatch=True)
watermarks = st.builds(Watermark, st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
OF_TYPE = {
    Region: regions,
    Watermark: watermarks,
    float: numbers,
    bool: st.booleans(),
    str: colours,
    type(None): st.none(),
}


def of_type(hint: Any, known: dict[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    members = [of_type(member, known) for member in get_args(hint)]
    if get_origin(hint) is tuple:
        return st.tuples(*members)
    return st.one_of(*members) if members else known[hint]


def values_of(field: str) -> st.SearchStrategy[Any]:
    """Values of a field of the recipe: by its type, and by the range that its row gives."""
    parameter = OPERATIONS[field].parameter
    schema = parameter.read.schema if parameter else {}
    integers = st.integers(schema.get("minimum"), schema.get("maximum"))
    hint = get_type_hints(Recipe)[field]
    return st.sampled_from(WRITABLE) if field == "kind" else of_type(hint, {**OF_TYPE, int: integers})


recipes = st.builds(Recipe, **{field: values_of(field) for field in OPERATIONS})


@given(recipes)
def test_a_recipe_parses_back(recipe):
    assert Recipe.parse(str(recipe)) == recipe


@pytest.mark.parametrize("field", [field.name for field in fields(Recipe)])
@settings(max_examples=15)
@given(st.data())
def test_every_field_is_in_the_key_and_parses_back(field, data):
    recipe = data.draw(recipes)
    other = replace(recipe, **{field: data.draw(values_of(field))})
    assume(getattr(other, field) != getattr(recipe, field))
    key, changed = (Key(ImageName("a/b"), "v1", each, "1a2b3c4d") for each in (recipe, other))
    assert str(changed) != str(key)
    assert Key.parse(str(changed)) == changed


def test_a_field_without_a_row_is_refused():
    @dataclass(frozen=True)
    class Table(Operations):
        invert: bool = False

    with pytest.raises(TypeError, match="invert"):
        rows_of(Table)
    assert [field.name for field in fields(Recipe)] == list(OPERATIONS)


def test_a_request_takes_no_value_without_a_row():
    with pytest.raises(TypeError, match="invert"):
        RecipeRequest(invert=True)


def test_no_two_rows_share_a_name_or_a_word():
    names = [name for row in PARAMETERS.values() for name in (row.name, *row.aliases)]
    words = [word for term in TERMS for word in term.spelling.words]
    assert len(names) == len(set(names))
    assert len(words) == len(set(words))


@pytest.mark.parametrize("field", OPERATIONS)
def test_every_row_names_the_step_that_applies_it(field):
    assert callable(attrgetter(OPERATIONS[field].step)(render))


def test_every_step_of_the_table_that_lies_in_the_pipeline_is_run():
    named = {row.step.removeprefix("pipeline.") for row in OPERATIONS.values() if row.step.startswith("pipeline.")}
    assert named <= {step.__name__ for step in render.pipeline.STEPS}


def test_a_recipe_made_from_values_equals_a_constructed_one():
    made, constructed = Recipe.of({"width": 30}), Recipe(width=30)
    assert made == constructed
    assert hash(made) == hash(constructed)
    assert replace(made, height=20) == Recipe(width=30, height=20)


@pytest.mark.parametrize("text", ["", "jpg", ".exe", "nonsense.jpg", "size(1).jpg", "q(x).jpg", "q(1", "(1).jpg"])
def test_what_is_no_recipe_is_refused(text):
    with pytest.raises(ValueError):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("source", "kind"),
    [("image/png", "png"), ("image/webp", "webp"), ("image/gif", "gif"), ("image/avif", "avif"), ("image/jpeg", "jpg"),
     ("image/tiff", "jpg"), ("image/heic", "jpg"), ("image/jp2", "jpg"), ("", "jpg")],
)  # fmt: skip
def test_the_default_format_may_be_that_of_the_original_where_browsers_show_it(source, kind):
    defaults = Defaults(kind="source")
    assert settled("", defaults, source=source).kind == kind
    assert settled("kind=tif", defaults, source=source).kind == "tif"
