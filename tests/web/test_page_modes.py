"""The page in Chromium where ``requests.mode`` bounds what is rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page

from image_repo.config import AccessConfiguration, RequestsConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = needs_browser
KEY = "a key of the tests, for requests"
#: how /images and /iiif are reached
_PICTURE = re.compile("/(images|iiif/3)/")


def _site(folder: Path, access: AccessConfiguration, **requests: Any) -> Any:
    return running_site(folder, access, requests=RequestsConfiguration(**requests), presets={"card": {"xsize": "77"}})


def _refused(page: Page) -> list[str]:
    """Return a list to which addresses of pictures are added that are refused from now on."""
    refused: list[str] = []

    def look(answer: Any) -> None:
        if answer.status >= 400 and _PICTURE.search(answer.url):
            refused.append(answer.url)

    page.on("response", look)
    return refused


@pytest.mark.parametrize("mode", ["steps", "presets", "signed"])
def test_thumbnails_and_tiles_are_shown_and_nothing_is_refused(browser: Browser, tmp_path: Path, mode: str) -> None:
    with _site(tmp_path, AccessConfiguration(), mode=mode, key=KEY, steps=[100, 700]) as site:
        for name, size in {"wide": (1301, 701), "small": (60, 40), "high": (333, 777)}.items():
            site.put(f"cams/{name}", pictures.jpeg(pictures.photo(*size)))
        with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
            refused = _refused(page)
            page.goto("./")
            page.locator(".cell img.loaded").nth(2).wait_for()
            page.get_by_role("gridcell", name="wide").click()
            page.locator(".preview.behind").wait_for(state="attached")
            with page.expect_download() as download:
                page.get_by_role("button", name="Download").click()
            assert pictures.load(Path(download.value.path()).read_bytes()).size == (1301, 701)
            assert not refused


@pytest.mark.parametrize(
    ("mode", "field", "value"), [("presets", "Preset", "card"), ("signed", "Width", "80")], ids=["presets", "signed"]
)
def test_the_url_that_is_made_is_accepted(browser: Browser, tmp_path: Path, mode: str, field: str, value: str) -> None:
    with _site(tmp_path, AccessConfiguration(), mode=mode, key=KEY) as site:
        site.put("one", pictures.jpeg(pictures.photo(300, 200)))
        with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
            page.goto("./?picture=one")
            page.get_by_role("button", name="URL").click()
            panel = page.get_by_role("dialog", name="URL of one")
            panel.get_by_text(" ms").wait_for()
            if mode == "presets":
                panel.get_by_label(field).select_option(value)
            else:
                panel.get_by_label(field).fill(value)
            expect(panel.get_by_role("textbox", name="URL", exact=True)).to_have_value(re.compile(f"={value}\\b"))
            url = panel.get_by_role("textbox", name="URL", exact=True).input_value()
            assert pictures.load(page.request.get(url).body()).width in (77, 80)
            panel.get_by_label("Link").select_option("temporary")
            expect(panel.get_by_role("textbox", name="URL", exact=True)).not_to_have_value(url)
            temporary = panel.get_by_role("textbox", name="URL", exact=True).input_value()
            assert pictures.load(page.request.get(temporary).body()).width in (77, 80)


def test_readers_get_no_signature_and_are_told_so(browser: Browser, tmp_path: Path) -> None:
    with _site(tmp_path, AccessConfiguration(anonymous="read"), mode="signed", key=KEY) as site:
        site.put("one", pictures.jpeg(pictures.photo(300, 200)))
        assert site.client.get("/me").json()["requests"] == {"mode": "signed"}
        with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
            page.goto("./")
            page.get_by_role("alert").get_by_text("signed requests alone").wait_for()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with _site(tmp_path_factory.mktemp("signed"), AccessConfiguration(), mode="signed", key=KEY) as site:
        site.put("one", pictures.jpeg(pictures.photo(1300, 700)))
        yield site


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/iiif/3/one/full/max/0/default.jpg", 200),
        ("/iiif/3/one/full/434,234/0/default.jpg", 401),
        ("/iiif/3/one/full/325,175/0/default.jpg", 200),
        ("/iiif/3/one/0,0,512,512/512,512/0/default.jpg", 200),
        ("/iiif/3/one/full/max/0/gray.jpg", 401),
        ("/images/one?x=1", 400),
        ("/images/one", 401),
        ("/images/one?xsize=100", 401),
        ("/images/?regex=o", 401),
    ],
)
def test_the_signature_of_the_page_is_for_tiles_alone(signed: Site, path: str, status: int) -> None:
    signature = signed.client.get("/me").json()["requests"]["signature"]
    answer = signed.client.get(f"{path}{'&' if '?' in path else '?'}signature={signature}")
    assert answer.status == status
    assert signed.client.get(path).status >= 400


def test_the_address_of_a_tile_with_a_version_is_kept_for_ever(signed: Site) -> None:
    signature, version = signed.client.get("/me").json()["requests"]["signature"], _version(signed)
    path = f"/iiif/3/one/full/325,175/0/default.jpg?signature={signature}&v="
    assert "immutable" in signed.client.get(path + version).headers["Cache-Control"]
    assert "immutable" not in signed.client.get(path + "another").headers["Cache-Control"]


def _version(site: Site) -> str:
    return str(site.client.get("/images/one?meta=True").json()["version"])
