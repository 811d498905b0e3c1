"""A settings tree as commented YAML, which means the same when it is loaded again."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import yaml

from image_repo.config.loading import variable_of
from image_repo.config.readers import SourcedText
from image_repo.config.settings import GIB, KIB, MIB, Config
from image_repo.config.tree import Path, Setting, settings_of

_LINE_WIDTH = 110
_INDENT = "  "
_HEAD = """\
# The settings of image_repo, each with its default or what is in force.
# Every one can also be set in the environment: IMAGE_REPO_LISTEN, IMAGE_REPO_SERVER__PROCESSES …
"""


def dump(config: Config) -> str:
    """Return every setting with its help, as YAML.

    A secret is replaced by its source. One that is a literal in the configuration has no source: the dump names the
    environment variable of its setting instead.
    """
    return _HEAD + "\n".join(_section(config, ())) + "\n"


def _section(section: Any, above: Path) -> Iterator[str]:
    indent = _INDENT * len(above)
    for name, setting in settings_of(section.__class__).items():
        path = (*above, name)
        value = getattr(section, name)
        if not above or setting.section:
            yield ""
        yield from _comment(_help(setting, value), indent)
        if setting.section:
            yield f"{indent}{name}:"
            yield from _section(value, path)
        else:
            yield f"{indent}{name}:{_value(value, setting, path, indent)}"


def _help(setting: Setting, value: Any) -> str:
    if setting.section:
        return setting.help
    hint = "; the value is not printed, put it there" if _is_literal_secret(value, setting) else ""
    return f"{setting.help} [{setting.expected}{hint}]"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _LINE_WIDTH - len(indent), break_on_hyphens=False):
        yield f"{indent}# {line}"


def _is_literal_secret(value: Any, setting: Setting) -> bool:
    mark = setting.sourced
    return value is not None and mark is not None and mark.secret and not getattr(value, "source", None)


def _value(value: Any, setting: Setting, path: Path, indent: str) -> str:
    if _is_literal_secret(value, setting):
        return f" env:{variable_of(path)}"
    if isinstance(value, SourcedText):
        return " " + _flow(value.source or str(value))
    if setting.is_size:
        return " " + _size(value)
    if setting.is_mapping and value:
        plain = {name: dict(item) if isinstance(item, Mapping) else item for name, item in value.items()}
        block = yaml.safe_dump(plain, default_flow_style=False, allow_unicode=True, sort_keys=False)
        return "\n" + textwrap.indent(block.rstrip("\n"), indent + _INDENT)
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        value = [asdict(item) for item in value]
    return " " + _flow(list(value) if isinstance(value, tuple) else dict(value) if setting.is_mapping else value)


def _flow(value: Any) -> str:
    """Return one value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _size(bytes_: int) -> str:
    """Return a number of bytes in the largest unit that is exact."""
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if bytes_ and bytes_ % size == 0:
            return f"{bytes_ // size} {unit}"
    return str(bytes_)
