"""COCO, Camtrap DP and Croissant: what is read of records, and what stands in the files."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from webserver import Served, embedded, serving

from image_repo import render
from image_repo.config import RenderConfiguration, load
from image_repo.exchange.base import About, Exported, File
from image_repo.exchange.formats import FORMATS, coercion, notes, placement, tables
from image_repo.exchange.formats.base import FormatWriter
from image_repo.exchange.formats.camtrap import Camtrap
from image_repo.exchange.formats.coco import Coco
from image_repo.exchange.formats.croissant import Croissant
from image_repo.exchange.formats.positions import distance
from image_repo.exchange.imagefolder import ImageFolder
from image_repo.model.recipe import Defaults, Recipe, RecipeRequest

HERE = Path(__file__).resolve().parents[1]
ABOUT = About("Foxes of 2024", "https://pictures.example/images", tempfile.TemporaryFile)
#: when the newest picture was uploaded: 2024-06-01T00:00:00Z
NEWEST = 1717200000.0
BERN = {"latitude": 46.947975, "longitude": 7.447447}


def document(name: str, data: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A record as it is told, of a picture of 400 x 300."""
    return {
        "name": name,
        "version": "v1",
        "sha256": "ab" * 32,
        "media_type": "image/jpeg",
        "bytes": 1234,
        "width": 400,
        "height": 300,
        "filename": "IMG_1.JPG",
        "uploaded": "2024-06-01T00:00:00.000Z",
        "owner": None,
        "exif": {"captured": "2024-05-17T12:34:56+02:00"},
        "data": dict(data or {}),
        "image_id": "sha256:" + "ab" * 32,
    } | members


def exported(
    document: Mapping[str, Any], recipe: Recipe | None = None, size: tuple[int, int] | None = None
) -> Exported:
    """A document with its picture, as large as it is, or as the recipe makes it."""
    if recipe:
        plan = placement.plan(recipe, (document["width"], document["height"]))
        size = size or plan.canvas or plan.size
    width, height = size or (document["width"], document["height"])
    name = f"{document['name']}.{recipe.kind if recipe else 'jpg'}"
    return Exported(document, File(name, "cd" * 32, "image/jpeg", 999, width, height, recipe))


def written(format_: type[FormatWriter], items: Iterable[Exported]) -> dict[str, bytes]:
    """The files of an export."""
    sheets = format_(ABOUT)
    try:
        for item in items:
            sheets.add(item)
        return {name: body if isinstance(body, bytes) else body.read() for name, body in sheets.members(NEWEST)}
    finally:
        sheets.close()


def coco(*items: Exported) -> dict[str, Any]:
    return json.loads(written(Coco, items)["annotations.json"])  # type: ignore[no-any-return]


def rows(files: Mapping[str, bytes], name: str) -> list[dict[str, str]]:
    """A table, read by Python's own reader of CSV; cells that are not empty."""
    table = csv.DictReader(io.StringIO(files[f"{name}.csv"].decode(), newline=""))
    return [{key: cell for key, cell in row.items() if cell} for row in table]


def camtrap(*items: Exported) -> dict[str, bytes]:
    return written(Camtrap, items)


def notes_text(files: Mapping[str, bytes]) -> str:
    return b"".join(body for name, body in files.items() if name.endswith("_notes.txt")).decode()


# -- where things lie in an exported picture ------------------------------------------------

MADE = [
    pytest.param(RecipeRequest(), id="as large as it is"),
    pytest.param(RecipeRequest(xsize=100), id="scaled to a width"),
    pytest.param(RecipeRequest(xsize=101, ysize=67), id="inside a box, with sides that are rounded"),
    pytest.param(RecipeRequest(xsize=100, ysize=100, fit="fill"), id="squeezed into a square"),
    pytest.param(RecipeRequest(xsize=100, ysize=100, fit="cover"), id="cropped to a square"),
    pytest.param(RecipeRequest(xsize=60, ysize=200, fit="cover", focus=(0.0, 0.5)), id="cropped at the left"),
    pytest.param(RecipeRequest(xsize=120, ysize=200, fit="contain"), id="padded"),
    pytest.param(RecipeRequest(xsize=800, enlarge=True), id="enlarged"),
    pytest.param(RecipeRequest(thumbnail=True), id="a thumbnail"),
]


@pytest.mark.parametrize("recipe_request", MADE)
def test_a_box_is_around_the_same_thing_in_the_exported_picture(recipe_request: RecipeRequest) -> None:
    """Against the renderer: a red patch is painted where the box is, and looked for in what was made."""
    box = (60.0, 40.0, 160.0, 120.0)
    image = Image.new("RGB", (400, 300), (0, 0, 255))
    image.paste((255, 0, 0), (60, 40, 220, 160))
    recipe, _ = recipe_request.settle(Defaults())
    recipe = Recipe.parse(str(recipe).replace(".jpg", ".png").replace("+q(82)", "").replace("q(82)", ""))
    body = render.render(io.BytesIO(pictures.png(image)), recipe, RenderConfiguration()).body
    exported_image = pictures.load(body).convert("RGB")
    place = placement.place(document("a"), File("a.png", "", "image/png", 1, *exported_image.size, recipe))
    assert place is not None
    x, y, width, height = place.box(box) or (0, 0, 0, 0)
    red = np.asarray(exported_image, int)
    ys, xs = np.nonzero((red[..., 0] - red[..., 2] > 0) & (red[..., 1] < 128))
    edges = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert np.abs(np.subtract(edges, (x, y, x + width, y + height))).max() <= 1.0


