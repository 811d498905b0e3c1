"""Group commit: what threads write at the same time is written together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import until

from image_repo.concurrency.group_commit import GroupCommit
from image_repo.errors import CatalogueUnavailable


class Journal:
    """What was written, a group at a time; the first group waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.began, self.go = threading.Event(), threading.Event()

    def write(self, items: Sequence[int]) -> None:
        self.began.set()
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("13 cannot be written")
        self.groups.append(sorted(items))


def test_what_comes_while_a_group_is_written_is_the_next_group() -> None:
    journal = Journal()
    commit = GroupCommit(journal.write)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(commit, 0)
        assert journal.began.wait(10)
        others = [pool.submit(commit, number) for number in range(1, 6)]
        until(lambda: len(commit._waiting) == 5, "five to wait")
        journal.go.set()
        for future in (first, *others):
            future.result(10)
    assert journal.groups == [[0], [1, 2, 3, 4, 5]]


def test_one_item_that_cannot_be_written_fails_alone() -> None:
    journal = Journal()
    commit = GroupCommit(journal.write)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(commit, 0)
        assert journal.began.wait(10)
        others = [pool.submit(commit, number) for number in (12, 13, 14)]
        until(lambda: len(commit._waiting) == 3, "three to wait")
        journal.go.set()
        with pytest.raises(ValueError, match="13"):
            others[1].result(10)
        for future in (first, others[0], others[2]):
            future.result(10)
    assert sorted(number for group in journal.groups for number in group) == [0, 12, 14]


def test_where_nothing_can_be_written_a_group_fails_at_once() -> None:
    tries = []

    def write(items: Sequence[int]) -> None:
        tries.append(list(items))
        raise CatalogueUnavailable

    commit = GroupCommit(write)
    for number in range(3):
        with pytest.raises(CatalogueUnavailable):
            commit(number)
    assert tries == [[0], [1], [2]]
