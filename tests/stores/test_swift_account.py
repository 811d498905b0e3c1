"""Whose containers they are is what Swift says after signing in, not what the configuration spells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers.faults import FaultProxy

from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.stores.swift import SwiftStore
from image_repo.stores.swift_account import canonical
from image_repo.stores.swift_pool import ConnectionPool


def identity(swift: Any, folder: Path | None = None, **credentials: str) -> str:
    settings = replace(swift.settings, credentials=replace(swift.settings.credentials, **credentials))
    pool = ConnectionPool(settings, settings.credentials, folder)
    try:
        return SwiftStore(pool, settings, "photos").identity
    finally:
        pool.close()


@pytest.mark.parametrize(
    "spelling", ["http://S.example/v1/AUTH_a", "http://s.example:80/v1/AUTH_a/", "http://s.example./v1/AUTH%5Fa"]
)
def test_a_storage_url_has_one_spelling(spelling: str) -> None:
    assert canonical(spelling) == "http://s.example:80/v1/AUTH_a"


@pytest.mark.servers
def test_one_account_has_one_identity_however_its_address_is_spelled(swift) -> None:
    given = {"auth_version": "1"}, {"tenant": "anything"}, {"region": "anywhere"}, {}
    assert len({identity(swift, **credentials) for credentials in given}) == 1


@pytest.mark.servers
def test_an_account_is_known_while_swift_cannot_be_reached(swift, tmp_path) -> None:
    with FaultProxy(swift.port) as proxy:
        address = f"http://127.0.0.1:{proxy.port}/auth/v1.0"
        before = identity(swift, tmp_path, authurl=address)
        proxy.fail("refuse")
        assert identity(swift, tmp_path, authurl=address) == before
        assert identity(swift, None, authurl=address) != before
    stored = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "AUTH_test" in stored
    assert "testing" not in stored


@pytest.mark.servers
def test_two_projects_that_no_setting_names_have_two_identities(keystone, tmp_path) -> None:
    """Keystone takes the default project of the user: the settings differ in nothing that is a place."""
    identities = []
    for user in ("demo", "other"):
        given = Credentials(authurl=keystone["url"], username=user, password=f"{user}pass")
        settings = PersistentStoreConfiguration(kind="swift", credentials=given)
        pool = ConnectionPool(settings, given, tmp_path)
        identities.append(SwiftStore(pool, settings, "photos").identity)
        pool.close()
    assert keystone["project_id"] in identities[0]
    assert keystone["project_id"] not in identities[1]
