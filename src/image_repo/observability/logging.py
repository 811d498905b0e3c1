"""Logging: its destination and level; no secrets, and one line for each message.

Messages hold text of clients. So control characters are escaped and signatures of temporary URLs removed in the record
itself, for every handler that a user's own configuration may have.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.config
import logging.handlers
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
#: libraries that log too much, or again what is translated here
_NOISY = {"swiftclient": logging.CRITICAL, "keystoneauth": logging.ERROR, "keystoneclient": logging.ERROR}
_LIBRARIES = ("urllib3", "requests", "PIL", "werkzeug", "charset_normalizer", "stevedore")


def _encoded(text: str) -> str:
    """Return a pattern of a text with any of its characters percent-encoded, however often."""
    return "".join(f"(?:{re.escape(char)}|%(?:25)*{ord(char):02x})" for char in text)


_SECRET = re.compile(
    rf"(?P<name>{_encoded('temp_url_sig=')}|{_encoded('share=')}|{_encoded('signature=')}|X-(?:Auth|Storage|Subject)-Token['\"]?\s*[:=]\s*['\"]?"
    r"|Temp-URL-Key(?:-2)?['\"]?\s*[:=]\s*['\"]?)[^&\s'\"]+",
    re.IGNORECASE,
)
#: signatures in the paths of thumbor's and imgproxy's URLs, and the code at the end of a login
_SECRET_OF_PATH = re.compile(
    r"(?P<begin>(?<![\w%.~-])/(?:thumbor|imgproxy)/)[\w=%-]{20,}(?=/)|(?P<login>/login/callback\?)[^\s'\"]+"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class LogSettings:
    """Level and destination of the log.

    :param level: of ``logging``
    :param file: path of the log, None for standard error
    :param config: a Python logging configuration (INI or JSON) in place of both
    """

    level: int = logging.WARNING
    file: Path | None = None
    config: Path | None = None


def clean(text: str) -> str:
    """Return one line without secrets: control characters as ``\\x0a``, so that no client can forge a line."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", hide(text))


def hide(text: str) -> str:
    """Return the text without signatures, tokens and keys."""
    text = _SECRET_OF_PATH.sub(lambda match: (match["begin"] or match["login"]) + "…", text)
    return _SECRET.sub(lambda match: match["name"] + "…", text)


class CleanRecord(logging.LogRecord):
    """A record whose message is one clean line."""

    def getMessage(self) -> str:  # noqa: N802, the name that logging calls
        return clean(super().getMessage())


class CleanFormatter(logging.Formatter):
    """A formatter that removes secrets from tracebacks and keeps their lines."""

    def formatException(self, ei: object) -> str:  # noqa: N802, the name that logging calls
        return hide(super().formatException(ei))  # type: ignore[arg-type]


def configure(settings: LogSettings) -> None:
    """Configure the logging of the process; an earlier configuration is replaced.

    :raises OSError: when a file cannot be opened
    :raises ValueError: when the user's own configuration is invalid
    """
    logging.setLogRecordFactory(CleanRecord)
    logging.captureWarnings(True)
    if settings.config:
        _configure_by(settings.config)
        return
    handler = logging.handlers.WatchedFileHandler(settings.file, encoding="utf-8") if settings.file else _Stderr()
    handler.setFormatter(CleanFormatter(FORMAT))
    logging.basicConfig(level=settings.level, handlers=[handler], force=True)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(settings.level, logging.WARNING))
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(max(settings.level, level))


def write(lines: str) -> None:
    """Write whole lines, unchanged, to the destinations of the log.

    :raises OSError: when they cannot be written
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            with handler.lock or contextlib.nullcontext():
                if isinstance(handler, logging.handlers.WatchedFileHandler):
                    handler.reopenIfNeeded()
                if isinstance(handler, logging.FileHandler) and handler.stream is None:
                    handler.stream = handler._open()  # as the handler does before its first record (delay=True)
                handler.stream.write(lines)
                handler.flush()


def descriptors() -> list[int]:
    """Return the file descriptors that the log is written to."""
    streams = (handler.stream for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler))
    numbers = []
    for stream in streams:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # not open yet, or not a file
            numbers.append(stream.fileno())
    return numbers


class _Stderr(logging.StreamHandler[IO[str]]):
    """Standard error through a duplicate descriptor: uWSGI filters the usual one."""

    def __init__(self) -> None:
        super().__init__(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1))

    def close(self) -> None:
        super().close()
        self.stream.close()


def _configure_by(file: Path) -> None:
    if file.suffix == ".json":
        logging.config.dictConfig(json.loads(file.read_text(encoding="utf-8")))
        return
    file.open("rb").close()  # fileConfig ignores unreadable files
    try:
        logging.config.fileConfig(file, disable_existing_loggers=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file} is not a logging configuration: {error}") from error