@pytest.mark.parametrize(
    ("box", "left"),
    [
        pytest.param((10, 20, 30, 40), (10, 20, 30, 40), id="inside"),
        pytest.param((-10, -10, 30, 30), (0, 0, 20, 20), id="over an edge: what is inside"),
        pytest.param((390, 290, 100, 100), (390, 290, 10, 10), id="over the other edges"),
        pytest.param((400, 0, 10, 10), None, id="beside the picture: nothing"),
        pytest.param((0.251, 0.5, 1.256, 2), (0.25, 0.5, 1.26, 2), id="hundredths of a pixel"),
    ],
)
def test_boxes_are_cut_to_the_picture(box: Any, left: Any) -> None:
    place = placement.place(document("a"), exported(document("a")).file or pytest.fail())
    assert place is not None
    assert place.box(box) == (left and pytest.approx(left))


def test_an_outline_is_cut_to_the_picture() -> None:
    place = placement.place(document("a"), exported(document("a")).file or pytest.fail())
    assert place is not None
    # a diamond around the left edge: its right half is left
    assert place.outline([-50, 100, 0, 50, 50, 100, 0, 150]) == [0, 50, 50, 100, 0, 150]
    assert place.outline([-50, 100, -40, 50, -30, 100]) is None


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        pytest.param(None, (399, 300), id="an original of another size"),
        pytest.param(Recipe(width=100), (100, 76), id="a picture of another size than its recipe makes"),
        pytest.param(Recipe(width=9, height=9, fit="cover", focus="smart"), None, id="a part that the picture decides"),
        pytest.param(Recipe(rotate=90), (300, 400), id="a turned one"),
    ],
)
def test_where_a_place_is_not_known_no_box_is_told(recipe: Recipe | None, size: tuple[int, int] | None) -> None:
    one = exported(document("a", {"annotations": [{"category": "fox", "bbox": [1, 2, 30, 40]}]}), recipe, size)
    files = written(Coco, [one])
    assert json.loads(files["annotations.json"])["annotations"] == []
    assert "has no known place" in notes_text(files)


# -- COCO -----------------------------------------------------------------------------------


def test_coco_tells_images_boxes_outlines_and_categories() -> None:
    first = document(
        "a/1",
        {
            "annotations": [
                {"category": "fox", "bbox": [40, 20, 100, 50], "score": 0.75},
                {"label": "hare", "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]], "iscrowd": 1},
            ],
            "labels": ["night", "fox"],
            "license": "https://creativecommons.org/licenses/by/4.0/",
        },
    )
    second = document("b", {"species": "fox", "license": "mine"})
    files = written(Coco, [exported(first, Recipe(width=200)), exported(second), Exported(document("c"), None)])
    made, whole = (json.loads(files[name]) for name in ("annotations.json", "labels.json"))
    assert made["images"] == [
        {
            "id": 1, "file_name": "a/1.jpg", "width": 200, "height": 150, "date_captured": "2024-05-17 12:34:56",
            "coco_url": "https://pictures.example/images/a/1", "license": 1,
        },
        {
            "id": 2, "file_name": "b.jpg", "width": 400, "height": 300, "date_captured": "2024-05-17 12:34:56",
            "coco_url": "https://pictures.example/images/b", "license": 2,
        },
    ]  # fmt: skip
    assert made["annotations"] == [
        {
            "id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 50, 25], "area": 1250, "iscrowd": 0,
            "segmentation": [], "score": 0.75,
        },
        {
            "id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 1,
            "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]],
        },
    ]  # fmt: skip
    assert [(one["id"], one["name"]) for one in made["categories"]] == [(1, "fox"), (2, "hare")]
    assert whole["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1},
        {"id": 2, "image_id": 1, "category_id": 2},
        {"id": 3, "image_id": 2, "category_id": 2},
    ]
    assert [(one["id"], one["name"]) for one in whole["categories"]] == [(1, "night"), (2, "fox")]
    assert [whole[name] == made[name] for name in ("images", "licenses", "info")] == [True] * 3
    assert made["licenses"] == [
        {"id": 1, "name": first["data"]["license"], "url": first["data"]["license"]},
        {"id": 2, "name": "mine", "url": ""},
    ]
    assert made["info"]["description"] == "Foxes of 2024"
    assert made["info"]["date_created"] == "2024-06-01 00:00:00"


def test_coco_of_nothing_is_whole() -> None:
    made = coco()
    assert [made[name] for name in ("images", "annotations", "categories", "licenses")] == [[], [], [], []]


WRONG = [
    pytest.param("foxes", "expected a list", id="no list"),
    pytest.param(["fox"], "expected an object", id="no object"),
    pytest.param([{"bbox": [1, 2, 3, 4]}], "expected a category", id="no category"),
    pytest.param([{"category": "fox", "bbox": [1, 2, 3]}], "expected bbox", id="three sides"),
    pytest.param([{"category": "fox", "bbox": [1, 2, 0, 4]}], "expected bbox", id="no width"),
    pytest.param([{"category": "fox", "bbox": [1, 2, True, 4]}], "expected bbox", id="true is no number"),
    pytest.param([{"category": "fox", "bbox": [1, 2, 1e300, 4]}], "expected bbox", id="a number without end"),
    pytest.param([{"category": "fox", "bbox": {"x": 1}}], "expected bbox", id="an object"),
    pytest.param([{"category": "x" * 2000, "bbox": [1, 2, 3, 4]}], "expected a category", id="a huge category"),
    pytest.param([{"category": "fox", "segmentation": [[1, 2, 3]]}], "expected segmentation", id="an odd outline"),
    pytest.param([{"category": "fox", "segmentation": {"counts": "x"}}], "expected segmentation", id="run lengths"),
    pytest.param([{"category": "fox", "bbox": [900, 900, 9, 9]}], "not in the exported picture", id="outside"),
]


@pytest.mark.parametrize(("value", "note"), WRONG)
def test_annotations_that_cannot_be_read_are_left_out_and_told(value: Any, note: str) -> None:
    good = {"category": "hare", "bbox": [1, 2, 3, 4]}
    both = [*value, good] if isinstance(value, list) else value
    files = written(Coco, [exported(document("a/b", {"annotations": both}))])
    categories = [one["name"] for one in json.loads(files["annotations.json"])["categories"]]
    assert categories == (["hare"] if isinstance(value, list) else [])
    assert notes_text(files).startswith("a/b: ")
    assert note in notes_text(files)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2024-05-17T12:34:56+02:00", ("2024-05-17T12:34:56+02:00", True)),
        ("2024-05-17T12:34:56.789Z", ("2024-05-17T12:34:56+00:00", True)),
        ("2024-05-17T12:34:56", ("2024-05-17T12:34:56+00:00", False)),
        ("2024-05-17", ("2024-05-17T00:00:00+00:00", False)),
        ("2024-05-17T12:34:56+02:00:30", ("2024-05-17T10:34:26+00:00", True)),
        ("0001-01-01T00:00:00+23:00", None),
        ("yesterday", None),
        (1717200000, None),
        (None, None),
    ],
)
def test_times_are_read(value: Any, read: Any) -> None:
    moment = coercion.moment(value)
    assert (moment and (moment[0].isoformat(), moment[1])) == read


