"""Ports on loopback for servers that are told where to listen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FIRST, END, BLOCK = 12_000, 65_536, 100
#: the ports that the kernel gives to sockets without a port of their own, ends included (ip(7))
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: unix sockets by which this process has blocks of ports to itself
_reservations: list[socket.socket] = []


def free_port() -> int:
    """Return a port that nobody listens on, and that no other process of the tests returns while this one runs."""
    with _lock:
        for port in _ports:
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free that the kernel does not give away")


def fixed_ports(ephemeral: str) -> range:
    """Return the ports that the kernel gives to nobody: those below its own, or above where these are more.

    :param ephemeral: its lowest and its highest port; where they leave no block, all ports are returned
    """
    lowest, highest = map(int, ephemeral.split())
    ports = max(range(FIRST, lowest), range(highest + 1, END), key=len)
    return ports if len(ports) >= BLOCK else range(FIRST, END)


def _reserved() -> Iterator[int]:
    ports = fixed_ports(EPHEMERAL.read_text())
    for first in ports[::BLOCK]:
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0image_repo-tests-{first}")  # an abstract name (unix(7)): it ends with the process
        except OSError:
            reservation.close()
        else:
            _reservations.append(reservation)
            yield from range(first, min(first + BLOCK, ports.stop))


_lock = threading.Lock()
_ports = _reserved()
