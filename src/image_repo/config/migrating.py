"""Migrate a configuration file of the first image_repo: rename, move and drop settings, and say so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from image_repo.config import rules
from image_repo.config.loading import Draft, line_of, only_known, read_file, remove, validate
from image_repo.config.readers import SourcedText
from image_repo.config.settings import Config
from image_repo.config.tree import Path, get
from image_repo.errors import ConfigurationError

_STORE, _SWIFT = "persistent_store_configuration", "swift_cache_configuration"
#: former setting → setting; a setting that has a value already keeps it
_MOVES: tuple[tuple[Path, Path], ...] = (
    *(((name,), (_STORE,)) for name in ("persisent_store_configuration", "persisent_store", "persistent_store")),
    ((_STORE, "agent"), (_STORE,)),
    *(((_SWIFT, name), (_STORE, name)) for name in ("credentials", "url_key", "url_lifetime", "url_lifetime_slack")),
    *(((*section, "initialise_store"), ("create_new",)) for section in ((), (_STORE,), (_SWIFT,))),
    *(((*section, "use_file_cache"), ("local_cache_configuration", "enabled")) for section in ((), (_STORE,))),
    (("local_cache_configuration", "evict_hysterysis"), ("local_cache_configuration", "evict_hysteresis")),
)
_SIDES = ("thumbnail_default_xsize", "thumbnail_default_ysize")


def migrate(path: File, environ: Mapping[str, str]) -> tuple[Config, list[str]]:
    """Return the settings of a file of the first image_repo, and a line for each one that is moved or dropped.

    :param environ: the values of ``env:NAME``; a missing one is kept as it is
    :raises ConfigurationError: if the file cannot be read
    """
    draft = Draft()
    read_file(draft, path)
    if draft.mistakes:
        raise ConfigurationError(draft.mistakes)
    for former, setting in _MOVES:
        _move(draft, former, setting)
    _join_sides(draft)
    draft.values = only_known(draft, draft.values, Config, ())
    config = validate(draft, environ)
    for setting, message in rules.first_violations(config).items():
        value = get(config, setting)
        if not (isinstance(value, SourcedText) and value.problem):
            draft.mistake(setting, f"is dropped: {message}")
            remove(draft.values, setting)
    return validate(draft, environ), sorted(dict.fromkeys(draft.mistakes), key=line_of)


def _move(draft: Draft, former: Path, setting: Path) -> None:
    value = _take(draft.values, former)
    if value is None:
        return
    draft.mistake(former, f"is now {'.'.join(setting)}")
    for name in [each for each in draft.places if each[: len(former)] == former]:
        draft.places.setdefault((*setting, *name[len(former) :]), draft.places[name])
    section = _section(draft.values, setting[:-1])
    present = section.get(setting[-1])
    if isinstance(value, dict) and isinstance(present, dict | None):
        section[setting[-1]] = {**value, **(present or {})}
    elif present is None:
        section[setting[-1]] = value


def _join_sides(draft: Draft) -> None:
    """Replace the two sides of thumbnails by one setting."""
    sides = [_take(draft.values, (name,)) for name in _SIDES]
    if sides == [None, None]:
        return
    default = [str(side) for side in Config().thumbnail_default_size]
    draft.values["thumbnail_default_size"] = [side or other for side, other in zip(sides, default, strict=True)]
    for name, side in zip(_SIDES, sides, strict=True):
        if side is not None:
            draft.mistake((name,), "is now a number of thumbnail_default_size")


def _section(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a section of the tree; it is created if it is missing."""
    for name in path:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    return values


def _take(values: dict[str, Any], path: Path) -> Any:
    """Remove a value from the tree and return it; None if there is none."""
    section: Any = values
    for name in path[:-1]:
        section = section.get(name)
        if not isinstance(section, dict):
            return None
    return section.pop(path[-1], None)
