"""The scripts of the page: small modules, vendored ones with a licence. `make lint` checks their types and layout."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src/image_repo/web/static"
MODULES = sorted((STATIC / "page").glob("*.js"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_is_short_and_says_what_it_is_for(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 300
    assert text.startswith(("/** ", "// "))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_makes_no_markup_from_text_and_contacts_no_other_host(module: Path) -> None:
    text = module.read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


@pytest.mark.parametrize("library", ["openseadragon"])
def test_a_vendored_library_has_its_licence_beside_it(library: str) -> None:
    assert "Redistribution" in (STATIC / library / "LICENSE.txt").read_text()


def test_the_versions_of_the_tools_are_locked_without_the_address_of_a_registry() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert packages[""]["devDependencies"] == json.loads((ROOT / "package.json").read_text())["devDependencies"]
    assert [name for name, each in packages.items() if "resolved" in each or (name and "integrity" not in each)] == []
