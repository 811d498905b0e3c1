"""Options that all verbs share, and what follows from them: the configuration and the repository."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from image_repo.cli.progress import Step, report_progress
from image_repo.config import Config, load
from image_repo.errors import ConfigurationError
from image_repo.observability.logging import LogSettings, configure

if TYPE_CHECKING:
    from image_repo.repository.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, path_type=Path)
#: of one reason
_MAX_SUBJECTS = 20
DRY_RUN = click.option("--dry-run", is_flag=True, help="Report what would change, and change nothing.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PARAMETERS = click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")


@dataclass
class Options:
    """Common options, before the verb or behind it."""

    config: Path | None = None
    test_run: bool = False
    verbose: bool = False
    debug: bool = False
    quiet: bool = False
    critical: bool = False
    log_file: Path | None = None
    config_log_file: Path | None = None
    intolerant: bool = False
    listen: str | None = None
    pid_file: Path | None = None
    reload: bool = False
    _config: list[Config] = field(default_factory=list)

    def add(self, values: Mapping[str, Any]) -> None:
        """Set the options that have a value; others keep theirs."""
        for name, value in values.items():
            if value:
                setattr(self, name, value)

    @property
    def path(self) -> Path | None:
        """Return the configuration file, if there is one."""
        path = self.config or os.environ.get("IMAGE_REPO_CONFIG") or None
        return Path(path) if path else None

    @property
    def overrides(self) -> dict[str, Any]:
        """Return the settings that the command line decides."""
        overrides = {
            "persistent_store_configuration.kind": "disk" if self.test_run else None,
            "listen": self.listen,
            "pid_file": str(self.pid_file) if self.pid_file else None,
        }
        return {name: value for name, value in overrides.items() if value is not None}

    @property
    def log_settings(self) -> LogSettings:
        """Return level and files of the log; the loudest and the quietest option win."""
        level = logging.WARNING
        if self.verbose:
            level = logging.INFO
        if self.debug:
            level = logging.DEBUG
        if self.quiet or self.critical:
            level = logging.CRITICAL
        return LogSettings(level, self.log_file, self.config_log_file)

    def load(self) -> Config:
        """Return the configuration, or end the command with every mistake in it."""
        if not self._config:
            try:
                configure(self.log_settings)
                self._config.append(load(self.path, os.environ, overrides=self.overrides))
            except ConfigurationError as error:
                fail(*error.mistakes)
            except (OSError, ValueError) as error:
                fail(f"the log cannot be set up: {error}")
        return self._config[0]

    def repo(self) -> Repository:
        """Return the live repository."""
        from image_repo import wiring  # noqa: PLC0415, verbs without a repository start faster

        return wiring.build(self.load())

    def repo_with_store(self) -> Repository:
        """Return the live repository, after a check of its store: one message instead of one for each file.

        :raises StoreUnavailable: if the store cannot be reached
        """
        repo = self.repo()
        try:
            repo.origin.check(create=self.load().create_new)
        except BaseException:
            repo.close()
            raise
        return repo

    def progress(self, label: str, length: int) -> AbstractContextManager[Step]:
        """Report progress unless the command is quiet.

        :param length: number of steps
        """
        return nullcontext(lambda steps: None) if self.quiet else report_progress(label, length)

    def say(self, text: str) -> None:
        """Print a line unless the command is quiet."""
        if not self.quiet:
            click.echo(text)


def fail(*lines: str) -> NoReturn:
    """End the command with status 1 and lines on standard error."""
    for line in lines:
        click.secho(line, err=True, fg="red")
    raise SystemExit(1)


def print_failures(failures: Iterable[tuple[str, str]]) -> None:
    """Print subjects and reasons; a reason that many share is printed with the first of them.

    :param failures: subject and reason
    """
    subjects_by_reason: dict[str, list[str]] = {}
    for subject, reason in sorted(failures):
        subjects_by_reason.setdefault(reason, []).append(subject)
    for reason, subjects in subjects_by_reason.items():
        for subject in subjects[:_MAX_SUBJECTS]:
            click.echo(f"{subject}: {reason}", err=True)
        if len(subjects) > _MAX_SUBJECTS:
            click.echo(f"… and {len(subjects) - _MAX_SUBJECTS} more: {reason}", err=True)


def describe_error(error: OSError) -> str:
    """Return path and reason of an error."""
    if error.strerror is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else error.strerror


def parse_pairs(parameters: tuple[str, ...]) -> dict[str, str]:
    """Return ``PARAMETER=VALUE`` arguments as a dictionary.

    :raises click.UsageError: for anything else, and for a parameter that is given twice
    """
    pairs: dict[str, str] = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or name in pairs:
            raise click.UsageError(f"Expected each PARAMETER=VALUE once, but received {text!r}.")
        pairs[name] = value
    return pairs


def _all_of(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_COMMON = {
    "config": click.option("-y", "--yaml-config", "config", type=FILE, metavar="FILE", help="Read settings from FILE."),
    "test_run": click.option("-T", "--test-run", is_flag=True, help="Use a local store only; do not contact Swift."),
    "verbose": click.option("-v", "--verbose", is_flag=True, help="Log what is done."),
    "debug": click.option("-V", "--debug", is_flag=True, help="Log everything."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Print and log nothing but critical errors."),
    "critical": click.option("-C", "--critical", is_flag=True, help="Log critical errors only."),
    "log_file": click.option("-l", "--log-file", type=FILE, metavar="FILE", help="Write the log to FILE."),
    "config_log_file": click.option(
        "-c", "--config-log-file", type=FILE, metavar="FILE", help="Python logging configuration (INI or JSON)."
    ),
    "intolerant": click.option("-i", "--intolerant", is_flag=True, help="End if the start causes a warning."),
}
common = _all_of(*_COMMON.values())
serving = _all_of(
    click.option("--listen", metavar="HOST:PORT", help="Listen on this address (default 127.0.0.1:5000)."),
    click.option("--pid-file", type=FILE, metavar="FILE", help="Write the process id to FILE."),
    click.option("--reload", is_flag=True, help="Restart when the code changes; for development."),
    click.option("-B", "--background", is_flag=True, help="Serve in the background."),
    click.option("-S", "--stop", is_flag=True, help="Stop the server that runs in the background."),
    click.option("-R", "--restart", is_flag=True, help="Reload settings and code without losing a request."),
    click.option("-a", "--attached", is_flag=True, help="Stay attached to the terminal (the default)."),
)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Add the common options to a verb, behind its own, and pass it the :class:`Options`."""

    @common
    @click.pass_obj
    @wraps(function)
    def run(options: Options, /, **values: Any) -> None:
        options.add({name: values.pop(name) for name in _COMMON})
        function(options, **values)

    return run
