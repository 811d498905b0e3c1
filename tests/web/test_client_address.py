"""Whose address a client has: that of its connection, or what a trusted proxy says."""

from __future__ import annotations

import pytest

from image_repo.web.client_address import TrustedProxies, is_host_reliable, is_local, network_of, normalise

PROXIES = TrustedProxies(("10.0.0.0/8", "::1"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
        ("10.0.0.1", "10.1.1.1", "10.1.1.1"),
        ("::1", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.1", "198.51.100.7:5000", "198.51.100.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
    ],
    ids=["no proxy", "a claim of anybody", "a proxy", "a claim before it", "two proxies", "all are proxies", "IPv6",
         "a port", "no address", "IPv4 in IPv6"],
)  # fmt: skip
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(peer: str, forwarded: str | None, client: str) -> None:
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert PROXIES.client_of(environ) == client


def test_scheme_and_host_of_a_trusted_proxy_count_and_nothing_of_another() -> None:
    forwarded = {"HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "museum.org", "HTTP_FORWARDED": "for=x"}
    believed = {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "http", "HTTP_HOST": "a", **forwarded}
    PROXIES.apply(believed)
    assert believed == {"REMOTE_ADDR": "10.0.0.1", "wsgi.url_scheme": "https", "HTTP_HOST": "museum.org"}
    ignored = {"REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http", "HTTP_HOST": "a", **forwarded}
    PROXIES.apply(ignored)
    assert ignored.pop("image_repo.is_passed_on") is True
    assert ignored == {"REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "http", "HTTP_HOST": "a"}


@pytest.mark.parametrize(
    ("peer", "headers", "reliable"),
    [
        ("192.0.2.1", {}, True),
        ("10.0.0.1", {}, True),
        ("10.0.0.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.1", "HTTP_X_FORWARDED_HOST": "museum.org"}, True),
        ("10.0.0.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.1"}, False),
        ("10.0.0.1", {"HTTP_X_FORWARDED_HOST": "museum.org, proxy.internal"}, False),
        ("10.0.0.1", {"HTTP_VIA": "1.1 front"}, False),
        ("192.0.2.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.9", "HTTP_X_FORWARDED_HOST": "museum.org"}, False),
    ],
    ids=["no proxy", "no header", "trusted", "no host", "two hosts", "only via", "not trusted"],
)
def test_host_is_reliable_unless_a_proxy_passes_on_without_it(
    peer: str, headers: dict[str, str], reliable: bool
) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_HOST": "a", **headers}
    PROXIES.apply(environ)
    assert is_host_reliable(environ) is reliable


@pytest.mark.parametrize(
    ("environ", "local"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, True),
        ({"REMOTE_ADDR": "::1"}, True),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, True),
        ({"REMOTE_ADDR": "192.0.2.1"}, False),
        ({"REMOTE_ADDR": ""}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_VIA": "1.1 front"}, False),
        ({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, True),
        ({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, False),
    ],
)
def test_a_client_is_local_unless_a_proxy_that_is_not_trusted_passes_it_on(
    environ: dict[str, str], local: bool
) -> None:
    PROXIES.apply(environ)
    assert is_local(environ) is local


def test_whether_a_client_is_local_changes_nothing_for_the_next_request_of_its_connection() -> None:
    first = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}
    PROXIES.apply(first)
    assert not is_local(first)
    second = {"REMOTE_ADDR": "0.0.0.0", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    PROXIES.apply(second)
    assert second["REMOTE_ADDR"] == "203.0.113.9"


def test_a_further_request_of_a_connection_has_its_address() -> None:
    """uWSGI tells it with the first alone."""
    assert PROXIES.client_of({"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "198.51.100.7"}) == "198.51.100.7"
    assert PROXIES.client_of({"REMOTE_ADDR": "0.0.0.0", "HTTP_X_FORWARDED_FOR": "198.51.100.8"}) == "198.51.100.8"


def test_all_addresses_of_a_network_of_ipv6_are_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert normalise("nonsense") == ""
