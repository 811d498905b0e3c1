"""Files and folders that may not be read are passed over by whatever follows the container: they stop nothing else."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import commands
import pictures
import pytest
import requests

#: root that has to keep to modes as everybody has
PLAIN_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")


def close(path: Path) -> None:
    """Give a file or folder to another user alone."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    os.chown(path, NOBODY, NOBODY)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for name in ("a", "file", "folder/b"):
        path = tmp_path / "originals" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures.jpeg(pictures.photo(40, 30)))
    return commands.configure(tmp_path, catalogue={"reconcile": 1}, server={"processes": 1})


def close_some(config: Path) -> None:
    close(config.parent / "originals" / "file.jpg")
    close(config.parent / "originals" / "folder")


@pytest.mark.parametrize("when", ["from the beginning", "later"])
def test_a_node_is_ready_and_gives_the_rest_where_something_cannot_be_read(config: Path, when: str) -> None:
    url, log = f"http://{commands.listens_on(config)}", config.parent / "log"

    def parts() -> dict[str, str]:
        return dict(requests.get(f"{url}/readyz?verbose", timeout=30).json()["parts"])

    def count() -> int:
        return int(requests.get(f"{url}/images", timeout=30).json()["count"])

    if when == "from the beginning":
        close_some(config)
    command = [*PLAIN_ROOT, *commands.COMMAND, "-y", str(config)]
    with commands.started(command, commands.listens_on(config), log, cwd=config.parent):
        commands.until(lambda: count() == (3 if when == "later" else 2), "the catalogue is complete")
        if when == "later":
            commands.until(lambda: '"rebuilding"' not in requests.get(f"{url}/images", timeout=30).text, "all is read")
            close_some(config)
        commands.until(lambda: "folder cannot be read" in log.read_text(), "the folder is named")
        commands.until(lambda: log.read_text().count("file is passed over") > 1 or when == "later", "the file is named")
        commands.until(lambda: set(parts().values()) == {"ok"}, "the node is ready")
        zipped = requests.get(f"{url}/images/", timeout=30)
        assert "a.jpg" in zipfile.ZipFile(io.BytesIO(zipped.content)).namelist()
    assert "does not follow" not in log.read_text()


def test_a_rebuild_names_what_cannot_be_read_and_ends(config: Path) -> None:
    close_some(config)
    command = [*PLAIN_ROOT, *commands.COMMAND, "-y", str(config), "rebuild"]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=commands.environment(), cwd=config.parent
    )
    assert ended.returncode == 0, ended.stderr
    assert "file is passed over" in ended.stderr
    assert "folder cannot be read" in ended.stderr
