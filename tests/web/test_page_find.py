"""The page in Chromium: finding pictures by time and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page

from image_repo.catalogue.base import Row
from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = needs_browser
#: when the first picture was taken; each further one is ten days later
BEGIN = datetime(2024, 5, 1, 6, 30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("find"), AccessConfiguration()) as site:
        for number in range(6):
            taken = f"{BEGIN + timedelta(days=10 * number):%Y:%m:%d %H:%M:%S}"
            site.put(f"cams/n{number}", pictures.jpeg(pictures.photo(60 + number, 40), taken=taken))
            data = {"latitude": 50 + number % 2 * 10 + number / 1000, "longitude": 7.5}
            site.client.put(f"/images/cams/n{number}", json.dumps(data).encode(), Content_Type="application/json")
        site.put("scans/old", pictures.jpeg(pictures.photo(80, 60)))
        yield site


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


# -- places ----------------------------------------------------------------------------


def test_a_dot_of_the_map_is_a_filter_and_nothing_comes_from_another_host(page: Page, site: Site) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("./")
    page.get_by_role("button", name="Map").click()
    dialog = page.get_by_role("dialog", name="Map")
    dialog.get_by_text("6 of 7 pictures tell where.").wait_for()
    expect(dialog.get_by_role("link")).to_have_count(2)
    dialog.get_by_role("link", name="3 pictures near 60.003° N, 7.5° E").click()
    page.get_by_text("3 pictures", exact=True).wait_for()
    assert page.url.endswith("/?latitude__gte=60.001&latitude__lte=60.005&longitude__gte=7.5&longitude__lte=7.5")
    expect(dialog).to_have_count(0)
    assert hosts == {f"127.0.0.1:{site.client.port}"}


def test_a_box_drawn_on_the_map_takes_the_place_of_the_one_before(page: Page) -> None:
    page.goto("./?latitude__gte=1")
    page.get_by_role("button", name="Map").click()
    page.get_by_role("link", name="3 pictures near 50").wait_for()
    box = page.locator(".map").bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.get_by_text("3 pictures", exact=True).wait_for()
    assert page.url.count("latitude__gte=") == 1 and "latitude__gte=1&" not in page.url
    page.get_by_role("gridcell", name="n5").wait_for()


def test_the_map_is_closed_by_escape_and_reached_by_keys(page: Page) -> None:
    page.goto("./")
    button = page.get_by_role("button", name="Map")
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Map").get_by_role("link").first.wait_for()
    page.keyboard.press("Tab")
    assert "pictures near" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Map").wait_for(state="hidden")
    expect(page.locator("#map")).to_be_focused()


def test_where_positions_are_not_told_there_is_no_map(browser: Browser, tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        site.put("one", pictures.jpeg(gps=True))
        with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
            page.goto("./")
            page.locator("#facets section").first.wait_for()
            assert page.get_by_role("button", name="Map").is_hidden()


#: positions → the box of a map twice as wide as high
BOXES = {
    ((51.5, 7.0),): [51.495, 51.505, 7.0],
    ((-90, 0), (90, 0)): [-90, 90, 0],
    ((0, -180), (0, 180)): [-90, 90, 0],
    ((80, 0), (89, 0)): [78.3, 90, 0],
}


def test_a_map_shows_all_positions_and_nothing_beyond_the_world(page: Page) -> None:
    page.goto("./")
    script = """async (all) => {
        const { boxAround, clustersOf } = await import('/static/page/positions.js');
        return all.map((places) => {
            const [latitudes, longitudes] = [places.map(([each]) => each), places.map(([, each]) => each)];
            const box = boxAround(latitudes, longitudes, 2);
            const count = clustersOf(latitudes, longitudes, box, 30, 15).reduce((sum, each) => sum + each.count, 0);
            return [box.south, box.north, (box.west + box.east) / 2, box.west, box.east, count];
        });
    }"""
    for places, [south, north, middle, west, east, count] in zip(
        BOXES, page.evaluate(script, list(BOXES)), strict=True
    ):
        assert [south, north, middle] == pytest.approx(BOXES[places]), places
        assert -180 <= west < east <= 180 and count == len(places)
