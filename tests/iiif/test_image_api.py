"""What the paths of the IIIF Image API mean, from the examples of its text."""

from __future__ import annotations

import pytest

from image_repo.errors import BadRequest
from image_repo.iiif.image_api import Dialect, ImageRequest, info, read_request

SOURCE = (300, 200)


def read(path: str, dialect: Dialect = 3, source: tuple[int, int] = SOURCE) -> ImageRequest:
    return read_request(path.split("/"), source, dialect)


@pytest.mark.parametrize(
    ("path", "region", "size"),
    [
        ("full/max/0/default.jpg", (0, 0, 300, 200), (300, 200)),
        ("square/max/0/default.jpg", (50, 0, 200, 200), (200, 200)),
        ("125,15,120,140/max/0/default.jpg", (125, 15, 120, 140), (120, 140)),
        ("pct:41.6,7.5,40,70/max/0/default.jpg", (125, 15, 120, 140), (120, 140)),
        ("125,15,200,200/max/0/default.jpg", (125, 15, 175, 185), (175, 185)),
        ("pct:41.6,7.5,66.6,100/max/0/default.jpg", (125, 15, 175, 185), (175, 185)),
        ("full/150,/0/default.jpg", (0, 0, 300, 200), (150, 100)),
        ("full/,150/0/default.jpg", (0, 0, 300, 200), (225, 150)),
        ("full/pct:50/0/default.jpg", (0, 0, 300, 200), (150, 100)),
        ("full/225,100/0/default.jpg", (0, 0, 300, 200), (225, 100)),
        ("full/!225,100/0/default.jpg", (0, 0, 300, 200), (150, 100)),
        ("full/!2000,3000/0/default.jpg", (0, 0, 300, 200), (300, 200)),
        ("full/^!600,600/0/default.jpg", (0, 0, 300, 200), (600, 400)),
        ("full/^360,/0/default.jpg", (0, 0, 300, 200), (360, 240)),
        ("full/^,240/0/default.jpg", (0, 0, 300, 200), (360, 240)),
        ("full/^pct:120/0/default.jpg", (0, 0, 300, 200), (360, 240)),
        ("full/^max/0/default.jpg", (0, 0, 300, 200), (300, 200)),
    ],
)
def test_region_and_size_are_those_of_the_text(
    path: str, region: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    request = read(path)
    assert (request.region, request.size) == (region, size)


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("full/max/0/default.jpg", "kind=jpg"),
        ("full/150,/0/color.png", "kind=png&xsize=150"),
        ("full/150,100/0/default.jpg", "kind=jpg&xsize=150"),
        ("full/150,100/90/default.jpg", "kind=jpg&ysize=150&rotate=90"),
        ("full/150,50/0/default.jpg", "kind=jpg&xsize=150&ysize=50&fit=fill"),
        ("full/^600,/!22.5/bitonal.webp", "kind=webp&xsize=600&enlarge=True&flip=h&rotate=22.5&bitonal=True"),
        ("10,20,30,40/max/!0/gray.jpg", "kind=jpg&crop=10,20,30,40&flip=h&gray=True"),
        ("0,0,300,200/max/360/default.jpg", "kind=jpg"),
    ],
)
def test_a_request_is_the_parameters_of_a_picture(path: str, parameters: str) -> None:
    assert "&".join(map("=".join, read(path).parameters())) == parameters


@pytest.mark.parametrize("dialect", [2, 3])
@pytest.mark.parametrize(
    "path",
    [
        "300,0,1,1/max/0/default.jpg",
        "0,0,0,5/max/0/default.jpg",
        "-1,0,5,5/max/0/default.jpg",
        "pct:0,0,0,50/max/0/default.jpg",
        "nonsense/max/0/default.jpg",
        "full/0,/0/default.jpg",
        "full/,/0/default.jpg",
        "full/!5,/0/default.jpg",
        "full/pct:0/0/default.jpg",
        "full/10001,10001/0/default.jpg",
        "full/9999999999,/0/default.jpg",
        "full/max/361/default.jpg",
        "full/max/-90/default.jpg",
        "full/max/nan/default.jpg",
        "full/max/0/native.jpg",
        "full/max/0/default.pdf",
        "full/max/0/default",
    ],
)
def test_what_cannot_be_understood_is_refused(path: str, dialect: Dialect) -> None:
    with pytest.raises(BadRequest, match="Expected"):
        read(path, dialect)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [("full/301,/0/default.jpg", 3), ("full/full/0/default.jpg", 3), ("full/^600,/0/default.jpg", 2)],
)
def test_a_dialect_refuses_what_only_the_other_has(path: str, dialect: Dialect) -> None:
    with pytest.raises(BadRequest):
        read(path, dialect)
    read(path, 3 if dialect == 2 else 2)


