"""Adding an operation takes what CONTRIBUTING.md shows: one row, one step, and two rows in tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("src/image_repo", "tests/model", "tests/render", "tests/servers", "pyproject.toml", "README.md")
BLOCK = re.compile(r"```python\n# (\S+), above `([^`]+)`[^\n]*\n(.*?)```", re.DOTALL)
BLOCKS = {file: (anchor, text) for file, anchor, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())}
_, STEP, *TESTS = BLOCKS
DERIVED = """
from image_repo.web import openapi
from readme_table import table
assert "| `invert` |" in table()
parameters = openapi.document("/images")["paths"]["/images/{name}"]["get"]["parameters"]
assert [each["schema"] for each in parameters if each["name"] == "invert"] == [{"type": "boolean"}]
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (*COPIED, *(path.relative_to(ROOT) for path in (ROOT / "tests").glob("*.py"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def apply(root: Path, file: str) -> None:
    anchor, text = BLOCKS[file]
    source = (root / file).read_text()
    assert source.count(anchor) == 1, f"{anchor!r} in {file}"
    source = source.replace(anchor, text + anchor)
    (root / file).write_text(re.sub(r"(STEPS: .*\btone,)", r"\1 invert,", source) if file == STEP else source)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(root / "src"), str(root / "tests")))
    environ = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)


def run_tests(root: Path) -> subprocess.CompletedProcess[str]:
    return run(root, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "invert", *TESTS)


def test_one_row_one_step_and_two_rows_in_tests_are_enough(copy: Path) -> None:
    for file in BLOCKS:
        apply(copy, file)
    outcome = run_tests(copy)
    assert outcome.returncode == 0, outcome.stdout
    assert "test_every_field_is_in_the_key_and_parses_back[invert] PASSED" in outcome.stdout
    derived = run(copy, "-c", DERIVED)
    assert derived.returncode == 0, derived.stderr


def test_a_row_whose_step_is_left_out_is_noticed(copy: Path) -> None:
    for file in BLOCKS.keys() - {STEP}:
        apply(copy, file)
    assert run_tests(copy).returncode == 1
