"""The page in Chromium: uploads of files and folders, what is there already, and what fails."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page
from PIL import Image
from servers.faults import FaultProxy

from image_repo.config import AccessConfiguration, UploadsConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running_site(tmp_path, AccessConfiguration()) as site:
        yield site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A camera's folder: two pictures in a folder of their own, and what others leave behind."""
    folder = tmp_path / "DCIM"
    (folder / "100").mkdir(parents=True)
    for number in (1, 2):
        (folder / "100" / f"IMG_{number}.JPG").write_bytes(pictures.jpeg(pictures.photo(300, 200 + number)))
    (folder / ".thumbnails").write_bytes(b"hidden")
    return folder


def test_a_chosen_folder_gives_the_names(page: Page, folder: Path) -> None:
    page.goto("./?folder=cams")
    page.get_by_role("button", name="Upload").click()
    page.locator("input[webkitdirectory]").set_input_files(folder)
    page.get_by_text("2 uploaded").wait_for()
    page.get_by_text("2 pictures").wait_for()
    page.get_by_role("link", name="DCIM").click()
    page.get_by_role("gridcell", name="IMG_1").wait_for()
    assert page.url.endswith("?folder=cams/DCIM")


def test_the_same_bytes_are_not_sent_again(page: Page, site: Site, folder: Path) -> None:
    site.put("IMG_1", (folder / "100/IMG_1.JPG").read_bytes())
    page.goto("./")
    page.get_by_role("button", name="Upload").click()
    page.locator("input[type=file]").first.set_input_files([folder / "100/IMG_1.JPG", folder / "100/IMG_2.JPG"])
    page.get_by_text("1 uploaded · 1 already there").wait_for()


def test_dropped_files_get_the_data_for_all(page: Page, site: Site) -> None:
    page.goto("./")
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("Data for all").click()
    page.get_by_label("JSON that each picture gets").fill('{"site": "plot 12"}')
    transfer = page.evaluate_handle(
        """(bytes) => { const drop = new DataTransfer();
        drop.items.add(new File([new Uint8Array(bytes)], 'dropped.jpg', {type: 'image/jpeg'})); return drop; }""",
        list(pictures.jpeg()),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.get_by_text("1 uploaded").wait_for()
    assert site.client.get("/images/dropped?meta=True").json()["data"] == {"site": "plot 12"}


def test_what_is_refused_is_listed_with_its_reason_and_can_be_tried_again(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    page.goto("./")
    page.get_by_role("button", name="Upload").click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "notes.txt")
    item = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    page.get_by_text("1 failed").wait_for()
    assert "notes.txt" in item.inner_text() and len(item.inner_text()) > len("notes.txt") + 20
    with page.expect_response("**/images/notes.txt"):
        page.get_by_role("button", name="Retry").click()


def test_uploads_wait_for_a_server_that_cannot_be_reached(browser: Browser, site: Site, folder: Path) -> None:
    with FaultProxy(site.client.port) as proxy, open_page(browser, f"http://127.0.0.1:{proxy.port}/") as page:
        page.goto("./")
        page.get_by_role("button", name="Upload").click()
        proxy.fail("refuse")
        page.locator("input[webkitdirectory]").set_input_files(folder)
        page.get_by_text("The server cannot be reached; 2 uploads wait.").wait_for()
        proxy.heal()
        page.get_by_text("2 uploaded").wait_for()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A picture that is large enough to go in parts."""
    file = tmp_path / "scan.bmp"
    Image.linear_gradient("L").resize((2000, 1500)).convert("RGB").save(file)
    return file


def offsets(page: Page) -> list[int]:
    """Return the list of the offsets of the parts that the page sends from now on."""
    sent: list[int] = []
    page.on("request", lambda asked: asked.method == "PATCH" and sent.append(int(asked.headers["upload-offset"])))
    return sent


def test_a_large_file_goes_on_where_its_connection_broke(browser: Browser, site: Site, scan: Path) -> None:
    with FaultProxy(site.client.port) as proxy, open_page(browser, f"http://127.0.0.1:{proxy.port}/") as page:
        sent = offsets(page)
        page.goto("./")
        page.get_by_role("button", name="Upload").click()
        page.get_by_text("Data for all").click()
        page.get_by_label("JSON that each picture gets").fill('{"site": "Aß"}')
        proxy.fail("cut-upload", after=3_000_000, match=b"PATCH", times=1)
        page.locator("input[type=file]").first.set_input_files(scan)
        page.get_by_text("1 uploaded", exact=True).wait_for()
        assert proxy.count("POST /uploads") == 1
        assert len(sent) == 2 and sent[0] == 0 < sent[1] <= 3_000_000
    record = site.client.get("/images/scan?meta=True").json()
    assert (record["sha256"], record["filename"]) == (hashlib.sha256(scan.read_bytes()).hexdigest(), "scan.bmp")
    assert record["data"] == {"site": "Aß"}


def test_a_large_file_goes_on_when_it_is_dropped_again_after_a_reload(browser: Browser, site: Site, scan: Path) -> None:
    with FaultProxy(site.client.port) as proxy, open_page(browser, f"http://127.0.0.1:{proxy.port}/") as page:
        page.on("dialog", lambda dialog: dialog.accept())
        sent = offsets(page)
        page.goto("./")
        page.get_by_role("button", name="Upload").click()
        proxy.fail("cut-upload", after=3_000_000, match=b"PATCH")
        page.locator("input[type=file]").first.set_input_files(scan)
        page.get_by_text("The server cannot be reached; 1 upload waits.").wait_for()
        page.reload()
        proxy.heal()
        page.get_by_role("button", name="Upload").click()
        page.locator("input[type=file]").first.set_input_files(scan)
        page.get_by_text("1 uploaded", exact=True).wait_for()
        assert proxy.count("POST /uploads") == 1
        assert sent[-1] > 0
        assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('upload in parts'))") == []


def test_a_large_file_goes_as_a_whole_where_there_is_no_room_for_parts(
    browser: Browser, tmp_path: Path, scan: Path
) -> None:
    with (
        running_site(tmp_path, AccessConfiguration(), uploads=UploadsConfiguration(max_size=0)) as site,
        open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page,
    ):
        sent = offsets(page)
        page.goto("./")
        page.get_by_role("button", name="Upload").click()
        page.locator("input[type=file]").first.set_input_files(scan)
        page.get_by_text("1 uploaded", exact=True).wait_for()
        assert not sent
        assert site.client.get("/images/scan").status == 200


def test_a_large_file_that_is_no_picture_is_refused_with_its_reason(page: Page, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"no picture" * 1_000_000)
    page.goto("./")
    page.get_by_role("button", name="Upload").click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "video.mp4")
    page.get_by_text("1 failed").wait_for()
    item = page.get_by_role("list", name="Uploads").get_by_role("listitem")
    assert "video.mp4" in item.inner_text() and len(item.inner_text()) > len("video.mp4") + 20


@pytest.mark.parametrize("size", [0, 55, 56, 64, 5_000_000])
def test_the_digest_is_sha256(page: Page, size: int) -> None:
    body = os.urandom(size)
    page.goto("./")
    page.route("**/random", lambda route: route.fulfill(body=body))
    digest = page.evaluate("""async () => {
        const { digestOf } = await import('./static/page/sha256.js');
        return digestOf(await (await fetch('./random')).blob()); }""")
    assert digest == hashlib.sha256(body).hexdigest()