@pytest.mark.parametrize(
    ("path", "two", "three"),
    [
        ("full/max/0/color.jpg", "full/full/0/default.jpg", "full/max/0/default.jpg"),
        ("0,0,300,200/150,100/360/default.jpg", "full/150,/0/default.jpg", "full/150,100/0/default.jpg"),
        ("square/,50/!90/gray.png", "50,0,200,200/50,/!90/gray.png", "50,0,200,200/50,50/!90/gray.png"),
        ("full/150,50/0/default.jpg", "full/150,50/0/default.jpg", "full/150,50/0/default.jpg"),
    ],
)
def test_each_dialect_has_its_canonical_form(path: str, two: str, three: str) -> None:
    request = read(path)
    assert (request.canonical(2), request.canonical(3)) == (two, three)
    assert read(two, 2).parameters() == read(three).parameters() == [
        pair for pair in request.parameters() if pair != ("quality", "color")
    ]  # fmt: skip


def test_sizes_and_tiles_end_where_they_show_all() -> None:
    made = info("http://x/iiif/3/a", (6000, 4000), 3)
    assert made["sizes"][0] == {"width": 188, "height": 125}
    assert made["sizes"][-1] == {"width": 6000, "height": 4000}
    assert made["tiles"] == [{"width": 512, "height": 512, "scaleFactors": [1, 2, 4, 8, 16]}]
    small = info("http://x/iiif/3/a", (40, 30), 3)
    assert small["sizes"] == [{"width": 40, "height": 30}]
    assert small["tiles"][0]["scaleFactors"] == [1]


def test_a_caller_who_gets_less_is_offered_less() -> None:
    made = info("http://x/iiif/3/a", (6000, 4000), 3, max_width=800)
    assert (made["maxWidth"], made["sizes"][-1]) == (800, {"width": 750, "height": 500})


def test_where_sizes_are_listed_nothing_else_is_offered() -> None:
    made = info("http://x/iiif/3/a", SOURCE, 3, listed=[(60, 40), SOURCE])
    assert (made["profile"], made["extraFeatures"]) == ("level0", [])
    assert made["sizes"] == [{"width": 60, "height": 40}, {"width": 300, "height": 200}]


@pytest.mark.parametrize(
    ("path", "is_offered"),
    [
        ("full/60,/0/default.jpg", True),
        ("full/max/0/color.jpg", True),
        ("0,0,300,200/60,40/0/default.jpg", True),
        ("full/61,/0/default.jpg", False),
        ("full/60,/90/default.jpg", False),
        ("full/60,/!0/default.jpg", False),
        ("full/60,/0/gray.jpg", False),
        ("full/60,/0/default.png", False),
        ("0,0,60,40/60,/0/default.jpg", False),
    ],
)
def test_what_a_list_offers(path: str, is_offered: bool) -> None:
    assert read(path).is_offered([(60, 40), SOURCE]) is is_offered


@pytest.mark.parametrize(
    ("path", "is_offered"),
    [
        ("0,0,512,512/512,512/0/default.jpg", True),
        ("1024,512,476,488/476,488/0/default.jpg", True),
        ("1024,0,476,1000/238,500/0/default.jpg", True),
        ("0,0,1500,1000/375,250/0/default.jpg", True),
        ("512,0,988,1000/494,500/0/default.jpg", False),
        ("0,0,512,512/256,/0/default.jpg", False),
    ],
)
def test_tiles_and_those_at_the_edges_are_offered(path: str, is_offered: bool) -> None:
    assert read(path, source=(1500, 1000)).is_offered([]) is is_offered
