"""Which entries go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_repo.caches.eviction import Item, evict, is_due
from image_repo.config import LocalCacheConfiguration

ITEMS = [
    Item("old large", 400_000, 1.0),
    Item("old thumbnail", 2_000, 2.0),
    Item("new middle", 90_000, 3.0),
    Item("new thumbnail", 3_000, 4.0),
]
ALL = sum(item.size for item in ITEMS)


@pytest.mark.parametrize(
    ("priority", "order"),
    [
        ("newest", ["old large", "old thumbnail", "new middle", "new thumbnail"]),
        ("largest", ["old thumbnail", "new thumbnail", "new middle", "old large"]),
        ("smallest", ["old large", "new middle", "new thumbnail", "old thumbnail"]),
        ("thumbnail", ["old large", "new middle", "old thumbnail", "new thumbnail"]),
    ],
)
def test_each_priority_has_its_order(priority, order) -> None:
    everything_goes = LocalCacheConfiguration(
        max_elements=4, evict_free_threshold=1.0, evict_hysteresis=0.0, priority=priority
    )
    assert [item.path for item in evict(ITEMS, ALL, 4, everything_goes)] == order


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        (LocalCacheConfiguration(max_elements=5, max_size=0), 0),
        (LocalCacheConfiguration(max_elements=4, max_size=0), 2),
        (LocalCacheConfiguration(max_elements=0, max_size=ALL), 1),
        (LocalCacheConfiguration(max_elements=0, max_size=0), 0),
        (LocalCacheConfiguration(max_elements=4, max_size=0, evict_hysteresis=0.0), 1),
        (LocalCacheConfiguration(max_elements=1, max_size=0, evict_free_threshold=0.0, evict_hysteresis=0.0), 3),
    ],
    ids=["enough is free", "too many", "too large", "no limits", "no hysteresis", "no threshold"],
)
def test_as_many_go_as_must(limits, count) -> None:
    assert len(evict(ITEMS, ALL, len(ITEMS), limits)) == count


def test_of_equal_sizes_the_one_unused_for_longest_goes_first() -> None:
    items = [Item("b", 10, 2.0), Item("a", 10, 1.0), Item("c", 10, 3.0)]
    limits = LocalCacheConfiguration(max_elements=3, priority="smallest", evict_hysteresis=0.0)
    assert [item.path for item in evict(items, 30, 3, limits)] == ["a"]


def test_by_cost_what_is_dear_for_its_size_and_its_age_stays() -> None:
    items = [
        Item("cheap", 100_000, 1000.0, 0.01),
        Item("dear", 100_000, 1000.0, 0.3),
        Item("as dear, and large", 1_000_000, 1000.0, 0.3),
        Item("cheap, and used just now", 100_000, 1999.0, 0.01),
    ]
    limits = LocalCacheConfiguration(max_elements=1, priority="cost", evict_free_threshold=1.0, evict_hysteresis=0.0)
    order = [item.path for item in evict(items, 1_300_000, 4, limits)]
    assert order == ["cheap", "as dear, and large", "dear", "cheap, and used just now"]


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 1e9)), max_size=40),
    st.integers(0, 50_000),
    st.integers(0, 40),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from(["newest", "largest", "smallest", "thumbnail", "cost"]),
)
def test_afterwards_it_is_not_due_any_more(sizes, max_size, max_elements, threshold, hysteresis, priority) -> None:
    items = [Item(str(number), size, used) for number, (size, used) in enumerate(sizes)]
    limits = LocalCacheConfiguration(
        max_size=max_size,
        max_elements=max_elements,
        evict_free_threshold=threshold,
        evict_hysteresis=hysteresis,
        priority=priority,
    )
    total = sum(item.size for item in items)
    gone = evict(items, total, len(items), limits)
    assert len({item.path for item in gone}) == len(gone)
    left_size, left = total - sum(item.size for item in gone), len(items) - len(gone)
    assert not is_due(left_size, left, limits)
    assert bool(gone) <= is_due(total, len(items), limits)
