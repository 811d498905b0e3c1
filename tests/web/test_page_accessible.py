"""The page in Chromium, as people with a screen reader or a keyboard alone have it: axe-core is the judge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, node_file, open_page

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("page"), AccessConfiguration()) as site:
        for number in range(8):
            taken = f"202{number // 2}:05:01 21:00:00"
            site.put(f"cams/night/n{number}", pictures.jpeg(pictures.photo(300, 200), taken=taken))
            body = json.dumps({"species": "fox", "stars": 3, "lat": number, "lon": 7}).encode()
            site.client.put(f"/images/cams/night/n{number}", body, Content_Type="application/json")
        yield site


def _select(page: Page) -> None:
    page.get_by_role("checkbox", name="Select n1").check()


def _click(name: str, *more: str) -> Callable[[Page], None]:
    def click(page: Page) -> None:
        for each in (name, *more):
            page.get_by_role("button", name=each, exact=True).click()

    return click


def _edit_many(page: Page) -> None:
    _select(page)
    page.keyboard.press("e")
    page.get_by_role("dialog").get_by_role("textbox", name="stars").wait_for()


#: view → address and what is done there
VIEWS = {
    "grid": ("./?folder=cams&species=fox", lambda _: None),
    "selection": ("./", _select),
    "mistake": ("./?specis=fox", lambda _: None),
    "nothing": ("./?text=unicorn", lambda page: page.get_by_text("No picture matches.").wait_for()),
    "picture": ("./?picture=cams/night/n2", lambda page: page.get_by_text("300 × 200").wait_for()),
    "editor": ("./?picture=cams/night/n2", _click("Edit")),
    "url": ("./?picture=cams/night/n2", _click("URL")),
    "deletion": ("./?picture=cams/night/n2", _click("Delete")),
    "upload": ("./", _click("Upload")),
    "many": ("./", _edit_many),
    "export": ("./", _click("Export")),
    "duplicates": ("./", _click("Duplicates")),
    "stacks": ("./?stack=999999", lambda page: page.get_by_label("Stacks").wait_for()),
    "map": ("./", lambda page: (_click("Map")(page), page.locator(".place").first.wait_for())),
    "bin": ("./", _click("Bin")),
    "server": ("./", _click("Server")),
    "keys": ("./", _click("Keys")),
}


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, str]]]:
    """A server with an audit log, and the credentials of its administrator."""
    folder = tmp_path_factory.mktemp("admin")
    with running_site(folder, AccessConfiguration(anonymous="none", audit=str(folder / "audit.jsonl"))) as site:
        credentials = {"Authorization": f"Bearer {site.repo.authenticator.keys.add(new_key('boss', 'admin'))}"}
        site.client.put("/images/one", pictures.jpeg(), **credentials)
        site.client.put("/images/two", pictures.jpeg())
        yield site, credentials


def _open_server(page: Page) -> None:
    page.get_by_role("button", name="Server").click()
    page.get_by_role("heading", name="Audit").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, site: Site, scheme: str) -> None:
    assert not _violations(browser, site, scheme, VIEWS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_keys_and_audit(
    browser: Browser, admin: tuple[Site, dict[str, str]], scheme: str
) -> None:
    site, credentials = admin
    assert not _violations(browser, site, scheme, {"server": ("./", _open_server)}, extra_http_headers=credentials)


def _violations(
    browser: Browser, site: Site, scheme: str, views: Mapping[str, tuple[str, object]], **more: object
) -> dict[str, object]:
    found = {}
    root = f"http://127.0.0.1:{site.client.port}/"
    settings = {"color_scheme": scheme, "reduced_motion": "reduce", "bypass_csp": True, **more}
    with open_page(browser, root, **settings) as page:
        for view, (address, act) in views.items():
            page.goto(address)
            if view != "nothing":
                page.locator("[role=gridcell], .empty p").first.wait_for(state="attached")
            act(page)  # type: ignore[operator]
            page.add_script_tag(path=node_file("axe-core/axe.min.js"))
            violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            serious = [each for each in violations if each["impact"] in ("serious", "critical")]
            if serious:
                found[view] = [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]
    return found


def test_a_view_has_one_heading_one_main_a_language_and_a_title(browser: Browser, site: Site) -> None:
    with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
        page.goto("./?folder=cams/night")
        page.get_by_role("gridcell").first.wait_for()
        assert page.get_by_role("heading", level=1).all_inner_texts() == ["night"]
        assert page.get_by_role("main").count() == 1
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.title() == "night · image_repo"


def test_the_grid_is_walked_by_keys(browser: Browser, site: Site) -> None:
    with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
        page.goto("./")
        page.get_by_role("gridcell").first.focus()
        walked = []
        for key in ("End", "ArrowLeft", "Home", "ArrowRight", "ArrowDown", "ArrowUp"):
            page.keyboard.press(key)
            walked.append(page.evaluate("document.activeElement.ariaLabel"))
        assert walked[:4] == ["n7", "n6", "n0", "n1"]
        assert walked[4] not in ("n0", "n1") and walked[5] == "n1"


@pytest.mark.parametrize("width", [390, 3840])
def test_nothing_is_wider_than_the_window(browser: Browser, site: Site, width: int) -> None:
    root = f"http://127.0.0.1:{site.client.port}/"
    with open_page(browser, root, viewport={"width": width, "height": 844}) as page:
        for address in ("./?folder=cams", "./?picture=cams/night/n2"):
            page.goto(address)
            page.get_by_role("gridcell").first.wait_for(state="attached")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
