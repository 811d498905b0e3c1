"""The scripts of the page: small modules, vendored ones with a licence. `make lint` checks their types and layout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "src/image_repo/web/static"
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
