"""Files of the first image_repo become files of this one, and each setting that does not is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from image_repo.cli.main import main
from image_repo.config import Config, dump, load, migrate
from image_repo.errors import ConfigurationError

OLD = """\
owner: museum
persisent_store_configuration: !persistent_store
  agent:
    container: photos
  initialise_store: true
  url_key: 123456789
local_cache_configuration:
  max_size: 100000000
  evict_hysterysis: 0.1
swift_cache_configuration:
  container: photos-cache
  url_lifetime: 600
  credentials:
    authurl: https://keystone.example.org:5000/v3
    username: museum
    password: ["env", "MY_PASSWORD"]
thumbnail_default_xsize: 80
listen: 0.0.0.0:8080
zebra: 1
"""


def run(*arguments: str | Path) -> Result:
    names = [name for name in os.environ if name.startswith(("IMAGE_REPO_", "OS_", "ST_"))]
    environment: dict[str, str | None] = dict.fromkeys(names)
    return CliRunner(env=environment).invoke(main, ["config", *map(str, arguments)])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.yml"
    path.write_text(OLD)
    return path


def test_settings_that_have_moved_keep_their_values(old: Path) -> None:
    config, _ = migrate(old, {})
    store = config.persistent_store_configuration
    assert (store.container, store.credentials.username, store.url_lifetime) == ("photos", "museum", 600)
    assert (config.create_new, config.thumbnail_default_size) == (True, (80, 50))
    assert config.swift_cache_configuration.container == "photos-cache"
    assert config.local_cache_configuration.evict_hysteresis == 0.1
    assert config.listen == "0.0.0.0:8080"


def test_each_setting_that_is_moved_or_dropped_is_named_with_its_line(old: Path) -> None:
    _, notes = migrate(old, {})
    assert [note.removeprefix(f"{old}:").partition(": ")[0] for note in notes] == sorted(
        ["1", "2", "3", "5", "6", "9", "12", "13", "17", "19"], key=int
    )
    assert notes[0].startswith(f"{old}:1: owner: is gone")
    assert notes[-1] == f"{old}:19: zebra: there is no such setting"
    assert f"{old}:6: persistent_store_configuration.url_key: is dropped: " in "\n".join(notes)


def test_the_new_file_means_the_same_and_holds_no_secret(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yml"
    outcome = run("--migrate", old, "-o", new)
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert len(outcome.stderr.splitlines()) == 10
    config = load(new, {"MY_PASSWORD": "secret"})
    assert str(config.persistent_store_configuration.credentials.password) == "secret"
    assert dump(config) == new.read_text() == dump(migrate(old, {})[0])


def test_an_existing_file_is_not_replaced(old: Path) -> None:
    outcome = run("--migrate", old, "-o", old)
    assert (outcome.exit_code, old.read_text()) == (1, OLD)


def test_a_file_of_this_image_repo_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(dump(Config()))
    assert migrate(path, {}) == (Config(), [])


@pytest.mark.parametrize("text", ["a: [", None], ids=["no YAML", "no file"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "old.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"old\.yml"):
        migrate(path, {})
    assert run("--migrate", path).exit_code == 1


def test_without_a_file_every_setting_is_printed() -> None:
    assert run().stdout == dump(Config())
