"""Debian's Chromium, by Playwright: what people see and do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from servers.launch import python

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

#: for tests that need it
needs_browser = [
    pytest.mark.servers,
    pytest.mark.skipif(
        shutil.which("chromium") is None or find_spec("playwright") is None,
        reason="needs chromium and playwright: make test installs them where there is root",
    ),
]
#: milliseconds until what the page shall show is missed; the machine of the tests may be busy
PATIENCE_MS = 20_000
#: it contacts no host but ours
_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser."""
    from playwright.sync_api import expect, sync_playwright  # noqa: PLC0415

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, root: str, **context: Any) -> Iterator[Page]:
    """Open an empty page, whose scripts may fail in nothing.

    :param root: what addresses are relative to
    """
    settings = {"viewport": {"width": 1280, "height": 800}, "base_url": root, **context}
    with browser.new_context(**settings) as window:
        page = window.new_page()
        page.set_default_timeout(PATIENCE_MS)
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        # what the policy refuses is in the console alone
        page.on("console", lambda line: mistakes.append(line.text) if "Security Policy" in line.text else None)
        yield page
        assert not mistakes


def node_file(path: str) -> Path:
    """Return a file of the packages that `make test` installs for Node.js."""
    default = Path(python()).parents[2] / "node"
    file = Path(os.environ.get("IMAGE_REPO_TEST_NODE", str(default))) / "node_modules" / path
    assert file.exists(), f"There is no {file}: run `make test`, which installs it."
    return file
