"""Settings of a store that several nodes share."""

from __future__ import annotations

from typing import Any

import pytest


def settings_of_shared(request: pytest.FixtureRequest, kind: str, container: str) -> dict[str, Any]:
    """A Swift container or an S3 bucket, with one PostgreSQL for all nodes."""
    if kind == "swift":
        store = swift_settings(request.getfixturevalue("swift"), container)
    else:
        store = bucket_settings(request.getfixturevalue("moto"), container)
    return {
        "create_new": True,
        "persistent_store_configuration": store,
        "swift_cache_configuration": {"enabled": False},
        "catalogue": {"url": request.getfixturevalue("postgres")},
    }


def swift_settings(swift: Any, container: str) -> dict[str, Any]:
    credentials = {"authurl": f"{swift.url}/auth/v1.0", "username": "test:tester", "password": "testing"}
    return {"kind": "swift", "container": container, "credentials": credentials}


def bucket_settings(endpoint: str, container: str) -> dict[str, Any]:
    credentials = {"access_key_id": "a", "secret_access_key": "b", "endpoint": endpoint}
    return {"kind": "s3", "container": container, "credentials": credentials}
