"""The page in Chromium: searching, and one picture with its record and its URLs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration
from image_repo.model.record import Record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(
        tmp_path_factory.mktemp("page"), AccessConfiguration(anonymous="write", secret="a secret of the tests")
    ) as site:
        yield site


@pytest.fixture
def page(page: Page, site: Site) -> Page:
    """A page over three animals, as they were at the beginning."""
    for number, species in enumerate(("fox", "fox", "badger"), 1):
        site.put(f"cams/night {number}", pictures.jpeg(pictures.photo(900, 600)))
        body = json.dumps({"species": species, "stars": number}).encode()
        site.client.put(f"/images/cams/night%20{number}", body, Content_Type="application/json")
    return page


def _search(page: Page, text: str) -> None:
    page.get_by_role("searchbox").fill(text)
    page.get_by_role("searchbox").press("Enter")


def test_a_search_is_a_filter_in_the_address(page: Page) -> None:
    page.goto("./")
    _search(page, "species=fox")
    page.get_by_text("2 pictures").wait_for()
    assert page.url.endswith("/?species=fox")
    _search(page, "stars>=2")
    page.get_by_text("1 picture", exact=True).wait_for()
    assert page.url.endswith("/?species=fox&stars__gte=2")
    page.reload()
    page.get_by_role("gridcell", name="night 2").wait_for()
    page.get_by_role("link", name="Remove species = fox").click()
    page.get_by_text("2 pictures").wait_for()


def test_words_find_names_and_nothing_found_is_told(page: Page) -> None:
    page.goto("./")
    _search(page, "badger")
    page.get_by_text("1 picture", exact=True).wait_for()
    _search(page, "unicorn")
    page.get_by_text("No picture matches.").wait_for()


@pytest.mark.parametrize(
    ("text", "mistake"), [("width>=abc", "width"), ("specis=fox", "Did you mean species?")], ids=["value", "key"]
)
def test_a_mistake_is_an_alert(page: Page, text: str, mistake: str) -> None:
    page.goto("./")
    _search(page, text)
    page.get_by_role("alert").get_by_text(mistake).wait_for()


def test_facets_count_values_and_filter_by_them(page: Page) -> None:
    page.goto("./")
    facets = page.get_by_role("complementary", name="Folders and filters")
    facets.get_by_role("link", name="badger").click()
    page.get_by_text("1 picture", exact=True).wait_for()
    assert page.url.endswith("/?species=badger")


def test_no_field_of_the_record_is_taken_for_data(page: Page) -> None:
    page.goto("./")
    facets = page.get_by_role("complementary", name="Folders and filters")
    facets.get_by_role("link", name="badger").wait_for()
    script = "import('/static/page/address.js').then(({ RECORD }) => RECORD.source)"
    known = re.compile(page.evaluate(script))
    hidden = {"key", "intent"}
    record = {each.name for each in dataclasses.fields(Record)} - hidden
    assert [name for name in sorted(record) if not known.match(name)] == []
    assert "dhash" not in facets.inner_text()


def test_a_picture_opens_by_enter_and_escape_leads_back_to_it(page: Page) -> None:
    page.goto("./")
    page.get_by_role("gridcell").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="night 2")
    dialog.get_by_text("2 of 3").wait_for()
    assert page.url.endswith("?picture=cams/night+2")
    with page.expect_response(lambda response: "/iiif/3/cams%2Fnight%201/" in response.url and response.ok):
        page.keyboard.press("ArrowLeft")
    page.get_by_role("dialog", name="night 1").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.wait_for_url("**/")
    expect(page.get_by_role("gridcell", name="night 1")).to_be_focused()


def test_the_address_of_a_picture_shows_it_again(page: Page) -> None:
    page.goto("./?species=fox&picture=cams/night+2")
    page.get_by_role("dialog", name="night 2").get_by_text("900 × 600").wait_for()


def test_data_is_edited_as_json_and_mistakes_are_told(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+1")
    page.get_by_role("button", name="Edit").click()
    box = page.get_by_role("textbox", name="Data")
    box.fill('{"species": "wolf", }')
    page.get_by_role("alert").get_by_text("This is no JSON").wait_for()
    box.fill('{"species": "wolf", "seen": [1, 2]}')
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    assert site.client.get("/images/cams/night%201?meta=True").json()["data"] == {"species": "wolf", "seen": [1, 2]}


def test_data_is_edited_as_fields(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+1")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("stars").fill("5")
    page.get_by_role("textbox", name="New key").fill("sex")
    page.get_by_role("textbox", name="Its value").fill("female")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()
    data = site.client.get("/images/cams/night%201?meta=True").json()["data"]
    assert data == {"species": "fox", "stars": 5, "sex": "female"}


def test_a_change_by_somebody_else_is_not_overwritten_unseen(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+1")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Data").wait_for()
    site.client.put("/images/cams/night%201", b'{"species": "lynx"}', Content_Type="application/json")
    page.get_by_role("textbox", name="Data").fill('{"species": "wolf"}')
    page.get_by_role("button", name="Save").click()
    page.get_by_role("alert").get_by_text("lynx").wait_for()
    assert site.client.get("/images/cams/night%201?meta=True").json()["data"] == {"species": "lynx"}
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Saved.").wait_for()


def test_a_key_labels_and_goes_on_and_another_repeats_it(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+1")
    page.get_by_role("dialog", name="night 1").get_by_text("1 of 3").wait_for()
    page.keyboard.press("1")
    page.get_by_label("Label of key 1").fill("species=hare")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="night 2").wait_for()
    page.keyboard.press("r")
    page.get_by_role("dialog", name="night 3").wait_for()
    species = [site.client.get(f"/images/cams/night%20{n}?meta=True").json()["data"]["species"] for n in (1, 2, 3)]
    assert species == ["hare", "hare", "badger"]


def test_a_deleted_picture_comes_back_by_undo(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+2")
    page.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog", name="Delete night 2?")
    question.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    page.get_by_text("2 pictures").wait_for()
    assert site.client.get("/images/cams/night%202").status == 404
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("3 pictures").wait_for()
    assert site.client.get("/images/cams/night%202").status == 200


def test_a_picture_whose_name_ends_as_pictures_do_is_the_one_that_is_shown_and_deleted(page: Page, site: Site) -> None:
    for name, size in (("ends/x", (60, 40)), ("ends/x.tif", (40, 60))):
        site.put(name, pictures.jpeg(pictures.photo(*size)))
    page.goto("./?folder=ends&picture=ends/x.tif")
    page.get_by_text("40 × 60").wait_for()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog", name="Delete x.tif?").get_by_role("button", name="Delete").click()
    page.get_by_text("1 picture", exact=True).wait_for()
    assert site.client.get("/images/ends/x?meta=True").json()["name"] == "ends/x"
    assert site.client.get("/images/ends/x.tif.jpg").status == 404
    site.client.delete("/images/ends/x")


def test_a_url_is_made_with_its_cost_and_works(page: Page, site: Site) -> None:
    page.goto("./?picture=cams/night+1")
    page.get_by_role("button", name="URL").click()
    panel = page.get_by_role("dialog", name="URL of night 1")
    panel.get_by_label("Width").fill("300")
    panel.get_by_label("Height").fill("300")
    panel.get_by_label("Fit").select_option("cover")
    field = panel.get_by_role("textbox", name="URL", exact=True)
    expect(field).to_have_value(re.compile("ysize=300&fit=cover"))
    url = field.input_value()
    assert site.client.get(url.partition(str(site.client.port))[2]).image().size == (300, 300)
    assert "srcset" in panel.get_by_role("textbox", name="HTML").input_value()
    panel.get_by_text(" ms").wait_for()


def test_a_caller_with_a_name_shares_a_picture(browser: Browser, page: Page, site: Site) -> None:
    key = site.repo.authenticator.keys.add(new_key("someone", "writer"))
    root, headers = f"http://127.0.0.1:{site.client.port}/", {"Authorization": f"Bearer {key}"}
    page.goto("./?picture=cams/night+1")
    page.get_by_role("button", name="URL").click()
    expect(page.get_by_label("Link").get_by_role("option")).to_have_text(["lasting", "temporary"])
    with open_page(browser, root, extra_http_headers=headers) as page:
        page.goto("./?picture=cams/night+1")
        page.get_by_role("button", name="URL").click()
        page.get_by_label("Link").select_option("share")
        field = page.get_by_role("textbox", name="URL", exact=True)
        expect(field).to_have_value(re.compile("share="))
        assert site.client.get(field.input_value().partition(str(site.client.port))[2]).status == 200


def test_the_keys_are_listed(page: Page) -> None:
    page.goto("./")
    page.get_by_role("gridcell").first.focus()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").get_by_text("repeat the last label").wait_for()
