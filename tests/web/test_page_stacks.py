"""The page in Chromium: sequences of pictures as stacks."""

from __future__ import annotations

from collections.abc import Iterator
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
#: name → when it was taken
TAKEN = {
    "a/n0": "2024:05:01 06:00:00",
    "a/n1": "2024:05:01 06:00:20",
    "a/n2": "2024:05:01 06:00:45",
    "a/n3": "2024:05:01 06:10:00",
    "b/n4": "2024:05:01 06:10:10",
    "b/n5": None,
    "b/n6": None,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("stacks"), AccessConfiguration()) as site:
        for number, (name, taken) in enumerate(TAKEN.items()):
            site.put(name, pictures.jpeg(pictures.photo(300 + number, 200), taken=taken))
        yield site


def _labels(page: Page) -> list[str]:
    page.get_by_role("gridcell").first.wait_for()
    return [str(cell.get_attribute("aria-label")) for cell in page.get_by_role("gridcell").all()]


STACK = "n0, stack of 3 pictures"


def test_pictures_of_one_folder_taken_soon_after_one_another_are_one_cell(page: Page) -> None:
    page.goto("./")
    page.get_by_label("Stacks").select_option("30 s")
    page.get_by_text("7 pictures, 1 stack", exact=True).wait_for()
    assert page.url.endswith("/?stack=30")
    assert _labels(page) == [STACK, "n3", "n4", "n5", "n6"]
    page.reload()
    assert _labels(page) == [STACK, "n3", "n4", "n5", "n6"]


def test_a_stack_is_unfolded_by_a_click_and_folded_by_its_button(page: Page) -> None:
    page.goto("./?stack=30")
    page.get_by_role("gridcell", name=STACK).click()
    page.get_by_role("gridcell", name="n2").wait_for()
    expect(page.get_by_role("gridcell", name="n0", exact=True)).to_be_focused()
    page.get_by_role("button", name="Fold 3 pictures").click()
    page.get_by_role("gridcell", name=STACK).wait_for()
    expect(page.get_by_role("gridcell", name=STACK)).to_be_focused()


def test_a_stack_is_walked_by_keys(page: Page) -> None:
    page.goto("./?stack=30")
    page.get_by_role("gridcell", name=STACK).focus()
    walked = []
    for key in ("Enter", "ArrowRight", "s", "ArrowRight"):
        page.keyboard.press(key)
        walked.append(page.evaluate("document.activeElement.ariaLabel"))
    assert walked == ["n0", "n1", STACK, "n3"]


def test_a_picture_of_a_stack_leads_back_to_its_cell(page: Page) -> None:
    page.goto("./?stack=30&picture=a/n2")
    dialog = page.get_by_role("dialog", name="n2")
    dialog.get_by_text("3 of 7").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_role("dialog", name="n3").get_by_text("4 of 7").wait_for()
    page.keyboard.press("ArrowLeft")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    expect(page.get_by_role("gridcell", name=STACK)).to_be_focused()


def test_all_pictures_of_a_stack_are_selected_and_deleted(page: Page, site: Site) -> None:
    page.goto("./?stack=30")
    page.get_by_role("checkbox", name="Select n0").check()
    page.get_by_text("3 selected").wait_for()
    page.get_by_role("checkbox", name="Select n0").uncheck()
    page.get_by_role("toolbar").wait_for(state="hidden")
    page.get_by_role("checkbox", name="Select n0").check()
    page.keyboard.press("Delete")
    page.get_by_role("dialog", name="Delete 3 pictures?").get_by_role("button", name="Delete").click()
    page.get_by_text("4 pictures", exact=True).wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("7 pictures, 1 stack", exact=True).wait_for()


def test_where_no_times_are_known_no_stacks_are_offered(page: Page) -> None:
    page.goto("./?name__gte=b/n5")
    page.get_by_text("2 pictures").wait_for()
    assert page.get_by_label("Stacks").is_hidden()
