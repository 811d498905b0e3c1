"""Default places that another user of the machine has already."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from image_repo.config import Config, LocalCacheConfiguration
from image_repo.config.places import own_places


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of other users")
def test_a_default_place_of_another_user_is_replaced_by_ones_own(tmp_path: Path, caplog) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    os.chown(theirs, 65534, 65534)
    defaults = replace(
        Config(),
        local_file_cache_path=str(theirs),
        local_cache_configuration=LocalCacheConfiguration(cache_path=str(ours)),
        pid_file=str(tmp_path / "none"),
    )
    own = own_places(defaults, defaults)
    assert own.local_file_cache_path == f"{theirs}-0"
    assert own.local_cache_configuration.cache_path == str(ours)
    assert own.pid_file == str(tmp_path / "none")
    assert f"{theirs} belongs to user 65534" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of other users")
def test_a_place_that_the_configuration_names_stays(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    config = replace(Config(), local_file_cache_path=str(tmp_path))
    assert own_places(config) == own_places(replace(config))
    assert own_places(config).local_file_cache_path == str(tmp_path)