# -- Camtrap DP -----------------------------------------------------------------------------


def test_a_deployment_is_a_folder_with_a_place_and_lasts_from_its_first_picture_to_its_last() -> None:
    early = document("north/2", exif={"captured": "2024-05-01T00:00:00Z", "camera_make": "K", "camera_model": "1000"})
    late = document("north/1", BERN | {"habitat": "forest edge", "cameraHeight": "1.5"})
    files = camtrap(exported(late), exported(early))
    (deployment,) = rows(files, "deployments")
    assert deployment == {
        "deploymentID": "north", "latitude": "46.947975", "longitude": "7.447447", "habitat": "forest edge",
        "deploymentStart": "2024-05-01T00:00:00Z", "deploymentEnd": "2024-05-17T12:34:56+02:00",
        "cameraHeight": "1.5", "cameraModel": "K-1000", "timestampIssues": "false",
    }  # fmt: skip
    assert [row["mediaID"] for row in rows(files, "media")] == ["north/1", "north/2"]
    package = json.loads(files["datapackage.json"])
    assert package["spatial"] == {"type": "Point", "coordinates": [7.447447, 46.947975]}
    assert package["temporal"] == {"start": "2024-05-01", "end": "2024-05-17"}
    assert package["created"] == "2024-06-01T00:00:00Z"


@pytest.mark.parametrize(
    ("data", "name", "deployment"),
    [
        pytest.param({"deploymentID": "d1", "site": "s"}, "f/a", "d1", id="by its id"),
        pytest.param({"deployment": "d2"}, "f/a", "d2", id="by its name"),
        pytest.param({"deployment": {"deploymentID": 7, **BERN}}, "f/a", "7", id="by an object"),
        pytest.param({"site": "s"}, "f/a", "s", id="by the site"),
        pytest.param({}, "f/g/a", "f/g", id="by the folder"),
        pytest.param({"deployment": ["x"]}, "a", "all", id="by nothing at all"),
        pytest.param({"site": "NA"}, "a", "'NA", id="one that would be read as none"),
    ],
)
def test_which_deployment_a_picture_belongs_to(data: dict[str, Any], name: str, deployment: str) -> None:
    files = camtrap(exported(document(name, BERN | data)))
    assert [row["deploymentID"] for row in rows(files, "deployments")] == [deployment]
    assert {row["deploymentID"] for row in rows(files, "media") + rows(files, "observations")} == {deployment}


def test_a_deployment_without_a_position_is_left_out_with_all_that_belongs_to_it_and_told() -> None:
    files = camtrap(
        exported(document("here/a", BERN | {"species": "Vulpes vulpes"})),
        exported(document("nowhere/b", {"species": "Lepus europaeus"})),
    )
    for table in ("deployments", "media", "observations"):
        assert {row["deploymentID"] for row in rows(files, table)} == {"here"}, table
    assert "nowhere: left out with its pictures: Camtrap DP requires latitude and longitude" in notes_text(files)
    assert json.loads(files["datapackage.json"])["taxonomic"] == [{"scientificName": "Vulpes vulpes"}]


@pytest.mark.parametrize(
    ("data", "exif", "position"),
    [
        pytest.param({}, BERN, ("46.947975", "7.447447"), id="by the EXIF, where records have it"),
        pytest.param({"latitude": 1, "longitude": 2}, BERN, ("1.000000", "2.000000"), id="by data before it"),
        pytest.param({"latitude": "-1.5", "longitude": "2"}, {}, ("-1.500000", "2.000000"), id="by text of a form"),
        pytest.param({"lat": 1, "lon": 2}, {}, ("1.000000", "2.000000"), id="by short names"),
        pytest.param({"latitude": 91, "longitude": 2}, {}, None, id="nowhere on earth"),
        pytest.param({"latitude": 1}, {}, None, id="a half"),
    ],
)
def test_where_a_deployment_is(data: dict[str, Any], exif: dict[str, Any], position: Any) -> None:
    deployments = rows(camtrap(exported(document("s/a", data, exif=exif))), "deployments")
    assert [(row["latitude"], row["longitude"]) for row in deployments] == ([position] if position else [])


def test_pictures_that_were_taken_elsewhere_make_a_position_uncertain() -> None:
    away = {"latitude": BERN["latitude"] + 0.001, "longitude": BERN["longitude"]}
    (deployment,) = rows(camtrap(exported(document("s/a", BERN)), exported(document("s/b", away))), "deployments")
    assert deployment["coordinateUncertainty"] == "112"
    assert distance((0, 0), (0, 1)) == pytest.approx(111_195, abs=1)


