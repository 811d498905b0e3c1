"""The page in Chromium, as administrators have it: keys and the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = needs_browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    access = AccessConfiguration(anonymous="read", audit=str(tmp_path / "audit.jsonl"))
    with running_site(tmp_path, access) as site:
        yield site


def _credentials(site: Site, role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.repo.authenticator.keys.add(new_key(role, role))}"}


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    root, headers = f"http://127.0.0.1:{site.client.port}/", _credentials(site, "admin")
    with open_page(browser, root, extra_http_headers=headers) as page:
        yield page


def _open_server(page: Page) -> Locator:
    page.goto("./")
    page.get_by_role("button", name="Server").click()
    page.get_by_role("heading", name="Audit").wait_for()
    return page.get_by_role("dialog", name="Server")


def test_a_key_is_made_shown_once_used_and_revoked(page: Page, site: Site) -> None:
    dialog = _open_server(page)
    dialog.get_by_role("textbox", name="Name").fill("tower")
    dialog.get_by_role("combobox", name="Role").select_option("writer")
    dialog.get_by_role("textbox", name="Folder").fill("cams")
    dialog.get_by_label("Expires").fill("2099-01-31")
    dialog.get_by_role("button", name="Make a key").click()
    key = dialog.get_by_role("textbox", name="Key", exact=True).input_value()
    dialog.get_by_text("writer, below cams/").wait_for()
    credentials = {"Authorization": f"Bearer {key}"}
    assert site.client.put("/images/cams/a", pictures.jpeg(), **credentials).status == 201
    assert site.client.put("/images/b", pictures.jpeg(), **credentials).status == 403
    dialog = _open_server(page)
    assert key not in page.content()
    dialog.get_by_role("button", name="Revoke tower").click()
    page.get_by_role("dialog", name="Revoke tower?").get_by_role("button", name="Revoke").click()
    page.get_by_text("tower is revoked.").wait_for()
    dialog.get_by_role("button", name="Revoke tower").wait_for(state="hidden")
    assert site.client.put("/images/cams/b", pictures.jpeg(), **credentials).status == 401


def test_a_mistake_in_a_key_is_told(page: Page) -> None:
    dialog = _open_server(page)
    dialog.get_by_role("textbox", name="Name").fill("no spaces")
    dialog.get_by_role("button", name="Make a key").click()
    dialog.get_by_role("alert").get_by_text("Expected a name of letters").wait_for()


def test_the_audit_log_is_read_with_the_newest_first(page: Page, site: Site) -> None:
    site.client.put("/images/refused", pictures.jpeg())
    dialog = _open_server(page)
    first = dialog.get_by_role("row").first
    first.wait_for()
    assert first.get_by_role("cell").all_inner_texts()[1:] == ["anybody", "write", "/images/refused", "401"]
    dialog.get_by_text("audit.jsonl, on the node that answers.").wait_for()


@pytest.mark.parametrize(
    ("target", "note"), [("log", "in the log of the server"), (None, "Nothing is written down")], ids=["log", "off"]
)
def test_where_there_is_no_file_the_page_says_where_the_lines_are(
    browser: Browser, tmp_path: Path, target: str | None, note: str
) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read", audit=target)) as site:
        root, headers = f"http://127.0.0.1:{site.client.port}/", _credentials(site, "admin")
        with open_page(browser, root, extra_http_headers=headers) as page:
            _open_server(page).get_by_text(note).wait_for()


def test_writers_are_not_offered_the_server(browser: Browser, site: Site) -> None:
    root, headers = f"http://127.0.0.1:{site.client.port}/", _credentials(site, "writer")
    with open_page(browser, root, extra_http_headers=headers) as page:
        page.goto("./")
        page.get_by_role("button", name="Duplicates").wait_for()
        assert page.get_by_role("button", name="Server").is_hidden()
