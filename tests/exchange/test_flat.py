"""Exports as tables, with a label of each picture, and in a folder for each split."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import commands
import pytest
from click.testing import CliRunner, Result
from pictures import jpeg, photo

from image_repo.cli.main import main

DATA: Mapping[str, Mapping[str, Any]] = {
    "a": {"species": "fox", "count": 2, "note": "=1+1", "split": "train"},
    "b": {"species": "owl", "count": 1, "tags": ["x", "y"], "split": "test"},
    "c": {"species": "fox", "seen": True},
}


class Repository:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = commands.configure(folder)
        pictures = folder / "pictures"
        pictures.mkdir()
        lines = []
        for number, (name, data) in enumerate(DATA.items()):
            (pictures / f"{name}.jpg").write_bytes(jpeg(photo(60 + number, 40)))
            lines.append(json.dumps({"file_name": f"{name}.jpg", "data": data}))
        (pictures / "metadata.jsonl").write_text("\n".join(lines))
        assert self.run("import", pictures).exit_code == 0

    def run(self, *arguments: str | Path) -> Result:
        return CliRunner().invoke(main, ["-y", str(self.config), "-C", *map(str, arguments)])

    def export(self, *arguments: str) -> Path:
        outcome = self.run("export", "-o", self.folder / "out", *arguments)
        assert outcome.exit_code == 0, outcome.output
        return self.folder / "out"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_table_for_spreadsheets_has_a_column_for_each_key(repository: Repository) -> None:
    text = (repository.export("--format", "csv") / "records.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbffile_name,name,")
    rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))
    assert [row["file_name"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [row["data.count"] for row in rows] == ["2", "1", ""]
    assert rows[0]["data.note"] == "'=1+1", "no spreadsheet calculates it"
    assert (rows[1]["data.tags"], rows[2]["data.seen"]) == ('["x", "y"]', "true")
    assert rows[0]["width"] == "60"


def test_an_exported_table_comes_in_again(repository: Repository, tmp_path: Path) -> None:
    out = repository.export("--format", "csv")
    (out / "metadata.jsonl").unlink()
    (out / "records.csv").rename(out / "metadata.csv")
    assert repository.run("import", out, "--prefix", "again").exit_code == 0
    (record,) = map(json.loads, repository.run("ls", "again/", "data.count=1", "--json").stdout.splitlines())
    assert record["data"] == {"species": "owl", "count": "1", "tags": '["x", "y"]', "split": "test"}


def test_a_parquet_table_is_typed(repository: Repository) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(repository.export("--format", "parquet") / "records.parquet")
    assert table.num_rows == 3
    types = {field.name: str(field.type) for field in table.schema}
    expected = {"file_name": "string", "width": "int64", "data.count": "int64", "data.seen": "bool"}
    assert {name: types[name] for name in expected} == expected
    assert types["data.tags"].startswith("list<")
    assert table.column("data.count").to_pylist() == [2, 1, None]
    assert table.column("data.tags").to_pylist() == [None, ["x", "y"], None]


def test_parquet_without_pyarrow_says_what_to_install(repository: Repository) -> None:
    script = "import sys; sys.modules['pyarrow'] = None; from image_repo.cli.main import main; main(sys.argv[1:])"
    arguments = ["-y", str(repository.config), "export", "-o", str(repository.folder / "out"), "--format", "parquet"]
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert (ended.returncode, "pip install 'image_repo[parquet]'" in ended.stderr) == (1, True)
    assert not (repository.folder / "out").exists()


def test_the_label_of_a_picture_is_a_column_for_imagefolder(repository: Repository) -> None:
    records = lines(repository.export("--label", "species") / "metadata.jsonl")
    assert [record["label"] for record in records] == ["fox", "owl", "fox"]
    assert [list(record)[:2] for record in records] == [["file_name", "label"]] * 3


def test_each_split_is_a_folder_with_its_own_metadata(repository: Repository) -> None:
    out = repository.export("--split", "split", "--label", "species", "--format", "coco")
    names = {path.relative_to(out).as_posix() for path in out.rglob("*.*")}
    assert names >= {"train/a.jpg", "test/b.jpg", "none/c.jpg", "train/metadata.jsonl", "none/metadata.jsonl"}
    assert "metadata.jsonl" not in names
    (record,) = lines(out / "test" / "metadata.jsonl")
    assert (record["file_name"], record["name"], record["label"]) == ("b.jpg", "b", "owl")
    images = json.loads((out / "annotations.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["train/a.jpg", "test/b.jpg", "none/c.jpg"]


def test_splits_come_in_again_under_their_names(repository: Repository) -> None:
    out = repository.export("--split", "split")
    assert repository.run("import", out).stdout == "0 stored, 0 replaced, 3 unchanged, 0 skipped, 0 failed.\n"


def test_an_export_with_splits_can_be_replaced(repository: Repository) -> None:
    repository.export("--split", "split")
    repository.export("--split", "split", "--force")


@pytest.mark.servers
def test_datasets_loads_splits_and_labels(repository: Repository) -> None:
    import os  # noqa: PLC0415

    out = repository.export("--split", "split", "--label", "species", "split__exists=true")
    default = Path(__file__).parents[2] / ".tests" / "formats" / "bin" / "python"
    python = os.environ.get("IMAGE_REPO_TEST_FORMATS", str(default))
    script = (
        "import sys; from datasets import load_dataset;"
        "loaded = load_dataset('imagefolder', data_dir=sys.argv[1], cache_dir=sys.argv[2]);"
        "print({split: rows['label'][:] for split, rows in loaded.items()})"
    )
    environment = {**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(repository.folder / "hf")}
    ended = subprocess.run(
        [python, "-c", script, str(out), str(repository.folder / "cache")],
        capture_output=True, text=True, check=False, env=environment, timeout=100,
    )  # fmt: skip
    assert ended.stdout.splitlines()[-1:] == ["{'train': ['fox'], 'test': ['owl']}"], ended.stderr[-2000:]
