"""Verbs for images and their data, on a repository on disk: ls, rm, mv, set, stats, status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
from click.testing import CliRunner, Result

from image_repo.cli.main import main


class Command:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = commands.configure(folder)
        tree = folder / "tree" / "sites"
        tree.mkdir(parents=True)
        for name, width in (("north", 120), ("south", 90), ("west", 60)):
            (tree / f"{name}.jpg").write_bytes(pictures.jpeg(pictures.photo(width, 60)))
        assert self("put", folder / "tree").exit_code == 0

    def __call__(self, *arguments: str | Path) -> Result:
        names = [name for name in os.environ if name.startswith(("IMAGE_REPO_", "OS_", "ST_"))]
        environment: dict[str, str | None] = dict.fromkeys(names)
        return CliRunner(env=environment).invoke(main, ["-y", str(self.config), "-C", *map(str, arguments)])

    def lines(self, *arguments: str) -> list[str]:
        outcome = self(*arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout.splitlines()

    def json(self, *arguments: str) -> Any:
        return [json.loads(line) for line in self.lines(*arguments, "--json")]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_images_are_listed_by_path_filter_and_order(command: Command) -> None:
    assert command.lines("ls") == ["sites/north", "sites/south", "sites/west"]
    assert command.lines("ls", "sites/", "width__gte=90", "sort=width") == ["sites/south", "sites/north"]
    assert command.lines("ls", "sort=-width", "-n", "1") == ["sites/north"]
    assert command.lines("ls", "width=60", "--long")[0].split()[0] == "60x60"
    assert [record["width"] for record in command.json("ls", "sites/")] == [120, 90, 60]


def test_a_key_that_no_record_has_is_named_and_never_deletes_everything(command: Command) -> None:
    command("set", "/", "label=cat")
    for arguments in (["ls", "labl=cat"], ["stats", "labl"], ["ls", "sort=labl"]):
        outcome = command(*arguments)
        assert (outcome.exit_code, outcome.stderr) == (0, "No record has the key labl. Did you mean label?\n")
    for arguments in (["rm", "labl__ne=cat"], ["set", "/", "a=b", "--where", "labl__ne=cat", "--dry-run"]):
        outcome = command(*arguments)
        assert outcome.exit_code == 1
        assert "Did you mean label?" in outcome.stderr
    assert command.lines("set", "/", "a=b", "--where", "a__exists=no", "--where", "all=True") == [
        "3 matched, 3 modified."
    ]
    assert len(command.lines("ls")) == 3


def test_data_are_set_as_text_and_as_json(command: Command) -> None:
    assert command.lines("set", "sites/north", "species=fox", "stars:=5", 'tags:=["a"]') == ["sites/north is changed."]
    assert command.json("ls", "species=fox")[0]["data"] == {"species": "fox", "stars": 5, "tags": ["a"]}
    assert command.json("set", "sites/north", "--unset", "stars", "--dry-run") == [{"species": "fox", "tags": ["a"]}]
    assert command.json("ls", "stars=5"), "a dry run changes nothing"
    assert command.json("set", "sites/north", "--unset", "stars") == [{"species": "fox", "tags": ["a"]}]


def test_data_of_many_are_set_by_path_and_filter(command: Command) -> None:
    assert command.lines("set", "sites/", "seen=yes", "--where", "width__gte=90", "--dry-run") == ["2 matched."]
    assert command.lines("ls", "seen=yes") == []
    assert command.lines("set", "sites/", "seen=yes", "--where", "width__gte=90") == ["2 matched, 2 modified."]
    assert command.json("set", "/", "seen=yes") == [{"matched": 3, "modified": 1}]


@pytest.mark.parametrize(
    "arguments",
    [
        ["set", "sites/north"],
        ["set", "sites/north", "species"],
        ["set", "sites/north", "a=b", "--where", "c=d"],
        ["rm"],
    ],
    ids=" ".join,
)
def test_incomplete_arguments_are_wrong_usage(command: Command, arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 2


def test_values_are_counted(command: Command) -> None:
    command("set", "sites/", "species=fox", "--where", "width__gte=90")
    command("set", "sites/west", "species=owl")
    assert command.lines("stats", "species") == ["        2  fox", "        1  owl"]
    assert command.lines("stats", "width", "sites/", "-n", "1")[0].split()[0] == "1"
    (numbers,) = command.json("stats", "width", "species=fox")
    assert (numbers["count"], numbers["min"], numbers["max"], numbers["avg"]) == (2, 90, 120, 105)


def test_images_are_deleted_by_name_and_by_filter(command: Command) -> None:
    assert command.lines("rm", "sites/north", "sites/south", "--dry-run") == ["2 matched."]
    assert len(command.lines("ls")) == 3
    assert command.lines("rm", "sites/north") == ["1 matched, 1 modified."]
    assert command.lines("rm", "sites/", "width=60", "--dry-run") == ["1 matched."]
    assert command.json("rm", "sites/", "width=60") == [{"matched": 1, "modified": 1}]
    assert command.lines("ls") == ["sites/south"]
    assert not (command.folder / "originals/sites/west.jpg").exists()


def test_a_misspelt_key_deletes_nothing_and_is_named(command: Command) -> None:
    command("set", "/", "label=fox")
    for arguments in (["rm", "labl__ne=cat"], ["rm", "labl__ne=cat", "--dry-run"], ["ls", "labl=fox"]):
        outcome = command(*arguments)
        assert "labl" in outcome.stderr, arguments
        assert "label" in outcome.stderr.replace("labl", "", 1), arguments
    assert len(command.lines("ls")) == 3


def test_nothing_is_deleted_if_one_of_the_names_does_not_exist(command: Command) -> None:
    outcome = command("rm", "sites/north", "sites/nothing")
    assert (outcome.exit_code, "sites/nothing" in outcome.stderr) == (1, True)
    assert len(command.lines("ls")) == 3


def test_an_image_is_renamed_with_its_record(command: Command) -> None:
    command("set", "sites/north", "species=fox")
    (before,) = command.json("ls", "species=fox")
    body = (command.folder / "originals/sites/north.jpg").read_bytes()
    assert command.lines("mv", "sites/north", "hills/top") == ["sites/north is now hills/top."]
    (after,) = command.json("ls", "species=fox")
    same = ("sha256", "data", "uploaded", "filename", "width", "exif")
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    assert (command.folder / "originals/hills/top.jpg").read_bytes() == body
    assert command.lines("ls") == ["hills/top", "sites/south", "sites/west"]
    assert command.lines("check")[-1].startswith("3 images, 3 records")


def test_a_rename_never_replaces_an_image(command: Command) -> None:
    outcome = command("mv", "sites/north", "sites/south")
    assert (outcome.exit_code, "already" in outcome.stderr) == (1, True)
    assert len(command.lines("ls")) == 3


def test_a_description_is_renamed_too(command: Command) -> None:
    (command.folder / "more.json").write_text('{"name": "later", "site": "Bern"}')
    assert command("import", command.folder / "more.json").exit_code == 0
    assert command("mv", "later", "plans/later").exit_code == 0
    assert [record["name"] for record in command.json("ls", "site=Bern")] == ["plans/later"]


def test_the_status_names_server_stores_and_catalogue(command: Command) -> None:
    assert command.lines("status")[0] == "ok     server: not running"
    (status,) = command.json("status")
    assert status["server"]["running"] is False
    assert {check["subject"] for check in status["checks"]} >= {"originals", "catalogue", "other nodes"}


def test_the_help_tells_how_to_complete_words_in_the_shell() -> None:
    environment = {**os.environ, "_IMAGE_REPO_COMPLETE": "bash_source"}
    script = [sys.executable, "-m", "image_repo"]
    completion = subprocess.run(script, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "complete" in completion.stdout
    assert "_IMAGE_REPO_COMPLETE=bash_source" in CliRunner().invoke(main, ["--help"]).stdout


def test_an_image_given_to_a_user_is_moved_below_the_folder_of_the_user(command: Command) -> None:
    command("set", "sites/north", "species=fox")
    uploaded = command.json("ls", "name=sites/north")[0]["uploaded"]
    assert command.lines("set", "sites/north", "--owner", "ann") == ["1 given."]
    (record,) = command.json("ls", "owner=ann")
    assert (record["name"], record["data"], record["uploaded"]) == ("ann/sites/north", {"species": "fox"}, uploaded)
    assert command.lines("set", "ann/sites/north", "--owner", "ann") == ["1 given."], "again"
    assert command.lines("set", "ann/sites/north", "--owner", "") == ["1 given."]
    assert command.json("ls", "name=ann/sites/north")[0]["owner"] is None


def test_a_folder_is_given_to_a_user(command: Command) -> None:
    assert command.lines("mv", "sites/west", "ann/west") == ["sites/west is now ann/west."]
    assert command.lines("set", "ann/", "--owner", "ann") == ["1 given."]
    assert command.lines("set", "sites/", "--owner", "ann", "--where", "width__gte=90", "--dry-run") == ["2 matched."]
    assert command.json("set", "sites/", "--owner", "ann", "--where", "width__gte=90") == [{"given": 2}]
    assert command.lines("ls", "owner=ann") == ["ann/sites/north", "ann/sites/south", "ann/west"]


def test_what_cannot_be_given_is_named_and_stays(command: Command) -> None:
    command("mv", "sites/west", "ann/sites/north")
    outcome = command("set", "sites/", "--owner", "ann")
    assert outcome.exit_code == 1
    assert "sites/north: " in outcome.stderr
    assert command.lines("ls", "owner=ann") == ["ann/sites/south"]
    assert "sites/north" in command.lines("ls")
    assert command("set", "sites/north", "--owner", " ann").exit_code == 1
    assert command("set", "sites/north", "a=b", "--owner", "ann").exit_code == 2
    assert command("set", "sites/none", "--owner", "ann").exit_code == 1


def test_the_trial_names_folders_whose_images_are_no_users(command: Command) -> None:
    command.config.write_text(command.config.read_text() + "access: {image_scope: user, user_identifier: sub}\n")
    command("set", "sites/north", "--owner", "ann")
    command("mv", "sites/west", "ann/west")
    (line,) = [line for line in command.lines("-t") if "users:" in line]
    assert "2 images belong to administrators alone, some below ann/, sites/" in line
