"""IIIF viewers of others in Chromium, on our image service and our manifests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pictures
import pytest
from access_site import Site, running_site
from chromium import needs_browser, node_file, open_page

from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = needs_browser
_MIRADOR = """<!doctype html><meta charset="utf-8"><div id="viewer"></div><script src="mirador.js"></script><script>
Mirador.viewer({id: 'viewer', windows: [{manifestId: '%s'}]});</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("viewers"), AccessConfiguration()) as site:
        for name in ("recto", "verso"):
            site.put(f"codex/{name}", pictures.jpeg(pictures.photo(1800, 1200)))
        yield site


@pytest.fixture
def mirador(site: Site) -> Iterator[str]:
    """The address of a page of another origin with Mirador on the manifest of a folder."""
    manifest = f"http://127.0.0.1:{site.client.port}/iiif/3/collection/codex/manifest.json"
    script = node_file("mirador/dist/mirador.min.js").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_script = self.path.endswith(".js")
            body = script if is_script else (_MIRADOR % manifest).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript" if is_script else "text/html")
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


def test_openseadragon_draws_tiles_of_every_level(browser: Browser, site: Site) -> None:
    with open_page(browser, f"http://127.0.0.1:{site.client.port}/") as page:
        tiles = []
        page.on(
            "response", lambda answer: tiles.append((answer.url, answer.status)) if "/iiif/3/" in answer.url else None
        )
        page.goto("./?picture=codex/recto")
        page.locator(".preview.behind").wait_for(state="attached")
        first = len(tiles)
        with page.expect_response(lambda answer: "/iiif/3/codex%2Frecto/" in answer.url and ",512,512/" in answer.url):
            for _ in range(4):
                page.keyboard.press("+")
        assert len(tiles) > first
        assert {status for _, status in tiles} == {200}


def test_mirador_shows_a_folder_from_another_origin(browser: Browser, mirador: str) -> None:
    with browser.new_page(viewport={"width": 1280, "height": 800}) as page:
        with page.expect_response(
            lambda answer: "/iiif/3/codex%2Frecto/" in answer.url and "/default." in answer.url
        ) as tile:
            page.goto(mirador)
        assert tile.value.status == 200
        page.get_by_text("1 of 2", exact=False).wait_for()
