"""Login in a real browser: pages, <img>, uploads and pages of other sites, and the flow of IIIF viewers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, open_page
from servers.launch import running_oidc_provider

from image_repo.config import AccessConfiguration, OidcConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_browser
#: what an IIIF viewer does (IIIF Authorization Flow 2.0, section 7): a token by a frame, then a probe with it
_FLOW = """async (info) => {
  const [probe] = (await (await fetch(info)).json()).service;
  const [external] = probe.service;
  const message = await new Promise((resolve) => {
    window.addEventListener('message', (event) => resolve({ from: event.origin, ...event.data }), { once: true });
    const frame = document.createElement('iframe');
    frame.src = `${external.service[0].id}?messageId=m1&origin=${encodeURIComponent(location.origin)}`;
    document.body.append(frame);
  });
  const headers = message.accessToken ? { Authorization: `Bearer ${message.accessToken}` } : {};
  const result = await (await fetch(probe.id, { headers })).json();
  return { from: message.from, type: message.type, profile: message.profile, status: result.status };
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A closed server at which people log in."""
    with running_oidc_provider() as provider:
        oidc = OidcConfiguration(
            issuer=provider["issuer"], roles_claim="realm_access.roles", client_id="web", client_secret="web-secret"
        )
        access = AccessConfiguration(oidc=oidc, secret="a secret of the tests", iiif_info=True)
        with running_site(tmp_path_factory.mktemp("login"), access) as site:
            site.put("a", pictures.jpeg(pictures.photo(60, 40)))
            yield site


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of an empty page of another origin, of the same site: browsers send it the cookies of this host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><meta charset=utf-8><title>elsewhere</title><body></body>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def _log_in(page: Page, name: str, address: str = "./") -> None:
    """Follow the link of the page, and sign in at the provider."""
    page.goto(address)
    page.get_by_role("link", name="Log in").first.click()
    page.locator("[name=login]").fill(name)
    page.locator("[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.locator("button[type=submit]").click()  # consent
    page.wait_for_url(lambda url: "/login" not in url and "/interaction" not in url and "/auth" not in url)


def _width_of(page: Page, address: str) -> int:
    """Return the width of an <img>; 0 where it is not shown."""
    script = """(address) => new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve(image.naturalWidth);
      image.onerror = () => resolve(0);
      image.src = address;
    })"""
    return int(page.evaluate(script, address))


def _root(site: Site) -> str:
    return f"http://127.0.0.1:{site.client.port}/"


def test_the_way_back_from_the_login_leads_to_the_view(browser: Browser, site: Site) -> None:
    with open_page(browser, _root(site)) as page:
        _log_in(page, "writer-ann", "./?picture=a")
        page.get_by_role("dialog", name="a").get_by_text("60 × 40").wait_for()
        assert page.url == f"{_root(site)}?picture=a"


def test_a_person_logs_in_sees_pictures_uploads_and_logs_out(browser: Browser, site: Site) -> None:
    with open_page(browser, _root(site)) as page:
        page.goto("./")
        assert _width_of(page, "/images/a?w=30") == 0
        _log_in(page, "writer-ann")
        assert _width_of(page, "/images/a?w=30") == 30
        assert "image_repo" not in page.evaluate("document.cookie")
        script = """async (body) => (await fetch('/images/by-ann',
          {method: 'PUT', headers: {'Content-Type': 'image/jpeg'}, body: new Uint8Array(body)})).status"""
        assert page.evaluate(script, list(pictures.jpeg())) == 201
        page.goto("./logout")
        assert page.evaluate("fetch('/me').then((answer) => answer.json())")["name"] is None
        # What a tab has in its own memory, it may show for as long as the picture may be stored.
        assert page.evaluate("fetch('/images/a?w=30').then((answer) => answer.status)") == 401
        another = page.context.new_page()
        another.goto(_root(site))
        assert _width_of(another, "/images/a?w=30") == 0


def test_a_page_elsewhere_changes_nothing_with_the_cookie(browser: Browser, site: Site, elsewhere: str) -> None:
    with open_page(browser, _root(site)) as page:
        _log_in(page, "writer-bob")
        page.goto(elsewhere)
        form = """(address) => { const form = document.createElement('form');
          form.method = 'post'; form.enctype = 'multipart/form-data'; form.action = address;
          form.innerHTML = '<input name="data" value="{}">'; document.body.append(form); form.submit(); }"""
        with page.expect_response(lambda answer: "/images" in answer.url) as refused:
            page.evaluate(form, f"{_root(site)}images/from-elsewhere")
        sent = refused.value.request.all_headers()
        assert "image_repo_session=" in sent["cookie"]
        assert refused.value.status == 403
    assert site.client.get("/images/from-elsewhere?meta=True").status == 401


def test_a_viewer_elsewhere_learns_whether_its_person_may_see_a_picture(
    browser: Browser, site: Site, elsewhere: str
) -> None:
    info = f"{_root(site)}iiif/3/a/info.json"
    with open_page(browser, _root(site)) as page:
        page.goto(elsewhere)
        before: dict[str, Any] = page.evaluate(_FLOW, info)
        assert (before["type"], before["profile"], before["status"]) == ("AuthAccessTokenError2", "missingAspect", 401)
        _log_in(page, "reader-eve")
        page.goto(elsewhere)
        after: dict[str, Any] = page.evaluate(_FLOW, info)
        assert after["from"] == _root(site).rstrip("/")
        assert (after["type"], after["status"]) == ("AuthAccessToken2", 200)
        assert _width_of(page, f"{_root(site)}iiif/3/a/full/30,/0/default.jpg") == 30


def test_the_tab_of_the_access_service_closes_itself(browser: Browser, site: Site, elsewhere: str) -> None:
    with open_page(browser, _root(site)) as page:
        _log_in(page, "reader-eve")
        page.goto(elsewhere)
        with page.expect_popup() as opened:
            page.evaluate(
                "(address) => { window.open(address) }", f"{_root(site)}iiif/auth/2/access?origin={elsewhere}"
            )
        if not opened.value.is_closed():
            opened.value.wait_for_event("close")
