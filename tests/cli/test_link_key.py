"""The verb ``link-key``, on a real Swift: the configured key, and no key replaced unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from swiftserved import house

from image_repo.cli import startup
from image_repo.cli.keys import set_link_key
from image_repo.errors import NameConflict

pytestmark = pytest.mark.servers

KEY, OTHER = "a key of more than thirty-two characters", "another key of more than thirty-two characters"


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path, url_key_create=False) as building:
        yield building


def keyed(building, key: str | None):
    settings = replace(building.config.persistent_store_configuration, url_key=key)
    return replace(building.config, persistent_store_configuration=settings)


def test_link_key_sets_the_configured_key_and_replaces_none_unasked(building) -> None:
    assert set_link_key(keyed(building, KEY), second=False)[1] == KEY
    assert building.cache.stored_link_keys()[:2] == (KEY, "")
    assert set_link_key(keyed(building, KEY), second=False)[1] == KEY
    for config in (keyed(building, OTHER), keyed(building, None)):
        with pytest.raises(NameConflict, match="--force"):
            set_link_key(config, second=False)
    assert building.cache.stored_link_keys()[:2] == (KEY, "")
    set_link_key(keyed(building, OTHER), second=False, force=True)
    assert building.cache.stored_link_keys()[:2] == (OTHER, KEY)


def test_a_configured_key_that_is_not_the_containers_is_found_by_the_check(building) -> None:
    set_link_key(keyed(building, KEY), second=False)
    assert startup._check_links(keyed(building, KEY), building.cache).ok
    finding = startup._check_links(keyed(building, OTHER), building.cache)
    assert not finding.ok
    assert "link-key" in finding.detail