@pytest.mark.parametrize(
    ("members", "timestamp", "doubtful"),
    [
        pytest.param(
            {"data": BERN | {"timestamp": "2020-01-02T03:04:05Z"}}, "2020-01-02T03:04:05Z", "false", id="told"
        ),
        pytest.param({}, "2024-05-17T12:34:56+02:00", "false", id="by the EXIF"),
        pytest.param(
            {"exif": {"captured": "2024-05-17T12:34:56"}}, "2024-05-17T12:34:56Z", "true", id="without a zone"
        ),
        pytest.param({"exif": {}}, "2024-06-01T00:00:00Z", "true", id="of the upload"),
    ],
)
def test_when_a_picture_was_taken_and_whether_that_is_certain(members: Any, timestamp: str, doubtful: str) -> None:
    files = camtrap(exported(document("s/a", BERN) | members))
    assert rows(files, "media")[0]["timestamp"] == timestamp
    assert rows(files, "deployments")[0]["timestampIssues"] == doubtful


SEEN = [
    pytest.param({}, [{"observationType": "unclassified"}], id="nothing said"),
    pytest.param(
        {"species": "Vulpes vulpes", "count": "2", "sex": "female"},
        [{"observationType": "animal", "scientificName": "Vulpes vulpes", "count": "2", "sex": "female"}],
        id="an animal",
    ),
    pytest.param(
        {"species": ["Vulpes vulpes", "Meles meles"], "count": 3},
        [{"observationType": "animal", "scientificName": name} for name in ("Vulpes vulpes", "Meles meles")],
        id="two species: the count is of neither",
    ),
    pytest.param({"species": "blank"}, [{"observationType": "blank"}], id="nothing seen"),
    pytest.param({"observationType": "vehicle"}, [{"observationType": "vehicle"}], id="a type of the standard"),
    pytest.param(
        {"species": "Homo sapiens"}, [{"observationType": "human", "scientificName": "Homo sapiens"}], id="people"
    ),
    pytest.param(
        {"observations": [{"scientificName": "Meles meles", "count": 1, "classificationMethod": "machine"}, 7]},
        [
            {
                "observationType": "animal",
                "scientificName": "Meles meles",
                "count": "1",
                "classificationMethod": "machine",
            }
        ],
        id="observations as the standard has them",
    ),
    pytest.param(
        {"annotations": [{"category": "person", "bbox": [40, 30, 200, 150], "score": 0.9}]},
        [
            {
                "observationType": "human", "bboxX": "0.1", "bboxY": "0.1", "bboxWidth": "0.5", "bboxHeight": "0.5",
                "classificationProbability": "0.9",
            }
        ],
        id="a detector's box, as fractions",
    ),
    pytest.param(
        {"annotations": [{"category": "tree", "bbox": [0, 0, 400, 300]}]},
        [
            {
                "observationType": "unclassified", "bboxX": "0", "bboxY": "0", "bboxWidth": "1", "bboxHeight": "1",
                "observationTags": "category:tree",
            }
        ],
        id="a category is no species",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "seen"), SEEN)
def test_what_was_seen(data: dict[str, Any], seen: list[dict[str, str]]) -> None:
    observations = rows(camtrap(exported(document("s/a", BERN | data), Recipe(width=100))), "observations")
    linked = ("observationID", "deploymentID", "mediaID", "eventStart", "eventEnd", "observationLevel")
    assert [{key: cell for key, cell in row.items() if key not in linked} for row in observations] == seen
    assert [row["observationID"] for row in observations] == [f"s/a#{number}" for number in range(1, len(seen) + 1)]


def test_boxes_of_observations_are_carried_over_to_a_crop() -> None:
    """The middle 300 x 300 of 400 x 300 are shown: what was at a half stays there, what was at the edge is gone."""
    middle = {"bboxX": 0.5, "bboxY": "0.5", "bboxWidth": 0.375, "bboxHeight": 0.5, "scientificName": "Meles meles"}
    edge = {"bboxX": 0, "bboxY": 0, "bboxWidth": 0.1, "bboxHeight": 1, "observationType": "unknown"}
    half = {"bboxX": 0.5, "bboxY": 0.5}
    one = document("s/a", BERN | {"observations": [middle, edge, half], "observationTags": "not of these"})
    files = camtrap(exported(one, Recipe(width=30, height=30, fit="cover", focus=(0.5, 0.5))))
    first, second, third = rows(files, "observations")
    boxes = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")
    assert [first[name] for name in boxes] == ["0.5", "0.5", "0.5", "0.5"]
    assert not {*boxes} & {*second, *third}
    assert "observations[1]: its box is left out, because it is not in the exported picture" in notes_text(files)


def test_what_does_not_fit_the_standard_is_left_out_and_told() -> None:
    data = BERN | {"count": 0, "sex": "often", "observationType": "ghost", "cameraTilt": 95, "featureType": "bar"}
    files = camtrap(exported(document("s/a", data)))
    (seen,) = rows(files, "observations")
    assert seen["observationType"] == "unclassified"
    assert {"count", "sex"}.isdisjoint(seen)
    for column in ("count", "sex", "observationType", "cameraTilt", "featureType"):
        assert f"{column} does not fit the standard" in notes_text(files)


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "'=1", "NA"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_of_a_user_begins_as_a_formula(text: str) -> None:
    data = BERN | {"site": text, "habitat": text, "species": text, "behavior": [text], "rightsHolder": text}
    files = camtrap(exported(document(f"s/{text.strip()}", data)))
    for table in ("deployments", "media", "observations"):
        for row in rows(files, table):
            numbers = {"latitude", "longitude"}
            assert [c for k, c in row.items() if k not in numbers and (c[:1] in "=+-@\t\r" or c == "NA")] == []
    (deployment,) = rows(files, "deployments")
    assert deployment["habitat"] == "'" + text.strip()


def test_cells_with_quotes_commas_and_lines_come_back_whole() -> None:
    text = 'a "b", c\r\nd\n\ne'
    (deployment,) = rows(camtrap(exported(document("s/a", BERN | {"habitat": text}))), "deployments")
    assert deployment["habitat"] == text


