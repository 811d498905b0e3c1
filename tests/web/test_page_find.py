"""The page in Chromium: finding pictures by time and place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page, running_browser
from PIL import ExifTags, Image

from image_repo.catalogue.base import Row
from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
#: when the first picture was taken; each further one is ten days later
BEGIN = datetime(2024, 5, 1, 6, 30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


def _taken(at: datetime) -> bytes:
    """Return a picture that says when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"{at:%Y:%m:%d %H:%M:%S}"
    file = BytesIO()
    pictures.photo(60 + at.day, 40).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("find"), AccessConfiguration()) as site:
        for number in range(6):
            site.put(f"cams/n{number}", _taken(BEGIN + timedelta(days=10 * number)))
        site.put("scans/old", pictures.jpeg(pictures.photo(80, 60)))
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
        yield page


def test_a_bar_of_the_histogram_is_a_filter(page: Page) -> None:
    page.goto("./")
    bars = page.get_by_role("group", name="Taken")
    bars.get_by_role("button", name="13 May 2024 to 19 May 2024: 0 pictures").wait_for()
    bars.get_by_role("button", name="6 May 2024 to 12 May 2024: 1 picture").click()
    page.get_by_text("1 picture", exact=True).wait_for()
    assert page.url.endswith("/?exif.captured__gte=2024-05-06&exif.captured__lt=2024-05-13")
    page.get_by_role("gridcell", name="n1").wait_for()


def test_a_range_drawn_over_bars_takes_the_place_of_the_one_before(page: Page) -> None:
    page.goto("./?exif.captured__gte=2024-05-02&folder=cams")
    page.get_by_text("5 pictures").wait_for()
    bars = page.get_by_role("group", name="Taken").get_by_role("button")
    bars.first.hover()
    page.mouse.down()
    bars.nth(2).hover()
    page.mouse.up()
    page.get_by_text("2 pictures", exact=True).wait_for()
    assert page.url.count("exif.captured__gte") == page.url.count("exif.captured__lt") == 1


def test_a_range_is_chosen_by_keyboard(page: Page) -> None:
    page.goto("./?folder=cams")
    page.get_by_role("group", name="Taken").get_by_role("button").first.focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("1 picture", exact=True).wait_for()
    assert page.url.endswith("?folder=cams&exif.captured__gte=2024-05-06&exif.captured__lt=2024-05-20")


def test_uploads_are_counted_where_no_camera_tells_the_time(page: Page, site: Site) -> None:
    members = {"version": "v", "width": 3, "height": 2, "data": {}}
    rows = [{"name": f"rows/{year}", "uploaded": f"{year}-03-01T00:00:00.000Z", **members} for year in (2020, 2021)]
    site.repo.indexer.index.put(Row(str(row["name"]), row, "s") for row in rows)
    page.goto("./?folder=rows")
    page.get_by_role("group", name="Uploaded").get_by_role("button", name="Mar 2021: 1 picture").click()
    page.get_by_text("1 picture", exact=True).wait_for()
    assert page.url.endswith("?folder=rows&uploaded__gte=2021-03-01&uploaded__lt=2021-04-01")
    site.repo.indexer.index.remove(str(row["name"]) for row in rows)


#: times → the first and the last bound of at most five spans, and the counts
SPANS: dict[tuple[str, ...], tuple[list[str], list[int]]] = {
    (): ([], []),
    ("2024-02-29T10:00:00", "2024-02-29T10:03:59"): (["2024-02-29T10:00", "2024-02-29T10:04"], [1, 0, 0, 1]),
    ("2024-02-28", "2024-03-01", "no time"): (["2024-02-28", "2024-03-02"], [1, 0, 1]),
    ("1999-12-31", "2000-01-01"): (["1999-12-31T00:00", "2000-01-01T06:00"], [1, 0, 0, 0, 1]),
    ("2023-11-30", "2024-01-01"): (["2023-11-01", "2024-02-01"], [1, 0, 1]),
    ("2019-12-31", "2023-01-01"): (["2019-01-01", "2024-01-01"], [1, 0, 0, 0, 1]),
    ("1850-01-01", "1999-01-01"): (["1850-01-01", "2000-01-01"], [1, 0, 1]),
}


def test_times_are_counted_in_the_shortest_spans_that_are_few_enough(page: Page) -> None:
    page.goto("./")
    script = """async (all) => {
        const { boundText, countTimes, readTime } = await import('/static/page/times.js');
        return all.map((times) => {
            const full = times.map((each) => readTime(each.length === 10 ? `${each}T00:00:00` : each));
            const { bounds, counts, isByDay } = countTimes(full, 5);
            const texts = bounds.map((each) => boundText(each, isByDay));
            return [texts.length ? [texts[0], texts.at(-1)] : [], counts];
        });
    }"""
    counted = page.evaluate(script, list(map(list, SPANS)))
    assert dict(zip(SPANS, map(tuple, counted), strict=True)) == SPANS
