"""Pages for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from webserver import embedded, serving


@pytest.mark.parametrize("path", ["/problems", "/problems/busy", "/problems/not-found"])
def test_a_page_loads_nothing_but_the_style_sheet_of_its_server(tmp_path: Path, path: str) -> None:
    with serving(embedded(tmp_path), tmp_path) as served:
        page = served.client.get(path)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.headers["Content-Security-Policy"] == "default-src 'none'; img-src 'self'; style-src 'self'"
        assert b"<script" not in page.body and b"<style" not in page.body
        (sheet,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.body.decode())
        style = served.client.get(sheet)
        assert (style.status, style.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
        assert style.headers["X-Content-Type-Options"] == "nosniff"
