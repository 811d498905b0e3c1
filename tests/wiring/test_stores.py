"""The composition root chooses stores by their kind, and asks for capabilities, never for classes."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from webserver import embedded

import image_repo
from image_repo import wiring
from image_repo.config import Config, PersistentStoreConfiguration, load
from image_repo.config.settings import SwiftCacheConfiguration
from image_repo.errors import ConfigurationError

SOURCES = sorted(Path(image_repo.__file__).parent.rglob("*.py"))


def test_an_unknown_kind_of_store_is_a_mistake_in_the_configuration(tmp_path):
    config = embedded(tmp_path)
    settings = replace(config.persistent_store_configuration, kind="tape")
    with pytest.raises(ConfigurationError, match="kind: expected one of disk, swift, s3"):
        wiring.build_stores(replace(config, persistent_store_configuration=settings))


def stores_of(folder: Path, environ: dict[str, str], kind: str = "auto") -> wiring.Stores:
    """The stores of a configuration that the environment completes."""
    store = "persistent_store_configuration"
    return wiring.build_stores(load(None, environ, overrides={f"{store}.kind": kind, f"{store}.path": str(folder)}))


def test_kind_auto_is_swift_where_the_environment_names_where_to_sign_in(tmp_path):
    environ = {"OS_AUTH_URL": "http://127.0.0.1:1/auth/v1.0", "OS_USERNAME": "a:b", "OS_PASSWORD": "c"}
    assert stores_of(tmp_path, {}).origin.description.startswith("folder")
    assert stores_of(tmp_path, environ).origin.description.startswith("Swift container")


@pytest.mark.parametrize("kind", ["auto", "s3"])
def test_kind_auto_is_s3_where_the_environment_names_a_bucket(tmp_path, kind):
    stores = stores_of(tmp_path, {"S3_BUCKET": "photos", "S3_ENDPOINT": "http://127.0.0.1:1"}, kind)
    assert "bucket 'photos' at http://127.0.0.1:1" in stores.origin.description


def test_with_s3_the_bucket_of_the_renditions_is_that_of_the_originals_by_default(tmp_path):
    config = Config(persistent_store_configuration=PersistentStoreConfiguration(kind="s3", container="photos"))
    stores = wiring.build_stores(config)
    assert stores.origin.identity == stores.cache.identity
    other = replace(config, swift_cache_configuration=SwiftCacheConfiguration(container="renditions"))
    assert "'renditions'" in wiring.build_stores(other).cache.description


def test_a_bucket_and_a_sign_in_to_swift_together_ask_for_a_kind(tmp_path):
    environ = {"S3_BUCKET": "photos", "OS_AUTH_URL": "http://127.0.0.1:1/auth/v1.0"}
    with pytest.raises(ConfigurationError, match="kind: expected s3 or swift"):
        stores_of(tmp_path, environ)


def test_s3_without_its_library_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['boto3'] = None\n"
        "from image_repo import wiring\nfrom image_repo.config import Config, PersistentStoreConfiguration\n"
        "settings = PersistentStoreConfiguration(kind='s3', container='photos')\n"
        "wiring.build_stores(Config(persistent_store_configuration=settings))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "pip install 'image_repo[s3]'" in run.stderr


def test_nobody_asks_for_the_class_of_a_store():
    calls = [
        (path.name, node.lineno)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and ast.unparse(node.args[1]).endswith("Store")
    ]
    assert calls == []


def test_importing_the_stores_changes_no_logger_of_another_library():
    code = (
        "import logging; names = ('swiftclient', 'keystoneauth', 'urllib3');"
        "import image_repo.wiring; print([logging.getLogger(name).level for name in names])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[0, 0, 0]"
