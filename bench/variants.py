"""The ways in which image_repo itself can be set up for speed, beside the way it ships."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

KEEP_ALIVE = "image_repo, keep-alive"
#: name: the section and the setting that it needs, and its value
_WAYS: dict[str, tuple[str, str, Any]] = {KEEP_ALIVE: ("server", "keep_alive", True)}


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and settings; only what this version knows."""
    from image_repo.config import Config  # noqa: PLC0415

    config = Config()
    for name, (section, setting, value) in _WAYS.items():
        if any(known.name == setting for known in fields(getattr(config, section))):
            yield name, {section: {setting: value}}
