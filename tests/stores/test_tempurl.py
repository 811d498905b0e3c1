"""Signing of temporary URLs: Swift's scheme, and how long they hold."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_repo.errors import LinkExpired, LinkRefused
from image_repo.stores.tempurl import LinkBase, expiry, signature, temporary_url, verify

BASE = LinkBase("https://swift.example.org", "/v1/AUTH_test/c ü/", "secret-of-the-container")
PATH = "/v1/AUTH_test/c/a.jpg"
NOW = 1_700_000_000.0

times = st.floats(0, 4e9)
seconds = st.integers(1, 10_000_000)
#: what a sum of floating-point seconds may be off
TICK = 1e-5


@given(times, seconds, st.integers(0, 10_000_000))
def test_a_link_holds_as_long_as_asked_and_little_longer(now, lifetime, slack):
    left = expiry(now, lifetime, slack) - now
    assert lifetime - TICK <= left <= lifetime + max(1, min(slack, lifetime)) + TICK


@given(st.integers(0, 4_000_000_000), seconds, st.integers(1, 10_000_000), st.data())
def test_within_the_slack_the_same_request_gives_the_same_url(now, lifetime, slack, data):
    first = expiry(now, lifetime, slack)
    later = data.draw(st.integers(now, first - lifetime))
    assert expiry(later, lifetime, slack) == first
    assert expiry(first - lifetime + 1, lifetime, slack) == first + min(slack, lifetime)


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        ("sha1", "004068d92f6f402309950a3f8bfb7da794f6028d"),
        ("sha256", "516060d3016f5c54b6c1f17e1d4f7f6957ddacd47f5ea69085c21994d8a359c3"),
        ("sha512", "06673f8fd4771469f096b2b114fe7a00c414f91931ef9a586b77e84ed2305d12"
                   "57191a267215fc2b13a1a2a5ab4a18fd6d1dcc432e5eaa7b9686ef6635fa864f"),
    ],
)  # fmt: skip
def test_the_signature_is_the_hmac_of_method_expiry_and_path(digest, expected):
    """Expected: ``printf 'GET\\n1800000000\\n/v1/AUTH_test/c/a.jpg' | openssl dgst -sha256 -hmac one``."""
    assert signature("one", digest, PATH, 1_800_000_000) == expected


names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)


@given(names, names, st.integers(0, 10**11))
def test_a_url_says_what_was_signed(key, filename, expires):
    url = urlsplit(temporary_url(BASE, key, expires, filename))
    query = parse_qs(url.query, keep_blank_values=True, strict_parsing=False)
    assert (url.scheme, url.netloc) == ("https", "swift.example.org")
    assert unquote(url.path) == BASE.path + key
    assert query["filename"] == [filename]
    assert query["inline"] == [""]
    assert url.geturl().isascii()
    verify([BASE.secret], unquote(url.path), query["temp_url_sig"][0], query["temp_url_expires"][0], expires - 1.0)


def test_the_secret_is_not_shown():
    assert BASE.secret not in repr(BASE)
    assert BASE.secret not in temporary_url(BASE, "a.jpg", 1, "a.jpg")


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
@pytest.mark.parametrize("secret", ["one", "two"])
def test_either_key_and_digest_is_accepted(secret, digest):
    verify(["one", "two"], PATH, signature(secret, digest, PATH, 1_800_000_000), "1800000000", NOW)


GOOD = signature("one", "sha256", PATH, 1_800_000_000)


@pytest.mark.parametrize(
    ("secrets", "path", "given", "expires"),
    [
        (["two"], PATH, GOOD, "1800000000"),
        ([], PATH, GOOD, "1800000000"),
        (["one"], PATH + "x", GOOD, "1800000000"),
        (["one"], PATH, GOOD, "1800000001"),
        (["one"], PATH, GOOD[:-1], "1800000000"),
        (["one"], PATH, GOOD.upper(), "1800000000"),
        (["one"], PATH, "", "1800000000"),
        (["one"], PATH, "ü\udcff", "1800000000"),
        (["one"], PATH, GOOD, ""),
        (["one"], PATH, GOOD, "-1"),
        (["one"], PATH, GOOD, "1e9"),
        (["one"], PATH, GOOD, "１８００００００００"),
        (["one"], PATH, GOOD, "1" * 5000),
        (["one"], PATH, signature("one", "sha1", PATH, 1_800_000_000), "1800000000"),
        (["one"], PATH, signature("one", "sha256", PATH, 1_800_000_000, "PUT"), "1800000000"),
    ],
    ids=[
        "another key", "no key", "another path", "another expiry", "a part of it", "another spelling", "nothing",
        "no ASCII", "no expiry", "a negative one", "one with an exponent", "full-width digits", "5,000 digits",
        "SHA-1", "another method",
    ],
)  # fmt: skip
def test_what_was_not_signed_is_refused(secrets, path, given, expires):
    with pytest.raises(LinkRefused):
        verify(secrets, path, given, expires, NOW)


def test_after_its_time_it_is_told_apart():
    verify(["one"], PATH, GOOD, "1800000000", 1_799_999_999.9)
    with pytest.raises(LinkExpired):
        verify(["one"], PATH, GOOD, "1800000000", 1_800_000_000.0)
    with pytest.raises(LinkRefused):
        verify(["two"], PATH, GOOD, "1800000000", 1_900_000_000.0)
