"""The pictures of the page in the documentation: taken in Chromium, of the sample pictures.

PYTHONPATH=tests:samples python tests/page_pictures.py     (make pictures)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import make
from access_site import running_site
from chromium import open_page, running_browser

from image_repo.config import AccessConfiguration

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = Path(__file__).parents[1] / "docs/pictures"
#: of a picture of the page
MAX_BYTES = 80_000
#: file → address, width, height, theme
PICTURES = {
    "page.jpg": ("./", 1280, 720, "light"),
    "page-filter.jpg": ("./?light=low", 1280, 720, "dark"),
    "page-picture.jpg": ("./?folder=dunes&picture=dunes/red", 1280, 720, "light"),
    "page-map.jpg": ("./", 1280, 720, "light"),
}
#: the picture with the map, and where each folder lies then: latitude and longitude in degrees
MAP = "page-map.jpg"
PLACES = {"alps": (46.6, 8.0), "coast": (50.1, -5.6), "dunes": (31.2, -4.0), "forest": (61.5, 25.0)}
#: hours of the light that is low
_LOW = ("05", "06", "07", "20", "21", "22", "23")


@contextmanager
def sample_page(theme: str, width: int, height: int, *, has_positions: bool = False) -> Iterator[Page]:
    """Open a page over the sample pictures, each with what people would note."""
    with tempfile.TemporaryDirectory() as name, running_site(Path(name), AccessConfiguration()) as site:
        samples = Path(name) / "samples"
        make.draw_all(samples)
        for image, scene in make.SCENES.items():
            site.put(image, (samples / f"{image}.jpg").read_bytes())
            light = "low" if scene.hour.startswith(_LOW) else "high"
            place = image.partition("/")[0]
            data: dict[str, Any] = {"light": light, "place": place.capitalize(), "stars": len(image) % 3 + 3}
            if has_positions:
                data |= dict(zip(("latitude", "longitude"), PLACES[place], strict=True))
            site.client.put(f"/images/{image}", json.dumps(data).encode(), Content_Type="application/json")
        root = f"http://127.0.0.1:{site.client.port}/"
        viewport = {"width": width, "height": height}
        with running_browser() as browser, open_page(browser, root, viewport=viewport, color_scheme=theme) as page:
            yield page


def take(file: str) -> bytes:
    """Return a picture of the page, as JPEG."""
    address, width, height, theme = PICTURES[file]
    with sample_page(theme, width, height, has_positions=file == MAP) as page:
        page.goto(address)
        page.locator(".preview.behind" if "picture=" in address else ".cell img.loaded").first.wait_for(
            state="attached"
        )
        page.locator("#facets section").first.wait_for(state="attached")
        if file == MAP:
            page.get_by_role("button", name="Map").click()
            page.locator(".place").first.wait_for()
        page.wait_for_load_state("networkidle")
        return page.screenshot(type="jpeg", quality=72, animations="disabled")


if __name__ == "__main__":
    for file in PICTURES:
        (FOLDER / file).write_bytes(take(file))
