"""What thumbor's URLs mean, from the examples of its documentation."""

from __future__ import annotations

import contextlib

import pytest

from image_repo.dialects.signatures import verify_thumbor
from image_repo.dialects.thumbor import read_request
from image_repo.errors import BadRequest, LinkRefused
from image_repo.model.recipe import read_request as read_parameters

LANDSCAPE, PORTRAIT = (800, 600), (400, 600)


def query(text: str, source: tuple[int, int] = LANDSCAPE) -> str:
    parameters = read_request(text).parameters(source, "jpg")
    read_parameters(parameters)  # each is one of /images
    return "&".join(f"{name}={value}" for name, value in parameters if (name, value) != ("kind", "jpg"))


@pytest.mark.parametrize(
    ("text", "source", "parameters"),
    [
        # usage, "Fit in"
        ("fit-in/300x200/a", LANDSCAPE, "xsize=300&ysize=200"),
        ("fit-in/300x200/a", PORTRAIT, "xsize=300&ysize=200"),
        ("fit-in/900x700/a", LANDSCAPE, ""),
        ("full-fit-in/300x200/a", LANDSCAPE, "xsize=300"),
        ("full-fit-in/300x200/a", PORTRAIT, "xsize=300"),
        ("adaptive-fit-in/300x200/a", PORTRAIT, "xsize=200&ysize=300"),
        # usage, "Image Size"
        ("400x0/a", LANDSCAPE, "xsize=400"),
        ("400x/a", LANDSCAPE, "xsize=400"),
        ("x300/a", LANDSCAPE, "xsize=400"),
        ("0x0/a", LANDSCAPE, ""),
        ("a", LANDSCAPE, ""),
        ("origxorig/a", LANDSCAPE, ""),
        ("300xorig/a", LANDSCAPE, "xsize=300&ysize=600&fit=cover"),
        ("origx300/a", LANDSCAPE, "xsize=800&ysize=300&fit=cover"),
        ("300x200/a", LANDSCAPE, "xsize=300&ysize=200&fit=cover"),
        ("300x225/a", LANDSCAPE, "xsize=300"),
        ("1600x0/a", LANDSCAPE, "xsize=1600&enlarge=True"),
        ("1000x300/a", LANDSCAPE, "xsize=1000&ysize=300&enlarge=True&fit=cover"),
        ("-300x-225/a", LANDSCAPE, "xsize=300&flip=hv"),
        ("-0x0/a", LANDSCAPE, "flip=h"),
        # usage, "Manual Crop"
        ("10x20:310x220/a", LANDSCAPE, "crop=10,20,300,200"),
        ("10x20:310x220/150x100/a", LANDSCAPE, "crop=10,20,300,200&xsize=150"),
        ("700x500:900x700/a", LANDSCAPE, "crop=700,500,100,100"),
        ("900x500:950x700/a", LANDSCAPE, ""),
        # usage, "Horizontal Align", "Vertical Align", "Smart Cropping"
        ("300x100/left/a", LANDSCAPE, "xsize=300&ysize=100&fit=cover&focus=0,0.5"),
        ("300x100/right/bottom/a", LANDSCAPE, "xsize=300&ysize=100&fit=cover&focus=1,1"),
        ("300x100/top/a", LANDSCAPE, "xsize=300&ysize=100&fit=cover&focus=0.5,0"),
        ("300x100/smart/a", LANDSCAPE, "xsize=300&ysize=100&fit=cover&focus=smart"),
        ("300x100/left/top/smart/a", LANDSCAPE, "xsize=300&ysize=100&fit=cover&focus=smart"),
        # filters
        ("filters:quality(80):format(webp)/a", LANDSCAPE, "kind=webp&quality=80"),
        ("filters:grayscale()/a", LANDSCAPE, "gray=True"),
        ("filters:rotate(90)/a", LANDSCAPE, "rotate=270"),
        ("300x200/filters:rotate(90)/a", LANDSCAPE, "ysize=300&xsize=200&fit=cover&rotate=270"),
        ("fit-in/300x200/filters:rotate(450)/a", LANDSCAPE, "xsize=200&ysize=300&rotate=270"),
        ("filters:blur(7)/a", LANDSCAPE, "blur=7"),
        ("filters:blur(4, 2)/a", LANDSCAPE, "blur=2"),
        ("filters:sharpen(2,1.0,true)/a", LANDSCAPE, "sharpen=2"),
        ("fit-in/300x300/filters:fill(blue)/a", LANDSCAPE, "xsize=300&ysize=300&fit=contain&background=blue"),
        ("fit-in/900x900/filters:fill(f00)/a", LANDSCAPE, "xsize=900&ysize=900&fit=contain&background=f00"),
        ("fit-in/1000x1000/filters:upscale()/a", LANDSCAPE, "xsize=1000&ysize=1000&enlarge=True"),
        ("1000x300/filters:no_upscale()/a", LANDSCAPE, "xsize=800&ysize=300&fit=cover"),
        ("300x100/filters:stretch()/a", LANDSCAPE, "xsize=300&ysize=100&fit=fill"),
        ("400x100/filters:focal(100x200:300x400)/a", LANDSCAPE, "xsize=400&ysize=100&fit=cover&focus=0.25,0.5"),
        ("filters:background_color(abc)/a", LANDSCAPE, "background=abc"),
        ("filters:strip_exif():strip_icc()/a", LANDSCAPE, ""),
    ],
)
def test_a_url_is_the_parameters_of_a_picture(text: str, source: tuple[int, int], parameters: str) -> None:
    assert set(query(text, source).split("&")) == set(parameters.split("&"))


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("300x200/smart/path/to/image.jpg", "path/to/image.jpg"),
        ("300x200/filters:quality(80)/https://host/a.jpg", "https://host/a.jpg"),
        ("a/300x200.jpg", "a/300x200.jpg"),
        ("filters:quality(80)/a(b)/c", "a(b)/c"),
    ],
)
def test_the_image_is_what_follows_the_options(text: str, image: str) -> None:
    assert read_request(text).image == image


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("trim/a", "trim"),
        ("trim:top-left:50/a", "trim"),
        ("meta/300x200/a", "meta"),
        ("filters:noise(40)/a", "noise"),
        ("filters:fill(auto)/a", "auto"),
        ("filters:rotate(left)/a", "rotate"),
        ("filters:quality(80)x()/a", "filters"),
        ("", "NAME"),
    ],
)
def test_what_is_not_available_is_named(text: str, word: str) -> None:
    with pytest.raises(BadRequest, match=word):
        read_request(text)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("part", ["a(", "a)", "a():", "filters:", "-0x0/"])
def test_a_long_url_is_read_in_linear_time(part: str) -> None:
    with contextlib.suppress(BadRequest):
        read_request("filters:" + part * 100_000)


@pytest.mark.parametrize(
    ("key", "signature", "text"),
    [
        # the example of https://github.com/thumbor/libthumbor
        (
            "my-security-key",
            "8ammJH8D-7tXy6kU3lTvoXlhu4o=",
            "300x200/my.server.com/some/path/to/image.jpg",
        ),
        # signed by libthumbor 2.0.2
        ("my-security-key-0", "xlG-5lN6sTA9Xa8sk_KSNfgziAc=", "300x200/smart/a/b.jpg"),
        ("my-security-key-0", "8wElsZ3QCY8Ge5cDDI2dRaCTMUI=", "fit-in/90x0/filters:quality(80):format(webp)/a/b"),
    ],
)
def test_signatures_of_libthumbor_are_accepted(key: str, signature: str, text: str) -> None:
    verify_thumbor(key, signature, text)
    for wrong in (signature.swapcase(), "", "unsafe", "é"):
        with pytest.raises(LinkRefused):
            verify_thumbor(key, wrong, text)
    with pytest.raises(LinkRefused):
        verify_thumbor(key, signature, text + "x")
