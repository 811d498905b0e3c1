"""Near duplicates by their difference hashes."""

from __future__ import annotations

import pytest

from image_repo.catalogue.near import MAX_NAMES, near_names, read_near
from image_repo.errors import BadParameter

BLACK = bytes(8)


def test_each_name_is_returned_once_where_its_hash_differs_in_few_bits() -> None:
    candidates = [(BLACK, "a"), (BLACK, "a"), (b"\x7f" + BLACK[1:], "seven bits"), (b"\x3f" + BLACK[1:], "six bits")]
    assert near_names(read_near("near", BLACK.hex()), candidates) == ["a", "six bits"]


def test_more_near_duplicates_than_fit_into_memory_are_refused() -> None:
    condition = read_near("near", BLACK.hex())
    candidates = [(BLACK, str(number)) for number in range(MAX_NAMES + 1)]
    assert len(near_names(condition, candidates[:-1])) == MAX_NAMES
    with pytest.raises(BadParameter, match="100,000 images are near"):
        near_names(condition, candidates)
