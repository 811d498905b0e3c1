"""What imgproxy's URLs mean, from the examples and tables of its documentation."""

from __future__ import annotations

import base64

import pytest

from image_repo.dialects.imgproxy import read_request
from image_repo.dialects.signatures import verify_imgproxy
from image_repo.dialects.sizes import name_of
from image_repo.errors import BadName, BadRequest, LinkRefused
from image_repo.model.recipe import read_request as read_parameters

LANDSCAPE, PORTRAIT = (800, 600), (400, 600)
CURIOSITY = "http://example.com/images/curiosity.jpg"


def query(options: str, source: tuple[int, int] = LANDSCAPE) -> str:
    parameters = read_request(f"{options}/plain/a").parameters(source, None)
    read_parameters(parameters, ("download",))  # each is one of /images
    return "&".join(f"{name}={value}" for name, value in parameters)


@pytest.mark.parametrize(
    ("options", "source", "parameters"),
    [
        # "Resize", "Size", "Resizing type", "Width", "Height"
        ("rs:fit:300:300", LANDSCAPE, "xsize=300&ysize=300"),
        ("resize:fit:300", LANDSCAPE, "xsize=300"),
        ("s:300:0", LANDSCAPE, "xsize=300"),
        ("w:300/h:300", LANDSCAPE, "xsize=300&ysize=300"),
        ("rs:fit:1600:1600", LANDSCAPE, ""),
        ("rs:fit:1600:1600:1", LANDSCAPE, "xsize=1600&ysize=1600&enlarge=True"),
        ("rs:fill:300:400", LANDSCAPE, "xsize=300&ysize=400&fit=cover"),
        ("rs:fill:300:225", LANDSCAPE, "xsize=300"),
        ("rs:fill:0:300", LANDSCAPE, "xsize=400"),
        ("rs:fill:1600:300", LANDSCAPE, "xsize=800&ysize=300&fit=cover"),
        ("rs:fill:1600:300:t", LANDSCAPE, "xsize=1600&ysize=300&fit=cover&enlarge=True"),
        ("rs:fill-down:1600:800", LANDSCAPE, "xsize=800&ysize=400&fit=cover"),
        ("rs:force:300:300", LANDSCAPE, "xsize=300&ysize=300&fit=fill"),
        ("rs:force:300", LANDSCAPE, "xsize=300&ysize=600&fit=fill"),
        ("rs:auto:300:200", LANDSCAPE, "xsize=300&ysize=200&fit=cover"),
        ("rs:auto:300:200", PORTRAIT, "xsize=300&ysize=200"),
        ("rt:fill/w:300/h:400", LANDSCAPE, "xsize=300&ysize=400&fit=cover"),
        # "Dpr", "Enlarge", "Extend"
        ("rs:fit:300:300/dpr:2", LANDSCAPE, "xsize=600&ysize=600"),
        ("rs:fit:600:0/dpr:2", LANDSCAPE, ""),
        ("rs:fill:300:400/dpr:1.5", LANDSCAPE, "xsize=450&ysize=600&fit=cover"),
        ("w:1600/el:true", LANDSCAPE, "xsize=1600&enlarge=True"),
        ("rs:fit:300:300:0:1", LANDSCAPE, "xsize=300&ysize=300&fit=contain"),
        ("rs:fit:1000:1000/ex:1:ce:0:0", LANDSCAPE, "xsize=1000&ysize=1000&fit=contain"),
        # "Gravity"
        ("rs:fill:300:400/g:no", LANDSCAPE, "xsize=300&ysize=400&fit=cover&focus=0.5,0"),
        ("rs:fill:300:400/g:soea", LANDSCAPE, "xsize=300&ysize=400&fit=cover&focus=1,1"),
        ("rs:fill:300:400/gravity:sm", LANDSCAPE, "xsize=300&ysize=400&fit=cover&focus=smart"),
        ("rs:fill:300:400/g:fp:0.25:0.75", LANDSCAPE, "xsize=300&ysize=400&fit=cover&focus=0.25,0.75"),
        ("rs:fill:300:600/g:we:100", LANDSCAPE, "xsize=300&ysize=600&fit=cover&focus=0.3125,0.5"),
        ("rs:fill:400:300/g:no", PORTRAIT, "xsize=400&ysize=300&fit=cover&focus=0.5,0"),
        # "Crop"
        ("c:400:300", LANDSCAPE, "crop=200,150,400,300"),
        ("crop:100:200:nowe:300:400", LANDSCAPE, "crop=300,400,100,200"),
        ("c:0.5:0.5:soea", LANDSCAPE, "crop=400,300,400,300"),
        ("c:0:300:no", LANDSCAPE, "crop=0,0,800,300"),
        ("c:400:0/g:ea", LANDSCAPE, "crop=400,0,400,600"),
        ("c:5000:5000", LANDSCAPE, ""),
        ("c:400:300:fp:0.25:0.25/w:200", LANDSCAPE, "crop=0,0,400,300&xsize=200"),
        # "Rotate": sizes, crops and gravities are those of the turned picture
        ("rot:90", LANDSCAPE, "rotate=90"),
        ("rot:-90", LANDSCAPE, "rotate=270"),
        ("rot:90/w:300", LANDSCAPE, "xsize=300&rotate=90"),
        ("rot:90/c:100:200:nowe", LANDSCAPE, "crop=0,500,200,100&rotate=90"),
        ("rot:180/c:100:200:nowe", LANDSCAPE, "crop=700,400,100,200&rotate=180"),
        ("rot:270/c:100:200:nowe", LANDSCAPE, "crop=600,0,200,100&rotate=270"),
        ("rot:90/rs:fill:300:300/g:no", LANDSCAPE, "xsize=300&ysize=300&fit=cover&focus=0,0.5&rotate=90"),
        ("ar:1", LANDSCAPE, ""),
        # the rest, in the order of the documentation
        ("bg:255:128:0", LANDSCAPE, "background=ff8000"),
        ("background:ff8000", LANDSCAPE, "background=ff8000"),
        ("bl:2.5", LANDSCAPE, "blur=2.5"),
        ("sh:0.7", LANDSCAPE, "sharpen=0.7"),
        ("q:80", LANDSCAPE, "quality=80"),
        ("q:0", LANDSCAPE, ""),
        ("fq:jpeg:70:webp:60/f:webp", LANDSCAPE, "quality=60&kind=webp"),
        ("q:80/fq:webp:60/ext:webp", LANDSCAPE, "quality=80&kind=webp"),
        ("f:jpeg", LANDSCAPE, "kind=jpg"),
        ("f:best", LANDSCAPE, "kind=auto"),
        ("pg:2", LANDSCAPE, "page=3"),
        ("pr:sharp", LANDSCAPE, "preset=sharp"),
        ("raw:1", LANDSCAPE, "kind=original"),
        ("cb:123/sm:1/kcr:0/scp:1", LANDSCAPE, ""),
        ("att:1/fn:fox/f:png", LANDSCAPE, "download=fox.png&kind=png"),
        ("att:t", LANDSCAPE, "download="),
    ],
)
def test_options_are_the_parameters_of_a_picture(options: str, source: tuple[int, int], parameters: str) -> None:
    assert set(query(options, source).split("&")) == set(parameters.split("&"))


