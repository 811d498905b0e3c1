"""The scripts of the page: types by TypeScript, from their comments; small modules; vendored ones with a licence."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from servers import launch

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src/image_repo/web/static"
MODULES = sorted((STATIC / "page").glob("*.js"))


@pytest.mark.servers
def test_the_types_of_the_scripts_agree(tmp_path: Path) -> None:
    script = tmp_path / "check.mjs"
    compiler = "process.argv.push('-p', process.env.PROJECT);\nawait import('typescript/lib/tsc.js');\n"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / script.name).write_text(compiler)
    command = launch.node("typescript", tmp_path / "source" / script.name, tmp_path)
    environment = {"PROJECT": str(ROOT / "tsconfig.json")}
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


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
