"""Readers of single values: sizes with units, lists, and values from the environment or a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import core_schema

_BYTES = re.compile(r"([0-9]+) ?([KMGT])(?:i?B)?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIDES = re.compile(r"([0-9]+)(?: ?[x×,] ?([0-9]+))?")


def read_bytes(value: Any) -> Any:
    """Return the number of bytes of ``64 MiB``, ``64M`` or ``67108864``; units are powers of 1024."""
    match = _BYTES.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) * _UNITS[match[2].upper()] if match else value


def read_list(value: Any) -> Any:
    """Return the members of a list, or of text with commas between them."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def read_sides(value: Any) -> Any:
    """Return width and height of ``50x50``, or of ``50`` for a square."""
    match = _SIDES.fullmatch(value) if isinstance(value, str) else None
    return [match[1], match[2] or match[1]] if match else value


def read_auth_version(value: Any) -> Any:
    """Return the number of ``v3``, ``3`` or ``3.0``, as the identity services write it."""
    return value.lower().removeprefix("v").removesuffix(".0") if isinstance(value, str) else value


def read_interface(value: Any) -> Any:
    """Return ``public`` for the older spelling ``publicURL``."""
    return value.removesuffix("URL") if isinstance(value, str) else value


def is_moment(text: str) -> bool:
    """Return whether this is a date or a time (ISO 8601)."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class SourcedText(str):
    """Text with its source.

    :param source: ``env:NAME`` or ``file:PATH``; None for a literal in the configuration
    :param problem: why the source has no value, None where it has one
    """

    __slots__ = ("problem", "source")
    source: str | None
    problem: str | None

    def __new__(cls, value: str, source: str | None = None, problem: str | None = None) -> SourcedText:
        text = super().__new__(cls, value)
        text.source = source
        text.problem = problem
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.source, self.problem)


class SecretText(SourcedText):
    """Text that is never printed: its ``repr`` is its source. ``str`` gives the value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self.source or 'secret'}>"


@dataclass(frozen=True)
class Sourced:
    """Marks a setting whose value may come from the environment or a file."""

    secret: bool = False

    def text(self, value: str, source: str | None = None, problem: str | None = None) -> SourcedText:
        return (SecretText if self.secret else SourcedText)(value, source, problem)

    def resolve(self, value: str, environ: Mapping[str, str]) -> SourcedText:
        """Return the value, read from its source.

        :param value: the value, ``env:NAME`` or ``file:PATH``
        :returns: empty text with a ``problem`` where there is none: whether that matters depends on the other settings
        """
        if value.startswith("env:"):
            name = value.removeprefix("env:")
            content = environ.get(name, "")
            return self.text(content, value, None if content else f"the environment has no {name}")
        if value.startswith("file:"):
            return self._from_file(value)
        return self.text(value)

    def _from_file(self, source: str) -> SourcedText:
        path = Path(source.removeprefix("file:")).expanduser()
        try:
            text = path.read_text(encoding="utf-8").strip("\r\n")
        except OSError as error:
            return self.text("", source, f"{path} cannot be read: {error.strerror}")
        except ValueError:
            return self.text("", source, f"{path} cannot be read: it is not UTF-8 text")
        return self.text(text, source, None if text else f"{path} is empty")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._validate, handler(source))

    def _validate(self, value: Any, inner: Callable[[Any], str], info: ValidationInfo) -> SourcedText:
        if isinstance(value, SourcedText):
            text = value
        elif isinstance(value, str):
            text = self.resolve(value, (info.context or {}).get("environ", {}))
        else:
            return self.text(inner(value))
        return text if text.problem else self.text(inner(str(text)), text.source)
