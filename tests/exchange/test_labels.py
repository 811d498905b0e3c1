"""Labels come in as people have them: CSV, COCO, Camtrap DP, MegaDetector, names of folders, tables of spreadsheets."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import commands
import pytest
from click.testing import CliRunner, Result
from pictures import jpeg, photo

from image_repo.cli.main import main
from image_repo.exchange.importer import from_zip
from image_repo.exchange.labels import MAX_LABEL_BYTES
from image_repo.exchange.tables import read_csv

PICTURE = jpeg(photo(80, 60))


class Repository:
    """The command over a repository in a folder, and a folder of pictures to import."""

    def __init__(self, folder: Path) -> None:
        self.config = commands.configure(folder)
        self.pictures = folder / "pictures"

    def run(self, *arguments: str | Path) -> Result:
        names = [name for name in os.environ if name.startswith(("IMAGE_REPO_", "OS_", "ST_"))]
        environment: dict[str, str | None] = dict.fromkeys(names)
        return CliRunner(env=environment).invoke(main, ["-y", str(self.config), "-C", *map(str, arguments)])

    def write(self, **files: bytes | str) -> None:
        for name, body in files.items():
            path = self.pictures / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body.encode() if isinstance(body, str) else body)

    def data(self) -> dict[str, Any]:
        outcome = self.run("ls", "--json")
        assert outcome.exit_code == 0, outcome.output
        return {record["name"]: record["data"] for record in map(json.loads, outcome.stdout.splitlines())}

    def data_after_import(self, *arguments: str) -> dict[str, Any]:
        outcome = self.run("import", self.pictures, *arguments)
        assert outcome.exit_code == 0, outcome.output
        return self.data()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path)
    made.write(**{"fox/a.jpg": PICTURE, "owl/b.jpg": jpeg(photo(60, 60))})
    return made


# -- CSV --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        "file_name,species,note\nfox/a.jpg,fox,\nowl/b.jpg,owl,\"one, two\"\n".encode("utf-8-sig"),
        b"file_name;species;note\r\nfox/a.jpg;fox;\r\nowl/b.jpg;owl;one, two\r\n",
        b"filename\tspecies\tnote\nfox\\a.jpg\tfox\t\nowl\\b.jpg\towl\tone, two\n",
    ],
    ids=["with a byte order mark", "semicolons", "tabs, and paths of Windows"],
)  # fmt: skip
def test_a_metadata_csv_describes_the_pictures_beside_it(repository: Repository, table: bytes) -> None:
    repository.write(**{"metadata.csv": table})
    assert repository.data_after_import() == {
        "fox/a": {"species": "fox"},
        "owl/b": {"species": "owl", "note": "one, two"},
    }


def test_a_csv_that_is_not_utf_8_is_windows_1252() -> None:
    assert list(read_csv("name,ort\nä,Zürich\n".encode("cp1252"))) == [{"name": "ä", "ort": "Zürich"}]


def test_a_csv_without_a_column_of_files_is_refused(repository: Repository) -> None:
    repository.write(**{"metadata.csv": "species\nfox\n"})
    outcome = repository.run("import", repository.pictures)
    assert (outcome.exit_code, "file_name" in outcome.stderr) == (1, True)


def test_labels_are_added_to_the_data_of_stored_pictures(repository: Repository) -> None:
    assert repository.run("import", repository.pictures).exit_code == 0
    assert repository.run("set", "fox/a", "site=Bern").exit_code == 0
    repository.write(**{"metadata.csv": "file_name,species\nfox/a.jpg,fox\n"})
    outcome = repository.run("import", repository.pictures)
    assert outcome.stdout == "0 stored, 1 replaced, 1 unchanged, 0 skipped, 0 failed.\n"
    assert repository.data()["fox/a"] == {"site": "Bern", "species": "fox"}


def test_a_line_of_metadata_jsonl_comes_before_labels(repository: Repository) -> None:
    repository.write(
        **{
            "metadata.jsonl": '{"file_name": "fox/a.jpg", "data": {"species": "red fox"}}\n',
            "metadata.csv": "file_name,species\nfox/a.jpg,fox\nowl/b.jpg,owl\n",
        }
    )
    assert repository.data_after_import() == {"fox/a": {"species": "red fox"}, "owl/b": {"species": "owl"}}


def test_labels_without_a_picture_are_skipped(repository: Repository) -> None:
    repository.write(**{"metadata.csv": "file_name,species\nnothing.jpg,fox\n"})
    outcome = repository.run("import", repository.pictures)
    assert outcome.stdout == "2 stored, 0 replaced, 0 unchanged, 1 skipped, 0 failed.\n"
    assert "metadata.csv:1: skipped: There is no file 'nothing.jpg'." in outcome.stderr


# -- COCO, MegaDetector, Camtrap DP -----------------------------------------------------------

COCO = {
    "licenses": [{"id": 1, "name": "CC0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
    "categories": [{"id": 1, "name": "fox"}, {"id": 7, "name": "owl"}],
    "images": [
        {"id": 10, "file_name": "fox/a.jpg", "width": 80, "height": 60, "license": 1, "location": "north"},
        {"id": 11, "file_name": "owl/b.jpg", "width": 60, "height": 60},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 1200, "iscrowd": 0,
         "segmentation": [[1, 2, 31, 2, 31, 42]]},
        {"id": 2, "image_id": 11, "category_id": 7},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["annotations.json", "_annotations.coco.json", "instances_train.json"])
def test_coco_becomes_annotations_and_labels(repository: Repository, name: str) -> None:
    repository.write(**{name: json.dumps(COCO)})
    assert repository.data_after_import() == {
        "fox/a": {
            "location": "north",
            "license": "https://creativecommons.org/publicdomain/zero/1.0/",
            "annotations": [
                {"category": "fox", "bbox": [1, 2, 30, 40], "segmentation": [[1, 2, 31, 2, 31, 42]]},
            ],
        },
        "owl/b": {"labels": ["owl"]},
    }


def test_detections_of_megadetector_become_observations(repository: Repository) -> None:
    results = {
        "info": {"detector": "md_v5a", "format_version": "1.4"},
        "detection_categories": {"1": "animal", "2": "person"},
        "classification_categories": {"0": "fox", "1": "owl"},
        "images": [
            {"file": "fox/a.jpg", "detections": [
                {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 0.3, 0.4],
                 "classifications": [["1", 0.2], ["0", 0.7]]},
                {"category": "2", "conf": 0.2, "bbox": [0, 0, 0.5, 0.5]},
            ]},
            {"file": "owl/b.jpg", "failure": "Image could not be loaded"},
        ],
    }  # fmt: skip
    repository.write(**{"md_results.json": json.dumps(results)})
    data = repository.data_after_import()
    assert data["owl/b"] == {}
    assert data["fox/a"]["max_detection_conf"] == 0.9
    first, second = data["fox/a"]["observations"]
    assert first == {
        "observationType": "animal", "classificationMethod": "machine", "classificationProbability": 0.9,
        "classifiedBy": "md_v5a", "bboxX": 0.1, "bboxY": 0.2, "bboxWidth": 0.3, "bboxHeight": 0.4, "species": "fox",
    }  # fmt: skip
    assert second["observationType"] == "human"


CAMTRAP = {
    "datapackage.json": '{"profile": "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/camtrap-dp-profile.json"}',
    "deployments.csv": "deploymentID,locationName,latitude,longitude,baitUse,deploymentTags\n"
    "d1,Bern,46.95,7.45,false,a | b\n",
    "media.csv": "mediaID,deploymentID,timestamp,filePath,filePublic\n"
    "m1,d1,2024-05-01T10:00:00Z,fox/a.jpg,true\nm2,d1,2024-05-01T11:00:00Z,owl/b.jpg,true\n",
    "observations.csv": "observationID,deploymentID,mediaID,observationLevel,observationType,scientificName,count\n"
    "o1,d1,m1,media,animal,Vulpes vulpes,2\no2,d1,m2,media,unclassified,,\n",
}


def test_a_camtrap_package_becomes_data_of_its_pictures(repository: Repository) -> None:
    repository.write(**CAMTRAP)
    place = {
        "deploymentID": "d1", "locationName": "Bern", "latitude": 46.95, "longitude": 7.45, "baitUse": False,
        "deploymentTags": ["a", "b"], "filePublic": True,
    }  # fmt: skip
    observation = {"observationType": "animal", "scientificName": "Vulpes vulpes", "count": 2}
    assert repository.data_after_import() == {
        "fox/a": {**place, "timestamp": "2024-05-01T10:00:00Z", "observations": [observation]},
        "owl/b": {**place, "timestamp": "2024-05-01T11:00:00Z"},
    }


def test_observations_of_an_event_are_those_of_its_media(repository: Repository) -> None:
    event = (
        "observationID,deploymentID,mediaID,eventID,eventStart,eventEnd,observationLevel,observationType,scientificName\n"
        "o1,d1,,e1,2024-05-01T09:55:00Z,2024-05-01T12:05:00+02:00,event,animal,Vulpes vulpes\n"
    )
    repository.write(**{**CAMTRAP, "observations.csv": event})
    data = repository.data_after_import()
    observation = {"eventID": "e1", "observationType": "animal", "scientificName": "Vulpes vulpes"}
    assert data["fox/a"]["observations"] == [{**observation, "observationLevel": "event"}]
    assert "observations" not in data["owl/b"], "it was taken an hour later"


@pytest.mark.parametrize("format_", ["coco", "camtrap"])
def test_labels_go_out_and_come_in_again(repository: Repository, tmp_path: Path, format_: str) -> None:
    repository.write(**(CAMTRAP if format_ == "camtrap" else {"annotations.json": json.dumps(COCO)}))
    before = repository.data_after_import()
    out = tmp_path / "out"
    assert repository.run("export", "-o", out, "--format", format_).exit_code == 0
    (out / "metadata.jsonl").unlink()
    assert repository.run("rm", "fox/", "owl/").exit_code == 1, "one path at a time"
    assert repository.run("rm", "fox/a", "owl/b").exit_code == 0
    assert repository.run("import", out).exit_code == 0
    after = repository.data()
    keys = ("annotations", "labels", "observations", "latitude", "locationName")
    for name, data in before.items():
        assert {key: after[name].get(key) for key in keys} == {key: data.get(key) for key in keys}


@pytest.mark.parametrize(
    "body",
    [
        '{"annotations": [{"image_id": 1}], "images": 5, "categories": []}',
        '{"categories": [{"id": 1}], "images": []}',
        '{"detection_categories": {}, "images": [{"file": "a", "detections": [{"category": "9"}]}]}',
        '{"annotations": [',
    ],
)
def test_a_damaged_file_of_labels_is_named_and_the_pictures_are_imported(repository: Repository, body: str) -> None:
    repository.write(**{"labels.json": body})
    outcome = repository.run("import", repository.pictures)
    assert outcome.exit_code == 1
    assert outcome.stdout == "2 stored, 0 replaced, 0 unchanged, 0 skipped, 1 failed.\n"
    assert "labels.json: failed: " in outcome.stderr
    assert "Traceback" not in outcome.output


def test_other_json_beside_pictures_is_skipped_as_before(repository: Repository) -> None:
    repository.write(**{"notes.json": '{"a": 1}', "fox/a.json": '{"name": "fox/a"}'})
    outcome = repository.run("import", repository.pictures)
    assert outcome.stdout == "2 stored, 0 replaced, 0 unchanged, 2 skipped, 0 failed.\n"


def test_labels_of_strangers_are_bounded() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", PICTURE)
        archive.writestr("annotations.json", b'{"annotations": [' + b" " * (MAX_LABEL_BYTES + 1) + b"]}")
    labels, picture = from_zip(file, len(file.getvalue()), io.BytesIO(), 100).items
    assert (labels.entry, picture.entry, picture.problem) == ("annotations.json", "a.jpg", None)
    assert "at most 8388608 bytes" in str(labels.problem)


def zip_of(**members: str) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file


def bomb_of_coco() -> dict[str, str]:
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in range(200)]
    annotations = [{"image_id": number, "category_id": 1} for number in range(200)]
    categories = [{"id": 1, "name": "x" * (1 << 20)}]
    return {"labels.json": json.dumps({"categories": categories, "images": images, "annotations": annotations})}


def bomb_of_events() -> dict[str, str]:
    event = "d1,,2024-05-01T09:55:00Z,2024-05-01T12:05:00Z,animal\n"
    header = "deploymentID,mediaID,eventStart,eventEnd,observationType\n"
    return {**CAMTRAP, "observations.csv": header + event * 2_000}


@pytest.mark.parametrize(
    ("files", "reason"), [(bomb_of_coco(), "repeat too much text"), (bomb_of_events(), "at most 1000 events")]
)
def test_labels_do_not_grow_without_bound(files: dict[str, str], reason: str) -> None:
    file = zip_of(**files)
    (broken,) = from_zip(file, len(file.getvalue()), io.BytesIO(), 10_000).items
    assert reason in str(broken.problem)


# -- folders and zips -------------------------------------------------------------------------


def test_the_folder_of_a_picture_may_be_its_label(repository: Repository) -> None:
    repository.write(**{"c.jpg": jpeg(photo(50, 60)), "metadata.csv": "file_name,species\nowl/b.jpg,tawny owl\n"})
    assert repository.data_after_import("--label-from-folder", "species") == {
        "c": {},
        "fox/a": {"species": "fox"},
        "owl/b": {"species": "tawny owl"},
    }


def test_a_zip_with_backslashes_is_read(repository: Repository, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = "sites\\north.jpg"
        archive.writestr(info, PICTURE)
    assert repository.run("import", tmp_path / "windows.zip").exit_code == 0
    assert list(repository.data()) == ["sites/north"]


# -- tables -----------------------------------------------------------------------------------


def stored(repository: Repository) -> None:
    assert repository.run("import", repository.pictures).exit_code == 0
    assert repository.run("set", "/", "site=north").exit_code == 0


def test_a_table_is_merged_into_the_data_of_the_images_that_match(repository: Repository, tmp_path: Path) -> None:
    stored(repository)
    table = tmp_path / "sites.csv"
    table.write_text("plot;altitude;note\nnorth;1200;\nsouth;300;far\n")
    dry = repository.run("import", table, "--match", "plot=data.site", "--dry-run")
    assert (dry.exit_code, dry.stdout) == (0, "2 rows, 2 images matched, 2 would change.\n")
    assert repository.data()["fox/a"] == {"site": "north"}
    outcome = repository.run("import", table, "--match", "plot=data.site")
    assert (outcome.stdout, outcome.stderr) == (
        "2 rows, 2 images matched, 2 changed.\n",
        "plot=south: no image\n",
    )
    assert repository.data()["fox/a"] == {"site": "north", "altitude": "1200"}


def test_a_spreadsheet_is_matched_by_names_of_files(repository: Repository, tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    stored(repository)
    workbook = openpyxl.Workbook()
    for row in (["file", "species", "count"], ["fox/a.JPG", "fox", 2], ["owl/b", None, None], [".hidden", "x", 1]):
        workbook.active.append(row)
    workbook.save(tmp_path / "labels.xlsx")
    outcome = repository.run("import", tmp_path / "labels.xlsx", "--match", "file=name")
    assert outcome.stdout == "3 rows, 2 images matched, 1 changed.\n"
    assert repository.data()["fox/a"] == {"site": "north", "species": "fox", "count": "2"}


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], 2, "--match COLUMN=KEY"),
        (["--match", "site"], 2, "--match COLUMN=KEY"),
        (["--match", "site=data.site"], 1, "The table has no column 'site'; it has plot, altitude."),
    ],
)
def test_a_table_without_a_match_says_what_is_missing(
    repository: Repository, tmp_path: Path, arguments: list[str], status: int, text: str
) -> None:
    stored(repository)
    (tmp_path / "sites.csv").write_text("plot,altitude\nnorth,1200\n")
    outcome = repository.run("import", tmp_path / "sites.csv", *arguments)
    assert (outcome.exit_code, text in outcome.stderr) == (status, True), outcome.output
