"""What the processes of a node share: marks, and private folders."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time

import pytest

from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.private_folder import make_private

MARK = """
import sys
from pathlib import Path
from image_repo.concurrency.invalidation import InvalidationEpochs
InvalidationEpochs(Path(sys.argv[1])).mark(sys.argv[2])
"""


def mark_elsewhere(path, text: str) -> None:
    """Marks a name in another process."""
    subprocess.run([sys.executable, "-c", MARK, path, text], check=True, timeout=60)


def test_a_mark_is_seen_by_another_process(tmp_path) -> None:
    marks = InvalidationEpochs(tmp_path / "marks")
    before = marks.read("sites/ü"), marks.read("another")
    assert marks.read("sites/ü") == before[0]
    mark_elsewhere(tmp_path / "marks", "sites/ü")
    assert marks.read("sites/ü") != before[0]
    assert marks.read("another") == before[1]


def test_every_mark_is_another_value(tmp_path) -> None:
    marks = InvalidationEpochs(tmp_path / "marks")
    seen = {marks.read("a")}
    for _ in range(100):
        marks.mark("a")
        seen.add(marks.read("a"))
    assert len(seen) == 101


def test_is_private_and_small(tmp_path) -> None:
    InvalidationEpochs(tmp_path / "marks")
    status = (tmp_path / "marks").stat()
    assert (status.st_size, status.st_mode & 0o777) == (512 << 10, 0o600)


def test_a_file_that_was_replaced_is_opened_anew(tmp_path) -> None:
    marks = InvalidationEpochs(tmp_path / "marks", check_every=-1.0)
    before = marks.read("a")
    (tmp_path / "marks").unlink()
    changed = marks.read("a")
    assert changed != before  # what was marked in between cannot be known
    mark_elsewhere(tmp_path / "marks", "a")
    assert marks.read("a") != changed


def test_without_a_file_it_works_for_this_process(tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        marks = InvalidationEpochs(tmp_path / "missing" / "marks")
        before = marks.read("a")
        marks.mark("a")
    assert marks.read("a") != before
    assert len(caplog.records) == 1


def test_reading_is_cheap(tmp_path) -> None:
    marks = InvalidationEpochs(tmp_path / "marks")
    began = time.process_time()
    for _ in range(10_000):
        marks.read("sites/plot-12/north")
    assert (time.process_time() - began) / 10_000 < 50e-6


def test_a_private_folder_is_made_with_its_parents(tmp_path) -> None:
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    make_private(tmp_path / "a" / "b")


def test_a_folder_of_ours_that_is_open_is_closed(tmp_path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    make_private(tmp_path / "open")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_a_file_is_no_folder(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")
@pytest.mark.parametrize("link", [False, True], ids=["a folder", "a link to our folder"])
def test_what_belongs_to_somebody_else_is_refused(tmp_path, link: bool) -> None:
    path = tmp_path / "theirs"
    if link:
        (tmp_path / "ours").mkdir()
        path.symlink_to(tmp_path / "ours")
        os.chown(path, 12345, -1, follow_symlinks=False)
    else:
        path.mkdir()
        os.chown(path, 12345, -1)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        make_private(path)
