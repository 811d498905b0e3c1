"""The shape of the settings tree, from its dataclasses: to check keys, for messages, and for the dump."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le

from image_repo.config import settings
from image_repo.config.readers import Sourced

#: the parts of a dotted name
Path = tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One node of the tree: a section, or a setting.

    :param section: the dataclass behind a section, None for a setting
    :param hint: its type without None
    :param nullable: whether null is a value
    """

    field: Field[Any]
    hint: Any
    nullable: bool
    section: type | None

    @property
    def help(self) -> str:
        return str(self.field.metadata["help"])

    @property
    def sourced(self) -> Sourced | None:
        """The mark of a setting whose value may come from the environment or a file."""
        return next((mark for mark in _marks(self.hint) if isinstance(mark, Sourced)), None)

    @property
    def is_size(self) -> bool:
        """Whether it is a number of bytes."""
        return self.hint in (settings.Bytes, settings.PositiveBytes)

    @property
    def is_mapping(self) -> bool:
        """Whether the user chooses its keys."""
        return get_origin(self.hint) is Mapping

    @property
    def is_structured(self) -> bool:
        """Whether its text in the environment is YAML."""
        return self.is_mapping or self.hint == settings.Rules

    @property
    def expected(self) -> str:
        """What is accepted, for people."""
        return _expected(self.hint) + (", or null" if self.nullable else "")


@functools.cache
def settings_of(section: type) -> dict[str, Setting]:
    """Return the settings and sections directly below a section, in the order of declaration."""
    hints = get_type_hints(section, include_extras=True)
    return {f.name: _setting(f, hints[f.name]) for f in fields(section)}


def leaves(section: type, above: Path = ()) -> Iterator[tuple[Path, Setting]]:
    """Yield every setting of the tree with its path."""
    for name, setting in settings_of(section).items():
        if setting.section:
            yield from leaves(setting.section, (*above, name))
        else:
            yield (*above, name), setting


def get(config: Any, path: Path) -> Any:
    """Return the value of a setting."""
    return functools.reduce(getattr, path, config)


def _setting(declared: Field[Any], hint: Any) -> Setting:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    real = [option for option in options if option is not type(None)]
    section = real[0] if isinstance(real[0], type) and is_dataclass(real[0]) else None
    return Setting(declared, real[0], len(real) < len(options), section)


def _marks(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def _expected(hint: Any) -> str:
    for known, words in _WORDS.items():
        if hint == known:
            return words
    bare = get_args(hint)[0] if _marks(hint) else hint
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(map(str, get_args(bare)))
    if bare in (int, float):
        return ("a whole number" if bare is int else "a number") + _range(hint)
    return {bool: "true or false", str: "text"}[bare]


def _range(hint: Any) -> str:
    least = next((mark.ge for mark in _marks(hint) if isinstance(mark, Ge)), None)
    above = next((mark.gt for mark in _marks(hint) if isinstance(mark, Gt)), None)
    most = next((mark.le for mark in _marks(hint) if isinstance(mark, Le)), None)
    if most is not None:
        return f" from {least} to {most}"
    return f" of at least {least}" if least is not None else f" above {above}"


_WORDS: dict[Any, str] = {
    settings.Bytes: "a size such as 67108864 or 64 MiB",
    settings.PositiveBytes: "a size above 0 such as 67108864 or 64 MiB",
    settings.Sides: "a width and a height from 1 to 10000 such as [50, 50] or 50x50",
    settings.Steps: "a list of sides from 1 to 10000",
    settings.Texts: "a list",
    settings.Kinds: "a list of " + ", ".join(get_args(settings.WritableKind)),
    settings.Presets: "names, each with parameters and their values",
    settings.Rules: "a list of rules, each with prefix, who, may and until",
    settings.Roles: "values of the claim, each with reader, writer or admin",
    settings.Credential: "text, env:NAME or file:PATH",
    settings.Secret: "text, env:NAME or file:PATH",
    settings.AuthVersion: "1, 2 or 3",
    settings.Interface: "public, internal or admin",
}
