"""The address of a client: that of its connection, or the one that a trusted proxy forwards for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: uWSGI's address of a client that sends a further request over its connection
SAME_CLIENT = "0.0.0.0"  # noqa: S104
#: what one client of IPv6 has as a rule
_IPV6_PREFIX = 64
_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED")
#: what proxies add to a request
_BY_PROXIES = frozenset((*_FORWARDED, "HTTP_X_REAL_IP", "HTTP_VIA"))
#: environ key: whether a proxy that is not trusted has passed the request on
_IS_PASSED_ON = "image_repo.is_passed_on"
#: environ key: whether a trusted proxy has passed the request on without the host that the client sent
_LACKS_HOST = "image_repo.lacks_forwarded_host"


class _Connection(threading.local):
    """The connection of this thread; each has one at a time."""

    peer = ""


_connection = _Connection()


def peer_of(environ: WSGIEnvironment) -> str:
    """Return the address of the connection. Call it for each request: uWSGI sets it for a connection's first alone."""
    address: str = environ.get("REMOTE_ADDR", "")
    if address == SAME_CLIENT:
        return _connection.peer
    _connection.peer = address
    return address


def normalise(address: str) -> str:
    """Return the canonical text of an IP address without its port; empty for anything else."""
    text = address.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ip_address(text)
    except ValueError:
        return ""
    return str(ip.ipv4_mapped if isinstance(ip, IPv6Address) and ip.ipv4_mapped else ip)


def is_local(environ: WSGIEnvironment) -> bool:
    """Return whether the client is on this machine; not where a proxy here that is not trusted has passed it on.

    Called after :meth:`TrustedProxies.apply`, where there is a proxy.
    """
    return not is_passed_on(environ) and is_loopback(environ.get("REMOTE_ADDR", ""))


def is_passed_on(environ: WSGIEnvironment) -> bool:
    """Return whether a proxy that is not trusted has passed the request on."""
    return bool(environ.get(_IS_PASSED_ON)) or not _BY_PROXIES.isdisjoint(environ)


def is_host_reliable(environ: WSGIEnvironment) -> bool:
    """Return whether Host is that of the client: a proxy that forwards no host may have replaced it."""
    return not is_passed_on(environ) and _LACKS_HOST not in environ


def is_loopback(host: str) -> bool:
    """Return whether a host, or an address, is this machine to itself alone."""
    address = normalise(host)
    return host == "localhost" or (bool(address) and ip_address(address).is_loopback)


def network_of(address: str) -> str:
    """Return what counts as one client: an address of IPv4, a /64 of IPv6 (RFC 6177)."""
    return str(ip_network((address, _IPV6_PREFIX), strict=False)) if ":" in address else address


def client_key(environ: Mapping[str, Any]) -> str:
    """Return what counts as one client; called after :meth:`TrustedProxies.apply`, where there is a proxy."""
    return network_of(normalise(environ.get("REMOTE_ADDR", "")))


class TrustedProxies:
    """The proxies whose ``X-Forwarded-*`` counts.

    :param networks: addresses or networks in CIDR notation
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network) for network in networks]
        self.trusts = lru_cache(1024)(self._trusts)

    def _trusts(self, address: str) -> bool:
        """Return whether the address is that of a trusted proxy."""
        ip = normalise(address)
        return bool(ip) and any(ip_address(ip) in network for network in self._networks)

    def client_of(self, environ: WSGIEnvironment) -> str:
        """Return the address of the client: the last that no trusted proxy has."""
        address = peer_of(environ)
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if forwarded is not None and self.trusts(address):
            for text in reversed(forwarded.split(",")):
                address = normalise(text) or address
                if not self.trusts(address):
                    break
        return address

    def apply(self, environ: WSGIEnvironment) -> None:
        """Put client, scheme and host as a trusted proxy forwards them into the environ; drop what another forwards."""
        is_trusted = self.trusts(peer_of(environ))
        environ["REMOTE_ADDR"] = self.client_of(environ)
        if is_trusted:
            scheme, host = environ.get("HTTP_X_FORWARDED_PROTO"), environ.get("HTTP_X_FORWARDED_HOST")
            if scheme in ("http", "https"):
                environ["wsgi.url_scheme"] = scheme
            if host and "," not in host:
                environ["HTTP_HOST"] = host
            elif not _BY_PROXIES.isdisjoint(environ):
                environ[_LACKS_HOST] = True
        elif not _BY_PROXIES.isdisjoint(environ):
            environ[_IS_PASSED_ON] = True
        for name in _BY_PROXIES:
            environ.pop(name, None)
