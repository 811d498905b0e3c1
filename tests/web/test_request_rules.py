"""requests.mode: a ladder of sizes, presets, or signed requests, by every way to a rendition."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site
from commands import until
from PIL import Image

from image_repo import wiring
from image_repo.access.request_rules import RequestSigner
from image_repo.cli.signing import signed_url
from image_repo.config import AccessConfiguration, Config, RequestsConfiguration, load
from image_repo.errors import ConfigurationError
from image_repo.observability.logging import clean

KEY, OLD = "a key of the tests, for requests", "the key before it, for requests"
DOCS = Path(__file__).parents[2] / "docs" / "requests.md"


def _running(folder: Path, mode: Any, surrogate_header: str | None = None, **settings: Any) -> Any:
    requests = RequestsConfiguration(mode=mode, **settings)
    presets = {"card": {"xsize": "77", "kind": "png"}}
    access = AccessConfiguration(secret="a secret of the tests")
    return running_site(folder, access, requests=requests, presets=presets, surrogate_header=surrogate_header)


def _site(tmp_path_factory: pytest.TempPathFactory, mode: str, **settings: Any) -> Iterator[Site]:
    with _running(tmp_path_factory.mktemp(mode), mode, **settings) as site:
        for name in ("s/a", "s/b"):
            site.put(name, pictures.jpeg(pictures.photo(600, 400, seed=len(name))))
        yield site


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory, "steps")


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory, "presets")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from _site(tmp_path_factory, "signed", key=KEY, key_2=OLD)


def _signed(site: Site, name: str, lifetime: int | None = None, key: str = KEY, **parameters: str) -> str:
    """Return the path and query of a signed request."""
    parts = urlsplit(signed_url(site.config, RequestSigner([key]), name, parameters, lifetime))
    return f"{parts.path}?{parts.query}"


# -- steps -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "size", "step"),
    [
        pytest.param("xsize=250", (250, 167), None, id="a step stays"),
        pytest.param("xsize=251", (330, 220), "330x", id="another width gets the next larger one"),
        pytest.param("ysize=61", (180, 120), "x120", id="a height does"),
        pytest.param("w=100&h=100&fit=cover", (120, 120), "120x120", id="both sides of a box do"),
        pytest.param("w=60&dpr=1.5", (120, 80), "120x", id="what dpr makes of a width does"),
        pytest.param("w=40&dpr=1.5", (60, 40), None, id="what dpr makes may be a step"),
        pytest.param("thumbnail=True&w=30", (40, 27), "40x40", id="a thumbnail does"),
        pytest.param("thumbnail=True", (50, 33), None, id="the configured thumbnail stays"),
        pytest.param("w=9000&h=50&fit=fill", (600, 60), "3840x60", id="beyond the largest is the largest"),
        pytest.param("", (600, 400), None, id="no box stays none"),
        pytest.param("preset=card", (77, 51), None, id="a preset is as it is configured"),
        pytest.param("preset=card&q=50&kind=jpg", (120, 80), "120x", id="a preset that is changed is not"),
    ],
)
def test_in_steps_a_box_is_enlarged_to_the_ladder(steps: Site, query: str, size: Any, step: str | None) -> None:
    for _ in range(2):
        answer = steps.client.get(f"/images/s/a?{query}")
        if "fit=fill" not in query:
            assert answer.image().size == size
        assert answer.headers.get("X-Image-Step") == step
    assert answer.layer == "memory"


def test_in_steps_two_widths_of_one_step_are_one_rendition(steps: Site) -> None:
    etags = {steps.client.get(f"/images/s/b?xsize={side}").headers["ETag"] for side in range(121, 251)}
    assert len(etags) == 1


def test_in_steps_zips_and_exports_keep_to_the_ladder(steps: Site) -> None:
    for path in ("/images/s/?xsize=30", "/export?xsize=30"):
        with ZipFile(BytesIO(steps.client.get(path).body)) as archive:
            members = [name for name in archive.namelist() if name.endswith(".jpg")]
            assert len(members) == 2
            assert {Image.open(BytesIO(archive.read(name))).width for name in members} == {40}


# -- presets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        ("preset=card", 200),
        ("preset=card&download=True", 200),
        ("thumbnail=True", 200),
        ("meta=True", 200),
        ("kind=original", 200),
        ("preset=card&q=50", 400),
        ("xsize=77", 400),
        ("thumbnail=True&w=51", 400),
        ("preset=none", 400),
        ("w=9&url=True", 400),
        ("w=9&regex=a", 400),
    ],
)
def test_in_presets_nothing_else_is_rendered(presets: Site, query: str, status: int) -> None:
    answer = presets.client.get(f"/images/s/a?{query}" if "regex" not in query else f"/images/s/?{query}")
    assert answer.status == status, answer.body


def test_the_refusal_names_the_presets_and_the_parameter(presets: Site) -> None:
    problem = presets.client.get("/images/s/a?preset=card&w=9").json()
    assert problem["parameter"] == "xsize"
    assert "(card)" in problem["detail"]


# -- signed ----------------------------------------------------------------------------


def test_a_signed_request_is_answered_in_any_order_of_parameters_and_by_aliases(signed: Site) -> None:
    link = _signed(signed, "s/a", xsize="60", kind="png", gray="True")
    signature = link.partition("signature=")[2]
    for query in ("xsize=60&kind=png&gray=True", "grey=yes&fm=PNG&w=60", "kind=png&gray=1&width=60&blur=1"):
        answer = signed.client.get(f"/images/s/a.jpg?signature={signature}&{query}")
        assert answer.status == (401 if "blur" in query else 200), answer.body
    assert signed.client.get(link).image().size == (60, 40)


@pytest.mark.parametrize(
    "path", ["s/a", "s/a?xsize=9", "s/a?kind=original", "s/a?url=True", "s/", "s/?regex=a", "s/?url=True", "s/a/image"]
)
def test_an_unsigned_request_is_refused_and_says_how_to_sign(signed: Site, path: str) -> None:
    for _ in range(2):
        answer = signed.client.get(f"/images/{path}")
        assert (answer.status, answer.slug) == (401, "link-refused")
    assert "image_repo sign" in answer.json()["detail"]


def test_records_lists_and_uploads_need_no_signature(signed: Site) -> None:
    get = signed.client.get
    assert get("/images/s/a?meta=True").status == 200
    assert get("/images/s/a", Accept="application/json").json()["name"] == "s/a"
    assert len(get("/images/s/?meta=True").json()) == 2
    assert get("/images").status == 200
    assert signed.client.put("/images/new", pictures.jpeg()).status == 201


def test_a_signature_is_of_one_picture_and_one_recipe(signed: Site) -> None:
    query = _signed(signed, "s/a", xsize="60").partition("?")[2]
    assert signed.client.get(f"/images/s/a?{query}").status == 200
    for other in (f"s/b?{query}", f"s/a?{query}&ysize=9", f"s/?{query}", f"s/a?{query[:-1]}_", "s/a?signature=x"):
        assert signed.client.get(f"/images/{other}").status == 401, other


def test_a_signature_of_a_folder_covers_its_pattern(signed: Site) -> None:
    link = _signed(signed, "s/", regex="a|b", xsize="60")
    assert len(ZipFile(BytesIO(signed.client.get(link).body)).namelist()) == 2
    assert signed.client.get(link.replace("regex=a%7Cb", "regex=.")).status == 401
    assert signed.client.get(link + "&url=True").json()[0]["name"] == "s/a"


def test_a_signature_ends_with_its_time_also_where_the_picture_is_hot(signed: Site) -> None:
    link = _signed(signed, "s/a", lifetime=4, xsize="20")
    answers = [signed.client.get(link) for _ in range(3)]
    assert answers[-1].status == 200
    assert "immutable" not in signed.client.get(link + f"&v={_version(signed)}").headers["Cache-Control"]
    until(lambda: signed.client.get(link).status != 200, "the signature ends")
    gone = signed.client.get(link, If_None_Match=answers[0].headers["ETag"])
    assert (gone.status, gone.slug) == (410, "link-expired")


def _version(site: Site) -> str:
    version: str = site.client.get("/images/s/a?meta=True").json()["version"]
    return version


def test_both_keys_are_accepted_and_no_other(signed: Site) -> None:
    assert signed.client.get(_signed(signed, "s/a", key=OLD)).status == 200
    assert signed.client.get(_signed(signed, "s/a", key="yet another key, of nobody")).status == 401


def test_a_signed_picture_without_an_end_is_answered_from_memory(signed: Site) -> None:
    link = _signed(signed, "s/b", xsize="33")
    signed.client.get(link)
    passed = len(signed.passed)
    assert signed.client.get(link).layer == "memory"
    assert len(signed.passed) == passed


def test_no_signature_is_logged() -> None:
    assert clean("GET /images/a?signature=abcdef&xsize=3").count("abcdef") == 0


def test_signed_without_a_key_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("requests: {mode: signed}\n")
    with pytest.raises(ConfigurationError, match=r"requests.key"):
        load(tmp_path / "c.yml", {})


# -- the recipes of the documentation ----------------------------------------------------

_COMMANDS = {
    "python": [sys.executable, "-"],
    "js": [shutil.which("node") or "", "-"],
    "php": [shutil.which("php") or ""],
}


@pytest.mark.parametrize("language", ["python", "js", "php"])
def test_the_recipe_of_the_documentation_signs_as_the_server_does(language: str, tmp_path: Path) -> None:
    command = _COMMANDS[language]
    if not command[0]:
        pytest.skip(f"there is no interpreter of {language} here")
    match = re.search(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert match, language
    config = Config(requests=RequestsConfiguration(mode="signed", key="0123456789abcdef0123456789abcdef"))
    expected = wiring.request_signer(config).sign("sites/north plot", ["kind=webp", "xsize=300"])
    printed = subprocess.run(command, input=match[1], capture_output=True, text=True, timeout=60, check=True).stdout
    assert printed.strip() == expected


def test_what_a_signature_with_an_end_is_for_is_kept_by_no_cache_beyond_it(tmp_path: Path) -> None:
    with _running(tmp_path, "signed", key=KEY, surrogate_header="xkey") as site:
        site.put("s/a", pictures.jpeg())
        for_ever, for_a_minute = (
            site.client.get(
                _signed(site, "s/a", lifetime, v=site.client.get("/images/s/a?meta=True").json()["version"])
            )
            for lifetime in (None, 60)
        )
        assert "immutable" in for_ever.headers["Cache-Control"]
        assert "xkey" in for_ever.headers
        assert int(for_a_minute.headers["Cache-Control"].rpartition("max-age=")[2]) <= 60
        assert "xkey" not in for_a_minute.headers


@pytest.mark.parametrize("name", ["s/a", "s/"])
def test_a_temporary_url_ends_with_the_signature_that_it_is_made_by(signed: Site, name: str) -> None:
    for lifetime, is_shorter in ((600, True), (None, False)):
        answer = signed.client.get(_signed(signed, name, lifetime, xsize="20") + "&url=True&lifetime=86400").json()
        for link in answer if name.endswith("/") else [answer]:
            ends = int(parse_qs(urlsplit(link["url"]).query)["temp_url_expires"][0])
            assert (ends <= time.time() + 600) is is_shorter
            assert datetime.fromisoformat(link["expires"]).timestamp() == ends
            assert signed.client.get(link["url"].partition(str(signed.client.port))[2]).image().width == 20
