"""Logging: where it goes and how much of it; nothing secret in it, and one line for one message.

What a stranger sends ends up in messages. So control characters are written out, and
signatures of temporary URLs are taken out, in the record itself: whichever handlers a
configuration of the user's own has.
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
#: libraries that say too much, or say again what we translate
_TALKATIVE = {"swiftclient": logging.CRITICAL, "keystoneauth": logging.ERROR, "keystoneclient": logging.ERROR}
_LIBRARIES = ("urllib3", "requests", "PIL", "werkzeug", "charset_normalizer", "stevedore")

_SECRET = re.compile(
    r"(?P<name>temp_url_sig=|X-(?:Auth|Storage|Subject)-Token['\"]?\s*[:=]\s*['\"]?|Temp-URL-Key(?:-2)?['\"]?\s*[:=]\s*['\"]?)"
    r"[^&\s'\"]+",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class LogSettings:
    """How much is told, and where.

    :param level: of ``logging``
    :param file: path of the log, None for standard error
    :param config: a Python logging configuration (INI or JSON) that says all of it instead
    """

    level: int = logging.WARNING
    file: Path | None = None
    config: Path | None = None


def clean(text: str) -> str:
    """One line without signatures: control characters as ``\\x0a``, so that nobody can forge a line."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", hide(text))


def hide(text: str) -> str:
    """Without signatures, tokens and keys."""
    return _SECRET.sub(lambda found: found["name"] + "…", text)


class CleanRecord(logging.LogRecord):
    """A record whose message is one clean line."""

    def getMessage(self) -> str:  # noqa: N802, the name that logging calls
        return clean(super().getMessage())


class CleanFormatter(logging.Formatter):
    """Tracebacks keep their lines, and lose their secrets."""

    def formatException(self, ei: object) -> str:  # noqa: N802, the name that logging calls
        return hide(super().formatException(ei))  # type: ignore[arg-type]


def configure(settings: LogSettings) -> None:
    """Sets logging up. What was set up before is replaced.

    :raises OSError: when a file cannot be opened
    :raises ValueError: when the configuration of the user's own cannot be used
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
    for name, level in _TALKATIVE.items():
        logging.getLogger(name).setLevel(max(settings.level, level))


def write(lines: str) -> None:
    """Writes whole lines, as they are, to wherever the log goes.

    :raises OSError: when they cannot be written
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            with handler.lock or contextlib.nullcontext():
                if isinstance(handler, logging.handlers.WatchedFileHandler):
                    handler.reopenIfNeeded()
                if isinstance(handler, logging.FileHandler) and handler.stream is None:
                    handler.stream = handler._open()  # as it does itself before its first record (delay=True)
                handler.stream.write(lines)
                handler.flush()


def descriptors() -> list[int]:
    """The open files that the log is written to."""
    streams = (handler.stream for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler))
    found = []
    for stream in streams:
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none is open yet, or it is no file
            found.append(stream.fileno())
    return found


class _Stderr(logging.StreamHandler[IO[str]]):
    """Standard error under a descriptor of our own: the server filters what goes through the usual one."""

    def __init__(self) -> None:
        super().__init__(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1))

    def close(self) -> None:
        super().close()
        self.stream.close()


def _configure_by(file: Path) -> None:
    if file.suffix == ".json":
        logging.config.dictConfig(json.loads(file.read_text(encoding="utf-8")))
        return
    file.open("rb").close()  # fileConfig passes over files that it cannot read
    try:
        logging.config.fileConfig(file, disable_existing_loggers=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{file} is no logging configuration: {error}") from error