def test_a_file_name_may_be_encoded() -> None:
    assert "download=fox.png" in query("att:1/fn:Zm94:1/f:png")


@pytest.mark.parametrize(
    ("path", "source", "kind"),
    [
        # "Source URL", "Extension"
        (f"plain/{CURIOSITY}", CURIOSITY, None),
        (f"rs:fill:300:400/plain/{CURIOSITY}@png", CURIOSITY, "png"),
        ("plain/http%3A%2F%2Fexample.com%2Fa%40b.jpg@webp", "http://example.com/a@b.jpg", "webp"),
        ("aHR0cDovL2V4YW1w/bGUuY29tL2ltYWdl/cy9jdXJpb3NpdHku/anBn", CURIOSITY, None),
        ("aHR0cDovL2V4YW1w/bGUuY29tL2ltYWdl/cy9jdXJpb3NpdHku/anBn.png", CURIOSITY, "png"),
        ("rs:fill:300:400:0/g:sm/aHR0cDovL2V4YW1w/bGUuY29tL2ltYWdl/cy9jdXJpb3NpdHku/anBn.png", CURIOSITY, "png"),
        (base64.urlsafe_b64encode("local:///a/ö~ÿ".encode()).decode(), "local:///a/ö~ÿ", None),
    ],
)
def test_the_source_is_plain_or_encoded(path: str, source: str, kind: str | None) -> None:
    request = read_request(path)
    assert (request.source, request.named.get("kind")) == (source, kind)


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("wm:1/plain/a", "wm"),
        ("padding:10/plain/a", "padding"),
        ("rs:fitt:300:300/plain/a", "resizing type"),
        ("w:-1/plain/a", "width"),
        ("w:1e3/plain/a", "width"),
        ("rot:45/plain/a", "rotate"),
        ("ar:0/plain/a", "auto_rotate"),
        ("ex:1:no/plain/a", "extend"),
        ("g:top/plain/a", "gravity"),
        ("el:maybe/plain/a", "enlarge"),
        ("bg:zzz/plain/a", "background"),
        ("pr:a:b/plain/a", "preset"),
        ("enc/abc", "ncrypted"),
        ("plain/", "source"),
        ("w:300", "source"),
        ("w:300/****", "base64url"),
    ],
)
def test_what_is_wrong_or_not_available_is_named(path: str, word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        read_request(path)


def test_a_crop_by_attention_is_refused() -> None:
    with pytest.raises(BadRequest, match="gravity"):
        query("c:100:100:sm")


#: "Signing a URL", its example
SIGNED = "/rs:fill:300:400:0/g:sm/aHR0cDovL2V4YW1w/bGUuY29tL2ltYWdl/cy9jdXJpb3NpdHku/anBn.png"


def test_the_signature_of_the_documentation_is_accepted() -> None:
    key, salt = bytes.fromhex("736563726574"), bytes.fromhex("68656C6C6F")
    signature = "oKfUtW34Dvo2BGQehJFR4Nr0_rIjOtdtzJ3QFsUcXH8"
    verify_imgproxy(key, salt, signature, SIGNED)
    for wrong in (signature[:-1] + "9", "", "unsafe", "_"):
        with pytest.raises(LinkRefused):
            verify_imgproxy(key, salt, wrong, SIGNED)
    with pytest.raises(LinkRefused):
        verify_imgproxy(key, salt, signature, SIGNED.replace("300", "301"))


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/a/b", "a/b"),
        ("local:///a/b.jpg", "a/b.jpg"),
        ("https://static.example.org/pictures/a/b.jpg", "a/b.jpg"),
        ("https:/static.example.org/pictures/a/b.jpg", "a/b.jpg"),
        ("https://static.example.org/pictures/a/b.jpg?version=3", "a/b.jpg"),
        ("s3://bucket/a", "a"),
    ],
)
def test_an_address_below_a_source_is_a_name(address: str, name: str) -> None:
    sources = ("https://static.example.org/pictures/", "s3://bucket")
    assert name_of(address, sources).lstrip("/") == name


@pytest.mark.parametrize("address", ["https://elsewhere.example/a", "file:///etc/passwd", "s3://other/a"])
def test_an_address_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(BadName, match="sources"):
        name_of(address, ("s3://bucket/",))