def test_different_texts_stay_different() -> None:
    texts = ["=a", "'=a", "''=a", "NA", "'NA", "a"]
    assert len({tables.guarded(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("name", ["a..b", "=1", "-1", "@x", "~x"])
def test_a_path_that_the_standard_or_a_spreadsheet_misreads_is_left_out_and_told(name: str) -> None:
    files = camtrap(exported(document(name, BERN)), exported(document("good", BERN)))
    assert [row["filePath"] for row in rows(files, "media")] == ["good.jpg"]
    assert f"{name}.jpg: left out of the tables" in notes_text(files)


def test_a_package_without_any_position_is_empty_and_says_so() -> None:
    files = camtrap(exported(document("s/a")))
    assert [rows(files, table) for table in ("deployments", "media", "observations")] == [[], [], []]
    assert json.loads(files["datapackage.json"])["temporal"] == {"start": "2024-06-01", "end": "2024-06-01"}
    assert "requires latitude and longitude" in notes_text(files)


def test_what_nobody_has_said_of_the_project_is_told() -> None:
    told_ = BERN | {"samplingDesign": "targeted", "captureMethod": "timeLapse", "rightsHolder": "Institute of Foxes"}
    files = camtrap(exported(document("s/a", told_ | {"individualID": "F1"})))
    package = json.loads(files["datapackage.json"])
    assert package["project"] == {
        "title": "Foxes of 2024",
        "samplingDesign": "targeted",
        "captureMethod": ["timeLapse"],
        "individualAnimals": True,
        "observationLevel": ["media"],
    }
    assert package["contributors"] == [{"title": "Institute of Foxes", "role": "rightsHolder"}]
    assert notes_text(files) == ""
    silent = camtrap(exported(document("s/a", BERN)))
    for word in ("samplingDesign", "captureMethod", "contributors"):
        assert word in notes_text(silent)


# -- Croissant ------------------------------------------------------------------------------


def fields(files: Mapping[str, bytes]) -> dict[str, tuple[str, bool]]:
    """Name of each field → its type, and whether it is repeated."""
    described = json.loads(files["croissant.json"])
    (images,) = (one for one in described["recordSet"] if one["@id"] == "images")
    return {one["name"]: (one["dataType"], one.get("repeated", False)) for one in images["field"]}


TYPES = [
    pytest.param([1, 2], ("sc:Integer", False), [1, 2], id="whole numbers"),
    pytest.param([1, 2.5], ("sc:Float", False), [1, 2.5], id="whole and broken ones"),
    pytest.param([True, None], ("sc:Boolean", False), [True, None], id="truths"),
    pytest.param(["a", "7"], ("sc:Text", False), ["a", "7"], id="texts"),
    pytest.param(["5", 7], ("sc:Integer", False), [5, 7], id="numbers as forms send them"),
    pytest.param(["5", "1.5"], ("sc:Float", False), [5.0, 1.5], id="broken ones as forms send them"),
    pytest.param(["007", "1"], ("sc:Text", False), ["007", "1"], id="digits that are no number stay text"),
    pytest.param([["a"], ["b", "c"]], ("sc:Text", True), [["a"], ["b", "c"]], id="lists of one kind"),
    pytest.param([["1", 2], []], ("sc:Integer", True), [[1, 2], []], id="lists of numbers"),
    pytest.param([["a", 1], ["b"]], ("sc:Text", False), ['["a", 1]', '["b"]'], id="lists of several: JSON"),
    pytest.param([{"x": 1}, {"x": 2}], ("sc:Text", False), ['{"x": 1}', '{"x": 2}'], id="objects: JSON"),
    pytest.param([1, "a"], ("sc:Text", False), ["1", "a"], id="mixed: JSON, and text as it is"),
    pytest.param([True, 1], ("sc:Text", False), ["true", "1"], id="a truth is no number"),
    pytest.param([10**30, 1], ("sc:Text", False), [str(10**30), "1"], id="numbers that readers would round"),
]


@pytest.mark.parametrize(("values", "kind", "lines"), TYPES)
def test_every_field_has_a_type_that_all_its_values_have(values: list[Any], kind: Any, lines: list[Any]) -> None:
    files = written(Croissant, [exported(document(f"a{n}", {"k": value})) for n, value in enumerate(values)])
    assert fields(files)["data.k"] == kind
    assert [json.loads(line).get("data.k") for line in files["records.jsonl"].splitlines()] == lines


def test_croissant_tells_sizes_of_what_lies_in_the_export_and_names_that_no_reader_takes_for_times() -> None:
    one = exported(document("a", {"created_at": 1717200000, "created_at_": "x"}), Recipe(width=100))
    files = written(Croissant, [one])
    (line,) = map(json.loads, files["records.jsonl"].splitlines())
    assert (line["width"], line["height"], line["bytes"], line["file_name"]) == (100, 75, 999, "a.jpg")
    assert (line["data.created_at_"], line["data.created_at__"]) == (1717200000, "x")
    assert {"data.created_at", "data.created_at_"} <= fields(files).keys()


def test_keys_without_end_are_bounded_and_told() -> None:
    data = {f"k{n}": n for n in range(1_200)} | {"x" * 300: 1}
    files = written(Croissant, [exported(document("a", data))])
    assert 900 < len(fields(files)) <= 1_001
    assert "left out: more than 1000 keys" in notes_text(files)


# -- all of them ----------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
known = st.sampled_from(
    ["annotations", "observations", "labels", "label", "species", "scientificName", "latitude", "longitude", "count",
     "timestamp", "deployment", "site", "license", "captureMethod", "cameraTilt", "bbox", "category"]
)  # fmt: skip
boxes = st.fixed_dictionaries(
    {},
    optional={
        "category": anything,
        "bbox": st.lists(anything, max_size=5),
        "segmentation": anything,
        "score": anything,
    },
)
data_ = st.dictionaries(known | st.text(max_size=8), anything | st.lists(boxes, max_size=3), max_size=6)


@settings(max_examples=60)
@given(st.lists(data_, min_size=1, max_size=3))
def test_nothing_that_a_user_says_breaks_an_export(all_data: list[dict[str, Any]]) -> None:
    items = [exported(document(f"s/{n}", BERN | data), Recipe(width=100)) for n, data in enumerate(all_data)]
    for format_ in FORMATS:
        files = written(format_, items)
        for name, body in files.items():
            if name.endswith(".json"):
                json.loads(body)
            elif name.endswith(".jsonl"):
                assert len([json.loads(line) for line in body.splitlines()]) == len(items)
            elif name.endswith(".csv"):
                table = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
                assert {len(row) for row in table} == {len(table[0])}
        assert written(format_, items) == files, "the same documents give the same bytes"


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
def test_what_a_format_keeps_open_is_closed(format_: type[FormatWriter]) -> None:
    opened: list[Any] = []

    def temporary() -> Any:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        opened.append(file)
        return file

    sheets = format_(About("x", None, temporary))
    sheets.add(exported(document("s/a", BERN)))
    list(sheets.members(NEWEST))
    sheets.close()
    assert opened
    assert all(file.closed for file in opened)


def test_names_without_end_are_bounded_and_told() -> None:
    labels = [exported(document(f"a{n}", {"labels": [f"{n}-{m}" for m in range(6_000)]})) for n in range(2)]
    files = written(Coco, labels)
    assert len(json.loads(files["labels.json"])["categories"]) == 10_000
    assert "left out: there are more than 10000 categories" in notes_text(files)
    species = [exported(document(f"s/{n}", BERN | {"species": [f"{n}-{m}" for m in range(100)]})) for n in range(101)]
    files = camtrap(*species)
    assert len(json.loads(files["datapackage.json"])["taxonomic"]) == 10_000
    assert len(rows(files, "observations")) == 10_100
    assert "not in `taxonomic`" in notes_text(files)


def test_what_deployments_tell_is_bounded_and_told() -> None:
    words = ("locationName", "setupBy", "cameraID", "habitat", "deploymentComments")
    data = BERN | dict.fromkeys(words, "é" * 1000)
    sites = [exported(document(f"{n}/a", data | {"locationID": "x" * 1_000})) for n in range(3_000)]
    files = camtrap(*sites)
    assert 2_700 < len(rows(files, "deployments")) < 3_000
    assert "there are too many deployments" in notes_text(files)


def test_notes_are_bounded_and_on_one_line_each() -> None:
    bounded = notes.Notes()
    bounded.add("a\nb\x1b[31m", "x" * 1_000)
    for _ in range(2_000):
        bounded.add("a", "b")
    lines = (bounded.text() or b"").decode().splitlines()
    assert lines[0].startswith("a b [31m: xxx")
    assert len(lines[0]) == 300
    assert len(lines) == 1_001
    assert lines[-1] == "… and 1001 more"


DOCS = (HERE.parent / "docs" / "exports.md").read_text()
BESIDE = (
    "annotations observations bbox segmentation score iscrowd license copyright rightsHolder timestamp deployment"
    " samplingDesign captureMethod filePublic"
)


@pytest.mark.parametrize(
    "word", sorted({*coercion.CATEGORY, *coercion.LABELS, *BESIDE.split(), *(one.name for one in FORMATS)})
)
def test_what_is_read_is_told_in_the_documents(word: str) -> None:
    assert word in DOCS


# -- by those who it is for -----------------------------------------------------------------


def checked(what: str, folder: Path) -> Any:
    """What the checkers say of an unpacked export; they are in an environment of their own."""
    default = HERE.parent / ".tests" / "formats" / "bin" / "python"
    python = os.environ.get("IMAGE_REPO_TEST_FORMATS", str(default))
    assert Path(python).exists(), (
        f"The checkers of exports are not installed ({python} is missing): run `make test`, "
        "or set IMAGE_REPO_TEST_FORMATS to a Python that has datasets, mlcroissant and frictionless."
    )
    command = [python, str(HERE / "servers" / "formats_check.py"), what, str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)


def collection() -> list[Exported]:
    """Pictures of several sizes and kinds of data, some of it hostile."""
    fox = {"species": "Vulpes vulpes", "count": 2, "annotations": [{"category": "fox", "bbox": [10, 20, 100, 80]}]}
    hostile = {
        "site": "=cmd|' /C calc'!A0",
        "habitat": 'a "b",\nc',
        "species": "=1+1",
        "annotations": "all",
        "stars": "x",
    }
    return [
        exported(
            document("north/1", BERN | fox | {"stars": 3, "tags": ["night", "snow"], "odd key's": "é"}),
            Recipe(width=200),
        ),
        exported(document("north/2", {"stars": 4.5, "tags": [], "created_at": "2024"}, exif={}), Recipe(width=100)),
        exported(document("south/ü b", BERN | hostile), Recipe(width=64, height=64, fit="cover", focus=(0.5, 0.5))),
        exported(document("nowhere", {"NA": None, "created_at": 5})),
    ]


def unpacked(folder: Path, items: list[Exported], *formats: type[FormatWriter]) -> None:
    """An export as it lies on a disk."""
    for item in items:
        assert item.file
        path = folder / item.file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.jpeg(pictures.photo(item.file.width, item.file.height)))
    for format_ in formats:
        for name, body in written(format_, items).items():
            (folder / name).write_bytes(body)


SIZES = [
    pytest.param("", [(320, 240), (200, 320), (100, 80)], id="as large as they are"),
    pytest.param("&xsize=100", [(100, 75), (100, 160), (100, 80)], id="scaled"),
    pytest.param("&xsize=80&ysize=80&fit=cover&kind=png", [(80, 80)] * 3, id="cropped"),
]


@pytest.mark.parametrize(("query", "sizes"), SIZES)
def test_coco_over_http_tells_the_true_sizes_of_what_lies_in_the_zip(
    tmp_path: Path, query: str, sizes: list[tuple[int, int]]
) -> None:
    with serving(embedded(tmp_path), tmp_path) as served:
        filled(served)
        folder = fetched(served, f"/export?format=coco&name__regex=^site{query}", tmp_path / "out")
    made = json.loads((folder / "annotations.json").read_text())
    assert [(one["width"], one["height"]) for one in made["images"]] == sizes
    for one in made["images"]:
        assert pictures.load((folder / one["file_name"]).read_bytes()).size == (one["width"], one["height"])
    categories = {one["id"]: one["name"] for one in made["categories"]}
    assert [categories[one["category_id"]] for one in made["annotations"]] == ["red"]
    for one in made["annotations"]:
        assert one.keys() == {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation"}
        image = next(image for image in made["images"] if image["id"] == one["image_id"])
        x, y, width, height = one["bbox"]
        assert 0 <= x < x + width <= image["width"]
        assert 0 <= y < y + height <= image["height"]
        pixels = pictures.load((folder / image["file_name"]).read_bytes()).convert("RGB")
        red, _, blue = pixels.getpixel((int(x + width / 2), int(y + height / 2)))
        assert red > 200 > 50 > blue, "the box is around the red patch"


def test_the_same_query_gives_the_same_bytes(tmp_path: Path) -> None:
    with serving(embedded(tmp_path), tmp_path) as served:
        filled(served)
        for one in FORMATS:
            query = f"/export?format={one.name}&xsize=50"
            first = served.client.get(query)
            assert first.status == 200
            assert first.body == served.client.get(query).body, one.name


@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
def test_snapshots_are_told_in_every_format(tmp_path: Path, format_: type[FormatWriter]) -> None:
    with serving(embedded(tmp_path), tmp_path) as served:
        filled(served)
        frozen = served.client("POST", "/snapshots?exif=True")
        assert frozen.status == 201, frozen.body
        query = f"/export?snapshot={frozen.json()['id']}&xsize=50&format={format_.name}"
        folder = fetched(served, query, tmp_path / "out")
        assert (
            served.client("PATCH", "/images/site-1/a", b'{"species": null}', Content_Type="application/json").status
            == 200
        )
        again = fetched(served, query, tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        if (folder / name).is_file():
            assert (folder / name).read_bytes() == (again / name).read_bytes(), name
    files = {"coco": "labels.json", "camtrap": "observations.csv", "croissant": "records.jsonl", "csv": "records.csv"}
    assert b"Vulpes vulpes" in (folder / files.get(format_.name, "records.parquet")).read_bytes()


def filled(served: Served) -> None:
    """Three pictures with data, taken at two sites, and a description."""
    patch = Image.new("RGB", (320, 240), (0, 0, 255))
    patch.paste((255, 0, 0), (120, 80, 220, 180))
    record_data = {"species": "Vulpes vulpes", "annotations": [{"category": "red", "bbox": [120, 80, 100, 100]}]}
    for name, image, data in (
        ("site-1/a", patch, BERN | record_data),
        ("site-1/b", pictures.photo(200, 320), {"stars": 3}),
        ("site-2/c", pictures.photo(100, 80, seed=2), {"latitude": "1.5", "longitude": "2", "site": "=SUM(A1)"}),
    ):
        body = pictures.jpeg(image, orientation=6, camera=True)
        answer = served.client.form(
            f"/images/{name}", ("file", "x.jpg", body), ("data", None, json.dumps(data).encode())
        )
        assert answer.status == 201, answer.body
    assert served.client.put("/images/soon", b'{"site": "x"}', Content_Type="application/json").status == 201


def fetched(served: Served, query: str, folder: Path) -> Path:
    """An export, unpacked."""
    answer = served.client.get(query)
    assert answer.status == 200, answer.body
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


@pytest.mark.servers
@pytest.mark.parametrize("format_", FORMATS, ids=lambda one: one.name)
@pytest.mark.parametrize("query", ["", "&xsize=64&ysize=64&fit=contain", "&kind=original"])
def test_an_export_over_http_is_opened_by_those_who_it_is_for(
    tmp_path: Path, format_: type[FormatWriter], query: str
) -> None:
    with serving(embedded(tmp_path, serve_originals=True), tmp_path) as served:
        filled(served)
        folder = fetched(served, f"/export?format={format_.name}{query}", tmp_path / "out")
    report = checked(format_.name, folder)
    if format_.name == "coco":
        assert report["images"] == 3
        # an original of a camera that was held on its side is told as it stands upright
        assert len(report["errors"]) == (3 if "original" in query else 0)
        loaded = checked("imagefolder", folder)
        assert sorted(row["name"] for row in loaded["rows"]) == ["site-1/a", "site-1/b", "site-2/c"]
        return
    assert report["errors"] == []
    if format_.name == "croissant":
        assert [row["images/name"] for row in report["rows"]] == ["site-1/a", "site-1/b", "site-2/c"]
    elif format_.name != "camtrap":
        assert [row["name"] for row in report["rows"]] == ["site-1/a", "site-1/b", "site-2/c"]
        assert [row["data.site"] for row in report["rows"]][2] in ("=SUM(A1)", "'=SUM(A1)")
    else:
        assert [row["mediaID"] for row in report["rows"]["media"]] == ["site-1/a", "site-1/b", "site-2/c"]
        assert report["rows"]["deployments"][0]["deploymentStart"].startswith("2024-05-17T12:34:56")


@pytest.mark.servers
def test_the_command_writes_a_folder_that_is_a_camtrap_dp(tmp_path: Path) -> None:
    config = commands.configure(tmp_path)
    with serving(load(config, {}), tmp_path) as served:
        for name, data in (("north/a", BERN | {"species": "Vulpes vulpes"}), ("south/b", {})):
            body = pictures.jpeg(pictures.photo(200, 100), camera=True, gps=not data)
            part = ("data", None, json.dumps(data).encode())
            assert served.client.form(f"/images/{name}", ("file", "x.jpg", body), part).status == 201
    done = commands.run("-y", config, "export", "--format", "camtrap", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "_camtrap_notes.txt" in done.stdout + done.stderr
    report = checked("camtrap", tmp_path / "out")
    assert report["errors"] == []
    assert [row["deploymentID"] for row in report["rows"]["deployments"]] == ["north"], (
        "south tells its place to nobody"
    )
    assert "south: left out" in (tmp_path / "out" / "_camtrap_notes.txt").read_text()


@pytest.mark.servers
def test_frictionless_finds_a_valid_camtrap_dp(tmp_path: Path) -> None:
    unpacked(tmp_path, collection(), Camtrap)
    report = checked("camtrap", tmp_path)
    assert report["errors"] == []
    assert report["checked"] == ["deployments", "media", "observations"]
    assert [row["deploymentID"] for row in report["rows"]["deployments"]] == ["north", "'=cmd|' /C calc'!A0"]
    assert [row["mediaID"] for row in report["rows"]["media"]] == ["north/1", "north/2", "south/ü b"]
    assert report["rows"]["deployments"][1]["habitat"] == 'a "b",\nc'
    seen = [row["scientificName"] for row in report["rows"]["observations"]]
    assert seen == [None, "Vulpes vulpes", None, "'=1+1"]
    for row in report["rows"]["media"]:
        assert pictures.load((tmp_path / row["filePath"]).read_bytes())


@pytest.mark.servers
def test_frictionless_finds_an_empty_camtrap_dp_valid(tmp_path: Path) -> None:
    unpacked(tmp_path, [exported(document("a"))], Camtrap)
    assert checked("camtrap", tmp_path)["errors"] == []


BROKEN = [
    pytest.param("deployments.csv", "46.947975", "146.9", "constraint", id="off the earth"),
    pytest.param("media.csv", "north/1.jpg", "../north/1.jpg", "constraint", id="a path out of the package"),
    pytest.param(
        "media.csv", "north/2,north,", "north/2,elsewhere,", "foreign-key", id="a deployment that is not there"
    ),
    pytest.param("observations.csv", "animal", "ghost", "constraint", id="a type that the standard does not know"),
    pytest.param(
        "datapackage.json", "opportunistic", "by chance", "package-error", id="a design that it does not know"
    ),
    pytest.param("datapackage.json", '"taxonomic"', '"taxa"', "package-error", id="a member that is missing"),
]


@pytest.mark.servers
@pytest.mark.parametrize(("name", "old", "new", "error"), BROKEN)
def test_the_checker_sees_what_is_wrong(tmp_path: Path, name: str, old: str, new: str, error: str) -> None:
    unpacked(tmp_path, collection(), Camtrap)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    if name == "datapackage.json":
        with pytest.raises(AssertionError, match=new if old == "opportunistic" else "taxonomic"):
            checked("camtrap", tmp_path)
    else:
        assert [one for one in checked("camtrap", tmp_path)["errors"] if one.startswith(error)]


@pytest.mark.servers
def test_pycocotools_reads_boxes_and_outlines_and_finds_them_again(tmp_path: Path) -> None:
    outlined = {"category": "hare", "segmentation": [[40, 40, 120, 40, 120, 120]], "score": 0.5}
    more = exported(document("south/x", {"annotations": [outlined, {"category": "fox", "bbox": [0, 0, 999, 30]}]}))
    unpacked(tmp_path, [*collection(), more], Coco)
    report = checked("coco", tmp_path)
    assert report["errors"] == []
    assert report["images"] == 5
    assert report["rows"] == [
        {"file": "north/1.jpg", "category": "fox", "bbox": [5, 10, 50, 40], "mask": None},
        {"file": "south/x.jpg", "category": "hare", "bbox": [40, 40, 80, 80], "mask": [300, 400]},
        {"file": "south/x.jpg", "category": "fox", "bbox": [0, 0, 400, 30], "mask": None},
        {"precision": pytest.approx(1.0)},
    ]


@pytest.mark.servers
def test_mlcroissant_reads_every_record_and_its_picture(tmp_path: Path) -> None:
    items = collection()
    unpacked(tmp_path, items, Croissant)
    report = checked("croissant", tmp_path)
    assert report["errors"] == []
    assert report["sets"] == ["files", "images"]
    pairs = [(row["images/name"], row["images/image"]) for row in report["rows"]]
    assert pairs == [(item.document["name"], [item.file.width, item.file.height, "RGB"]) for item in items if item.file]
    first, second, third, fourth = report["rows"]
    assert (first["images/data.stars"], second["images/data.stars"], third["images/data.stars"]) == ("3", "4.5", "x")
    assert first["images/data.tags"] == ["night", "snow"]
    assert first["images/data.odd%20key%27s"] == "é"
    assert first["images/uploaded"] == "2024-06-01T00:00:00+00:00"
    assert (second["images/data.created_at"], fourth["images/data.created_at"]) == (2024, 5)
    assert third["images/data.site"] == "=cmd|' /C calc'!A0"


@pytest.mark.servers
def test_mlcroissant_takes_an_export_without_pictures(tmp_path: Path) -> None:
    unpacked(tmp_path, [], Croissant)
    assert checked("croissant", tmp_path)["errors"] == []


@pytest.mark.servers
def test_mlcroissant_notices_records_that_were_changed(tmp_path: Path) -> None:
    unpacked(tmp_path, collection(), Croissant)
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(AssertionError, match=r"[Hh]ash"):
        checked("croissant", tmp_path)


@pytest.mark.servers
def test_datasets_loads_the_folder_whatever_other_formats_lie_in_it(tmp_path: Path) -> None:
    items = collection()
    unpacked(tmp_path, items, ImageFolder, *FORMATS)
    report = checked("imagefolder", tmp_path)
    assert report["errors"] == []
    by_name = {row["name"]: row["image"] for row in report["rows"]}
    assert by_name == {item.document["name"]: [item.file.width, item.file.height, "RGB"] for item in items if item.file}
