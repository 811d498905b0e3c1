"""The page in Chromium: many pictures at once."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser

from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Page

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = needs_browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Six pictures, every second of a fox."""
    with running_site(tmp_path, AccessConfiguration()) as site:
        for number in range(6):
            site.put(f"cams/n{number}", pictures.jpeg(pictures.photo(300, 200)))
            body = json.dumps({"species": ("fox", "badger")[number % 2]}).encode()
            site.client.put(f"/images/cams/n{number}", body, Content_Type="application/json")
        yield site


@pytest.fixture
def page(page: Page) -> Page:
    page.goto("./")
    page.get_by_role("gridcell").first.wait_for()
    return page


def _species(site: Site) -> list[str]:
    return [site.client.get(f"/images/cams/n{n}?meta=True").json()["data"]["species"] for n in range(6)]


def test_clicks_and_ranges_select(page: Page) -> None:
    page.get_by_role("checkbox", name="Select n1").check()
    page.get_by_text("1 selected").wait_for()
    page.get_by_role("gridcell", name="n4").click(modifiers=["Shift"])
    page.get_by_text("4 selected").wait_for()
    page.get_by_role("gridcell", name="n2").click()
    page.get_by_text("3 selected").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("toolbar").wait_for(state="hidden")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("2 selected").wait_for()


def test_data_of_all_selected_is_edited_beside_a_tally(page: Page, site: Site) -> None:
    page.get_by_role("gridcell").first.focus()
    for _ in range(3):
        page.keyboard.press("x")
        page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog", name="Edit 3 pictures")
    dialog.get_by_text("fox (2), badger (1)").wait_for()
    dialog.get_by_role("textbox", name="species").fill("lynx")
    dialog.get_by_role("button", name="Save").click()
    page.get_by_text("3 pictures changed.").wait_for()
    assert _species(site) == ["lynx", "lynx", "lynx", "badger", "fox", "badger"]


def test_all_that_a_query_finds_are_edited_by_that_query(page: Page, site: Site) -> None:
    page.goto("./?species=fox")
    page.get_by_text("3 pictures").wait_for()
    page.get_by_role("gridcell").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_text("3 selected").wait_for()
    page.keyboard.press("e")
    dialog = page.get_by_role("dialog", name="Edit 3 pictures")
    dialog.get_by_role("textbox", name="Data").fill('{"species": "wolf"}')
    with page.expect_request(lambda request: request.method == "PATCH") as request:
        dialog.get_by_role("button", name="Save").click()
    assert request.value.url.endswith("/images?species=fox")
    page.get_by_text("No picture matches.").wait_for()
    assert _species(site) == ["wolf", "badger"] * 3


def test_selected_pictures_are_deleted_after_a_question_with_their_count_and_come_back(page: Page, site: Site) -> None:
    page.get_by_role("checkbox", name="Select n1").check()
    page.get_by_role("checkbox", name="Select n3").check()
    page.keyboard.press("Delete")
    page.get_by_role("dialog", name="Delete 2 pictures?").get_by_role("button", name="Cancel").click()
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    page.get_by_role("dialog", name="Delete 2 pictures?").get_by_role("button", name="Delete").click()
    page.get_by_text("4 pictures").wait_for()
    assert site.client.get("/images").json()["count"] == 4
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("6 pictures").wait_for()
    assert _species(site) == ["fox", "badger"] * 3


def test_selected_pictures_are_downloaded_as_a_zip(page: Page) -> None:
    page.get_by_role("checkbox", name="Select n0").check()
    page.get_by_role("checkbox", name="Select n5").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    names = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())).namelist()
    assert {"cams/n0.jpg", "cams/n5.jpg", "metadata.jsonl"} == {*names}


def test_the_bin_lists_what_was_deleted_and_brings_it_back(page: Page, site: Site) -> None:
    site.client.delete("/images/cams/n3")
    page.get_by_role("button", name="Bin").click()
    page.get_by_role("dialog", name="Bin").get_by_role("button", name="Restore cams/n3").click()
    page.get_by_text("cams/n3 is restored.").wait_for()
    page.get_by_text("6 pictures").wait_for()
    assert site.client.get("/images/cams/n3").status == 200


def test_those_who_run_the_server_see_its_state(page: Page) -> None:
    page.get_by_role("button", name="Server").click()
    dialog = page.get_by_role("dialog", name="Server")
    dialog.get_by_text("Answered from memory").wait_for()
    expect(dialog.get_by_role("definition").filter(has_text="ok")).to_have_count(4)


def test_the_same_bytes_under_several_names_are_found(page: Page, site: Site) -> None:
    once, twice = pictures.jpeg(pictures.photo(310, 200)), pictures.jpeg(pictures.photo(320, 200))
    for name, body in {"a/one": once, "b/first": twice, "c/second": twice}.items():
        site.put(name, body)
    page.get_by_role("button", name="Duplicates").click()
    page.get_by_role("dialog", name="Duplicates").get_by_role("link", name="2 pictures").click()
    page.get_by_role("heading", name="All pictures").wait_for()
    page.get_by_role("gridcell", name="second").wait_for()
    expect(page.get_by_role("gridcell")).to_have_count(2)


def test_what_looks_nearly_the_same_stands_side_by_side(page: Page, site: Site) -> None:
    one = pictures.photo(400, 300, seed=9)
    for name, body in {"x/large,5": pictures.jpeg(one), "x/small": pictures.jpeg(one.resize((200, 150)))}.items():
        site.put(name, body)
    page.goto("./?folder=x")
    page.get_by_role("button", name="Duplicates").click()
    dialog = page.get_by_role("dialog", name="Duplicates")
    dialog.get_by_role("heading", name="Nearly the same: 1 group").wait_for()
    assert dialog.get_by_text("The same bytes").count() == 0
    dialog.get_by_role("link", name="large,5 400 × 300").wait_for()
    dialog.get_by_role("link", name="small 200 × 150").wait_for()
    dialog.get_by_role("link", name="2 pictures").click()
    page.get_by_role("link", name="Remove near x/large,5").wait_for()
    page.get_by_text("2 pictures", exact=True).wait_for()


def test_a_picture_leads_to_those_that_are_similar(page: Page) -> None:
    page.goto("./?picture=cams/n3")
    page.get_by_role("dialog", name="n3").get_by_role("link", name="Similar").click()
    page.get_by_role("dialog", name="n3").wait_for(state="hidden")
    page.get_by_text("6 pictures").wait_for()
    assert page.url.endswith("/?near=cams/n3")


#: of pictures, in order; each group is what is within six bits of its first
HASHES = {
    "0000000000000000": 0,
    "000000000000003f": 0,
    "000000000000007f": 1,
    "0003000300030000": 0,
    "8000000000000000": 0,
    "ffffffffffffffff": 2,
    "fffffffffffff0f0": None,
    "no hash": None,
}


def test_near_duplicates_are_grouped_by_the_first_that_is_near(page: Page) -> None:
    script = """async (hashes) => {
        const { NearGroups } = await import('/static/page/near.js');
        const near = new NearGroups();
        hashes.forEach((hash, index) => near.add(hash, index));
        return near.groups;
    }"""
    groups = page.evaluate(script, list(HASHES))
    expected = [[at for at, group in enumerate(HASHES.values()) if group == number] for number in range(3)]
    assert groups == [*expected, [6]]
