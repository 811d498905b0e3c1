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
from image_repo.errors import ConfigurationError

SOURCES = sorted(Path(image_repo.__file__).parent.rglob("*.py"))


def test_an_unknown_kind_of_store_is_a_mistake_in_the_configuration(tmp_path):
    config = embedded(tmp_path)
    settings = replace(config.persistent_store_configuration, kind="tape")
    with pytest.raises(ConfigurationError, match="kind: expected one of disk, swift"):
        wiring.build_stores(replace(config, persistent_store_configuration=settings), {})


def test_kind_auto_is_swift_where_the_environment_names_where_to_sign_in(tmp_path):
    config = embedded(tmp_path)
    settings = replace(config.persistent_store_configuration, kind="auto")
    config = replace(config, persistent_store_configuration=settings)
    environ = {"OS_AUTH_URL": "http://127.0.0.1:1/auth/v1.0", "OS_USERNAME": "a:b", "OS_PASSWORD": "c"}
    assert wiring.build_stores(config, {}).origin.description.startswith("folder")
    assert wiring.build_stores(config, environ).origin.description.startswith("Swift container")


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
