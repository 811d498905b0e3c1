"""The setting ``listen``: its parts, whether it is free, whether a server answers there."""

from __future__ import annotations

import socket

from image_repo.config import Config

#: a wildcard address → where it is reached from this machine
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def host_and_port(listen: str) -> tuple[str, int]:
    """Return the two parts of ``HOST:PORT``, an IPv6 host without its brackets."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def url(config: Config) -> str:
    """Return the URL of the server for a person on this machine."""
    host, port = host_and_port(config.listen)
    host = _LOOPBACK.get(host, host)
    return config.public_url or f"http://{f'[{host}]' if ':' in host else host}:{port}"


def check_is_free(listen: str) -> None:
    """Check that a server can listen there.

    :raises OSError: when it cannot, in words for a person
    """
    host, port = host_and_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except (OSError, UnicodeError) as error:
        raise OSError(f"cannot listen on {listen}: {getattr(error, 'strerror', None) or error}") from error


def answers(listen: str) -> bool:
    """Return whether a server there answers ``/livez`` with 200 within two seconds."""
    host, port = host_and_port(listen)
    try:
        with socket.create_connection((_LOOPBACK.get(host, host), port), timeout=2) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False
