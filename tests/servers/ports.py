"""Ports on loopback for servers that are told where to listen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

#: below those that the kernel gives to sockets without a port of their own (ip_local_port_range, ip(7))
FIRST, END, BLOCK = 12_000, 32_000, 100
#: unix sockets by which this process has blocks of ports to itself
_reservations: list[socket.socket] = []


def free_port() -> int:
    """Return a port that nobody listens on, and that no other process of the tests returns while this one runs."""
    for port in _ports:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port is free from {FIRST} to {END}")


def _reserved() -> Iterator[int]:
    for first in range(FIRST, END, BLOCK):
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0image_repo-tests-{first}")  # an abstract name (unix(7)): it ends with the process
        except OSError:
            reservation.close()
        else:
            _reservations.append(reservation)
            yield from range(first, first + BLOCK)


_ports = _reserved()
