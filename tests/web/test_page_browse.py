"""The page at ``/`` in Chromium: folders, the grid, order and size."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page
from servers.ports import free_port
from webserver import listening

from image_repo.access.api_keys import new_key
from image_repo.catalogue.base import Row
from image_repo.config import AccessConfiguration
from image_repo.web.app import create_app

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
#: what Chromium sends
ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
#: pictures in one folder
MANY = 100_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("page"), AccessConfiguration()) as site:
        for name, size in {"north": (300, 200), "south": (200, 300), "east": (400, 200)}.items():
            site.put(f"sites/plot 12/{name}", pictures.jpeg(pictures.photo(*size)))
        site.put("lakes/deep/blue", pictures.jpeg(pictures.photo(240, 160)))
        site.put("cover", pictures.jpeg(pictures.photo(160, 160)))
        yield site


def _names(page: Page) -> list[str]:
    page.get_by_role("gridcell").first.wait_for()
    return [str(cell.get_attribute("aria-label")) for cell in page.get_by_role("gridcell").all()]


def test_a_browser_gets_a_page_and_others_json(site: Site) -> None:
    page, json = site.client.get("/", Accept=ACCEPT), site.client.get("/", Accept="*/*")
    assert page.headers["Content-Type"].startswith("text/html")
    assert json.json()["images"] == "/images"
    assert page.headers["Vary"] == json.headers["Vary"] == "Accept"
    assert "unsafe" not in page.headers["Content-Security-Policy"]


def test_the_grid_shows_every_picture_below_a_folder(page: Page) -> None:
    page.goto("./")
    assert _names(page) == ["cover", "blue", "east", "north", "south"]
    page.get_by_text("5 pictures").wait_for()
    page.get_by_role("link", name="sites").click()
    page.get_by_role("heading", name="sites", level=1).wait_for()
    page.get_by_role("link", name="plot 12").click()
    page.get_by_role("heading", name="plot 12", level=1).wait_for()
    assert page.url.endswith("?folder=sites/plot+12")
    page.get_by_text("3 pictures").wait_for()
    assert _names(page) == ["east", "north", "south"]


def test_a_reload_and_the_way_back_show_the_same_view(page: Page) -> None:
    page.goto("./?folder=sites/plot+12&sort=-name")
    assert _names(page) == ["south", "north", "east"]
    page.get_by_role("link", name="All pictures").click()
    page.get_by_text("5 pictures").wait_for()
    page.go_back()
    page.get_by_text("3 pictures").wait_for()
    page.reload()
    assert _names(page) == ["south", "north", "east"]


def test_thumbnails_are_of_a_version_and_fit_the_device(browser: Browser, site: Site) -> None:
    root = f"http://127.0.0.1:{site.client.port}/"
    with open_page(browser, root, device_scale_factor=2) as page:
        with page.expect_response(re.compile("/images/cover")) as response:
            page.goto("./")
        assert re.search(r"xsize=330&ysize=330&v=[-\w]+$", response.value.url)
        assert "immutable" in response.value.headers["cache-control"]


def test_rows_fill_the_width_and_are_of_equal_height(page: Page) -> None:
    page.goto("./")
    page.get_by_text("Large", exact=True).click()
    page.get_by_role("row").nth(1).wait_for()
    rows = page.evaluate("""[...document.querySelectorAll('[role=row]')].map((row) => [...row.children].map((cell) => {
        const box = cell.getBoundingClientRect(); return [Math.round(box.right), Math.round(box.height)]; }))""")
    right = page.evaluate("document.querySelector('[role=grid]').getBoundingClientRect().right")
    assert all(len({height for _, height in row}) == 1 for row in rows)
    assert abs(rows[0][-1][0] - right) <= 1


def test_the_theme_is_dark_where_the_system_is_and_can_be_chosen(browser: Browser, site: Site) -> None:
    root = f"http://127.0.0.1:{site.client.port}/"
    background = "getComputedStyle(document.body).backgroundColor"
    with open_page(browser, root, color_scheme="dark") as page:
        page.goto("./")
        assert page.evaluate(background) == "rgb(20, 21, 23)"
        page.get_by_role("button", name="Theme: auto").click()
        page.get_by_role("button", name="Theme: light").wait_for()
        page.reload()
        assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_a_caller_who_may_see_nothing_reads_how_to_get_in(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_site(tmp_path_factory.mktemp("private"), AccessConfiguration(anonymous="none")) as site:
        key = site.repo.authenticator.keys.add(new_key("someone", "reader"))
        root = f"http://127.0.0.1:{site.client.port}/"
        with open_page(browser, root) as page:
            page.goto("./")
            page.get_by_text("The pictures here are private.").wait_for()
        with open_page(browser, root, extra_http_headers={"Authorization": f"Bearer {key}"}) as page:
            page.goto("./")
            page.get_by_text("No pictures yet.").wait_for()


@contextmanager
def _behind_a_prefix(site: Site, port: int) -> Iterator[str]:
    """A proxy that takes a prefix off the path; gives the address."""

    def proxy(environ: Any, start_response: Any) -> Any:
        for name in ("PATH_INFO", "REQUEST_URI", "RAW_URI"):
            environ[name] = environ[name].removeprefix("/museum")
        return app.wsgi_app(environ, start_response)

    app = create_app(site.repo, site.config)
    with listening(proxy, port):
        yield f"http://127.0.0.1:{port}/museum/"


def test_it_works_behind_a_prefix_and_with_another_base(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = free_port()
    settings = {"repository_base_pathname": "api/images", "public_url": f"http://127.0.0.1:{port}/museum"}
    with running_site(tmp_path_factory.mktemp("prefix"), AccessConfiguration(), **settings) as site:
        site.put("a/b c", pictures.jpeg(pictures.photo(900, 600)))
        with _behind_a_prefix(site, port) as root, open_page(browser, root) as page:
            refused = []
            page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
            page.goto("./?folder=a")
            page.get_by_role("gridcell", name="b c").click()
            page.locator(".preview.behind").wait_for(state="attached")
            page.get_by_text("900 × 600").wait_for()
            assert page.url == f"{root}?folder=a&picture=a/b+c"
            assert not refused


def test_a_view_is_exported(page: Page) -> None:
    page.goto("./?folder=sites&width__gte=300")
    page.get_by_text("2 pictures").wait_for()
    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog", name="Export 2 pictures")
    with page.expect_download() as download:
        dialog.get_by_role("link", name="CSV").click()
    assert "records.csv" in zipfile.ZipFile(download.value.path()).namelist()
    address = dialog.get_by_role("textbox", name="IIIF manifest").input_value()
    assert len(page.request.get(address).json()["items"]) == 2
    address = dialog.get_by_role("textbox", name="API").input_value()
    assert page.request.get(address).json()["count"] == 2


def test_a_description_without_a_picture_is_told_in_words(page: Page, site: Site) -> None:
    site.client.put("/images/notes/one", b'{"note": "not taken yet"}', Content_Type="application/json")
    page.goto("./?folder=notes")
    page.get_by_role("gridcell", name="one").get_by_text("No picture yet").wait_for()
    page.get_by_role("gridcell", name="one").click()
    page.get_by_role("dialog", name="one").get_by_text("not taken yet").wait_for()
    site.client.delete("/images/notes/one")


def test_a_hundred_thousand_pictures_of_one_folder_stay_few_in_the_document(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_site(tmp_path_factory.mktemp("many"), AccessConfiguration()) as site:
        site.repo.indexer.index.put(_row(number) for number in range(MANY))
        with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
            page.route("**/images/**", lambda route: route.fulfill(body=pictures.jpeg(), content_type="image/jpeg"))
            page.goto("./?folder=many")
            page.get_by_text("100,000 pictures").wait_for()
            page.locator('[role=grid]:not([aria-rowcount="-1"])').wait_for(timeout=30_000)
            # in parts that were not shown yet; a busy machine may hold one of them up
            blank = (page.evaluate(_SCROLL, start) for start in (0, 200_000, 400_000, 600_000))
            assert any(milliseconds <= 300 for milliseconds in blank), "without a cell in the middle of the window"
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.get_by_role("gridcell", name="099999", exact=True).wait_for()
            assert page.get_by_role("gridcell").count() <= 400
            assert page.evaluate("document.querySelectorAll('*').length") <= 6_000
            assert page.evaluate("performance.memory.usedJSHeapSize") <= 150e6


#: scrolls 60 rows a second for two seconds; returns the longest time without a cell in the middle, in ms
_SCROLL = """(start) => new Promise((done) => {
  const begun = performance.now();
  let blank = 0, longest = 0, last = begun;
  const step = (now) => {
    scrollTo(0, start + 60 * 190 * (now - begun) / 1000);
    const cell = document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest('.cell, .row');
    blank = cell ? 0 : blank + now - last;
    longest = Math.max(longest, blank);
    last = now;
    now - begun < 2000 ? requestAnimationFrame(step) : done(longest);
  };
  requestAnimationFrame(step);
})"""


def _row(number: int) -> Row:
    name, width = f"many/{number:06}", 300 + number * 7919 % 300
    return Row(name, {"name": name, "version": f"{number:032x}", "width": width, "height": 300, "data": {}}, "s")


@pytest.mark.parametrize("path", ["/images/none", "/images/a/../b", "/nowhere", "/images/cover?xsize=no"])
def test_a_problem_is_a_page_where_a_browser_asks(site: Site, path: str) -> None:
    page, document = site.client.get(path, Accept=ACCEPT), site.client.get(path, Accept="*/*")
    assert page.status == document.status >= 400
    assert document.headers["Content-Type"] == "application/problem+json"
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert document.json()["title"] in page.body.decode()
    assert site.client.get(path, Accept="image/avif,image/webp,*/*;q=0.8").slug == document.slug
