"""Ports of the servers that tests start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from servers.ports import fixed_ports, free_port


@pytest.mark.parametrize(
    ("ephemeral", "ports"),
    [
        ("32768\t60999\n", range(12_000, 32_768)),
        ("20000 65535", range(12_000, 20_000)),
        ("10000 50000", range(50_001, 65_536)),
        ("13000 50000", range(50_001, 65_536)),
        ("1024 65535", range(12_000, 65_536)),
    ],
    ids=["by default", "a low one", "none below", "few below", "none at all"],
)
def test_ports_are_those_that_the_kernel_gives_to_nobody(ephemeral: str, ports: range) -> None:
    assert fixed_ports(ephemeral) == ports


def test_threads_get_ports_of_their_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(lambda _: free_port(), range(64)))
    assert len(set(ports)) == 64
