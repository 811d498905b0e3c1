"""The ways in which image_repo itself can be set up for speed, beside the way it ships."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_BARE, _KEEPING = "image_repo", "image_repo, keep-alive"
#: name: the section and the setting that it needs, and its value
_WAYS: dict[str, tuple[str, str, Any]] = {_KEEPING: ("server", "keep_alive", True)}


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and settings; only what this version knows, and does not do anyway."""
    for name, (section, setting, value) in _WAYS.items():
        if _default(section, setting) not in (None, value):
            yield name, {section: {setting: value}}


def keeping_alive() -> str:
    """What tables call the one that keeps connections."""
    section, setting, value = _WAYS[_KEEPING]
    return _BARE if _default(section, setting) == value else _KEEPING


def _default(section: str, setting: str) -> Any:
    """What the configuration says where nothing is said; None for a setting that this version does not have."""
    from image_repo.config import Config  # noqa: PLC0415

    return getattr(getattr(Config(), section), setting, None)
