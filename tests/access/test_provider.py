"""The keys of an identity provider: fetched when needed, seldom, and kept while it cannot be reached."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from identity_provider import IdentityProvider, running_provider

from image_repo.access.provider import FETCH_TIMEOUT_S, Keys, ProviderKeys, fetch_json, fetch_keys, read_keys
from image_repo.errors import ProviderUnavailable


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as provider:
        yield provider


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def keys_of(provider: IdentityProvider, clock: Clock, file: Path | None = None) -> ProviderKeys:
    return ProviderKeys(partial(fetch_keys, None, provider.jwks_uri), file, clock=clock)


def test_discovery_names_the_keys(provider: IdentityProvider) -> None:
    assert fetch_keys(provider.issuer, None).keys() == {"first"}
    assert provider.fetches == ["/.well-known/openid-configuration", "/jwks"]


def test_a_discovery_document_of_another_issuer_is_refused(provider: IdentityProvider) -> None:
    with pytest.raises(ValueError, match="another issuer"):
        fetch_keys(f"{provider.issuer}/", None)


def test_unknown_key_ids_cost_the_provider_at_most_four_fetches_a_minute(
    provider: IdentityProvider, tmp_path: Path
) -> None:
    clock = Clock()
    processes = [keys_of(provider, clock, tmp_path / "oidc.json") for _ in range(3)]
    for second in range(60):
        clock.now = 1_000_000.0 + second
        for process in processes:
            for number in range(20):
                assert process.find(f"none-{second}-{number}") is None
    assert 1 <= len(provider.fetches) <= 4


def test_a_rotated_key_is_known_in_every_process_within_45_seconds(provider: IdentityProvider, tmp_path: Path) -> None:
    clock = Clock()
    processes = [keys_of(provider, clock, tmp_path / "oidc.json") for _ in range(3)]
    assert all(process.find("first") for process in processes)
    provider.keys = []
    provider.add_key("second")
    clock.now += 45
    assert all(process.find("second") for process in processes)
    assert all(process.find("first") is None for process in processes)


def test_known_keys_go_on_while_the_provider_is_down(provider: IdentityProvider, tmp_path: Path) -> None:
    clock = Clock()
    keys = keys_of(provider, clock, tmp_path / "oidc.json")
    assert keys.find("first")
    provider.status = 500
    for _ in range(3):
        clock.now += 3600
        assert keys.find("first")
        with pytest.raises(ProviderUnavailable):
            keys.find("second")
    assert keys_of(provider, clock, tmp_path / "oidc.json").find("first"), "after a restart too"


def test_without_keys_it_is_503_until_they_are_there(provider: IdentityProvider) -> None:
    clock = Clock()
    keys = keys_of(provider, clock)
    provider.status = 503
    for _ in range(2):  # the cooldown changes nothing of the answer
        with pytest.raises(ProviderUnavailable):
            keys.find("first")
    provider.status = 200
    clock.now += 20
    assert keys.find("first")


def test_old_keys_are_fetched_again(provider: IdentityProvider) -> None:
    clock = Clock()
    keys = keys_of(provider, clock)
    assert keys.find("first")
    provider.keys = []
    provider.add_key("second")
    clock.now += 301
    assert keys.find("first") is None


def test_a_token_without_key_id_has_the_only_key(provider: IdentityProvider) -> None:
    assert keys_of(provider, Clock()).find(None)
    provider.add_key("second")
    assert keys_of(provider, Clock()).find(None) is None


def test_a_provider_that_never_answers_costs_a_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"
        keys = ProviderKeys(partial(fetch_keys, None, url))
        began = time.monotonic()
        with pytest.raises(ProviderUnavailable):
            keys.find("first")
        assert time.monotonic() - began < FETCH_TIMEOUT_S + 2


def test_only_addresses_of_web_servers_are_fetched(tmp_path: Path) -> None:
    (tmp_path / "jwks").write_text("{}")
    with pytest.raises(ValueError, match="no address of a web server"):
        fetch_json(f"file://{tmp_path}/jwks", time.monotonic() + 5)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"keys": []},
        {"keys": {}},
        {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"keys": [{"kty": "RSA", "use": "enc"}]},
        {"keys": ["x"]},
    ],
    ids=str,
)
def test_a_set_without_keys_for_signatures_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="no key for signatures"):
        read_keys(document)


def test_a_damaged_shared_file_is_passed_over(provider: IdentityProvider, tmp_path: Path) -> None:
    file = tmp_path / "oidc.json"
    for text in ("", "{", "[]", '{"keys": 1}'):
        file.write_text(text)
        keys: Keys | None = keys_of(provider, Clock(), file).find("first")  # type: ignore[assignment]
        assert keys
