"""Sizing: which layer answers, and what reaches the store, for 10, 100 and 1,000 nodes; computed, not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.report import Section, Table
from bench.sizing import Cluster, Load, Popularity, load_of, lru_hits, simulated_lru

if TYPE_CHECKING:
    from bench.__main__ import Bench

RENDITIONS = 1_000_000_000
#: of the Zipf law: between what has been seen for web caches and a steep one
EXPONENTS = (0.8, 1.0)
NODES = (10, 100, 1_000)
ORIGINAL_MB, RENDITION_MB = 4.0, 0.02
#: of the check by a simulated cache
_CHECKED, _CAPACITY, _REQUESTS = 10_000, 500, 400_000


def run(bench: Bench) -> Section:
    node = Cluster(1)
    section = Section(
        "sizing", f"Sizing: {RENDITIONS:,} renditions under a Zipf law, {node.rate:,.0f} requests/s a node"
    )
    table = Table("", COLUMNS)
    for exponent in EXPONENTS:
        popularity = Popularity.zipf(RENDITIONS, exponent)
        for nodes in NODES:
            for is_hashed in (True, False):
                found = load_of(Cluster(nodes, is_hashed=is_hashed), popularity)
                table.rows.append(
                    [f"{exponent:g}", f"{nodes:,}", "by image" if is_hashed else "any", *row(found, nodes)]
                )
    section.tables.append(table)
    section.notes += [
        "Computed by Che's approximation (bench/sizing.py), for the long run.",
        f"Of a node: {node.memory:,} renditions in the memory of a process (256 MiB of 20 kB each), {node.disk:,} on "
        f"its disk (50 GB); in the cache container each for {node.lifetime_days:g} days.",
        f"Originals of {ORIGINAL_MB:g} MB. Mezzanines, which spare reads of originals, are left out.",
    ]
    popularity = Popularity.zipf(_CHECKED, 0.8)
    computed = popularity.mean(lru_hits(popularity, 1.0, _CAPACITY))
    error = abs(computed - simulated_lru(popularity, _CAPACITY, _REQUESTS))
    section.goal("hit ratio as computed against a simulated LRU cache", error, 0.01)
    return section


COLUMNS = [
    *("exponent", "nodes", "requests go to", "memory %", "disk %", "container %", "rendered %"),
    *("container look-ups/s", "originals read/s", "from the store MB/s", "renders/s a node"),
]


def row(found: Load, nodes: int) -> list[str]:
    """Return the figures of a row."""
    shares = [f"{share * 100:.1f}" for share in (found.memory, found.disk, found.container, found.rendered)]
    megabytes = found.renders * ORIGINAL_MB + (found.lookups - found.renders) * RENDITION_MB
    rates = [f"{rate:,.0f}" for rate in (found.lookups, found.renders, megabytes)]
    return [*shares, *rates, f"{found.renders / nodes:.1f}"]
