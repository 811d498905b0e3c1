"""What the documents say of the settings and the command is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_repo.cli.main import main
from image_repo.config import Config, dump
from image_repo.config.tree import leaves

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_example_configuration_is_what_the_command_dumps() -> None:
    assert (ROOT / "config.example.yml").read_text() == dump(Config()), "make example"


def test_every_verb_is_in_the_readme() -> None:
    text = README.read_text()
    assert [name for name in main.commands if name not in text] == []


def test_settings_that_the_readme_names_are_there() -> None:
    known = {name for path, _ in leaves(Config) for name in path}
    named = {
        word
        for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
        for word in re.findall(r"^ *([a-z_]+):", block, re.MULTILINE)
    }
    assert named
    assert named <= known


@pytest.mark.parametrize("target", ["serve", "test", "test-fast", "lint", "fmt", "docker"])
def test_make_has_what_contributors_are_told(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
