"""``/docs`` in Chromium: Swagger UI over the document of the running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page

from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("docs"), AccessConfiguration()) as site:
        site.put("lake", pictures.jpeg(pictures.photo(300, 200)))
        yield site


def test_an_operation_can_be_tried(browser: Browser, site: Site) -> None:
    root = f"http://127.0.0.1:{site.client.port}"
    with open_page(browser, root) as page:
        hosts: set[str] = set()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto("/docs")
        operation = page.locator("#operations-images-getImagesByName")
        operation.get_by_role("button").first.click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_placeholder("xsize").fill("90")
        operation.get_by_role("button", name="Execute").click()
        shown = operation.locator(".response-col_description img").first
        shown.wait_for()
        assert operation.locator(".request-url pre").first.inner_text() == f"{root}/images/lake?xsize=90"
        assert page.evaluate("image => image.naturalWidth", shown.element_handle()) == 90
        assert hosts <= {f"127.0.0.1:{site.client.port}", ""}


def test_it_is_read_without_scripts_too(browser: Browser, site: Site) -> None:
    with open_page(browser, f"http://127.0.0.1:{site.client.port}", java_script_enabled=False) as page:
        page.goto("/docs")
        assert page.get_by_role("heading", name="GET /images/{name}").is_visible()
