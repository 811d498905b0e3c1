"""What the documents say of the settings and the command is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_repo.cli.main import VERBS
from image_repo.config import Config, dump
from image_repo.config.tree import leaves

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))


def test_the_example_configuration_is_what_the_command_dumps() -> None:
    assert (ROOT / "config.example.yml").read_text() == dump(Config()), "make example"


def test_every_verb_is_documented() -> None:
    text = (ROOT / "docs" / "operating.md").read_text()
    assert [name for name in VERBS if name not in text] == []


def test_settings_in_the_documentation_exist() -> None:
    known = {name for path, _ in leaves(Config) for name in path}
    named = {
        word
        for page in PAGES
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        for word in re.findall(r"^ *([a-z_]+):", block, re.MULTILINE)
    }
    assert named
    assert named <= known


@pytest.mark.parametrize("target", ["serve", "test", "test-fast", "lint", "fmt", "docker"])
def test_make_has_what_contributors_are_told(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if ":" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index and page.name != "README.md"
    ] == []
