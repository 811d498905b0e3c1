"""What the documents say of the settings and the command is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
from readme_table import with_table

from image_repo.cli.main import VERBS, main
from image_repo.config import Config, dump
from image_repo.config.tree import leaves, settings_of
from image_repo.errors import Problem
from image_repo.observability.metrics import FAMILIES
from image_repo.web.problems import KNOWN

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))


def test_the_example_configuration_is_what_the_command_dumps() -> None:
    assert (ROOT / "config.example.yml").read_text() == dump(Config()), "make example"


def test_the_readmes_table_of_parameters_is_that_of_the_operations() -> None:
    assert README.read_text() == with_table(README.read_text()), "make example"


def sections(section: type) -> Iterator[type]:
    yield section
    for setting in settings_of(section).values():
        if setting.section:
            yield from sections(setting.section)


@pytest.mark.parametrize("section", [*sections(Config)], ids=lambda section: section.__name__)
def test_every_setting_has_a_help_of_its_own(section: type) -> None:
    helps = {name: setting.help for name, setting in settings_of(section).items()}
    assert all(text.strip() for text in helps.values())
    assert len(set(helps.values())) == len(helps)


def test_every_setting_is_in_the_example_configuration_below_a_comment() -> None:
    lines = (ROOT / "config.example.yml").read_text().splitlines()
    commented = {
        line.strip().partition(":")[0]
        for before, line in pairwise(lines)
        if before.lstrip().startswith("#") and ":" in line
    }
    assert {path[-1] for path, _ in leaves(Config)} <= commented


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_every_verb_and_option_has_a_help(verb: str | None) -> None:
    command = main if verb is None else main.get_command(click.Context(main), verb)
    assert command
    assert command.help
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("kind", [kind for slug, kind in sorted(KNOWN.items()) if kind is not Problem])
def test_the_page_of_every_problem_begins_with_its_status(kind: type[Problem]) -> None:
    assert (kind.__doc__ or "").startswith(f"{kind.status}: ")


def test_every_metric_has_a_help_and_a_name_of_its_unit() -> None:
    assert all(family.help.endswith(".") for family in FAMILIES)
    assert all(family.name.endswith("_total") for family in FAMILIES if family.kind == "counter")
    assert all(family.name.endswith("_seconds") for family in FAMILIES if family.kind == "histogram")


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
