"""Serving: in the foreground, in the background, stop and restart."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from image_repo.cli.options import Options, common, fail
from image_repo.cli.options import serving as serving_options
from image_repo.config import Config
from image_repo.server import address, process, signals, uwsgi

#: options that exclude one another
MODES = ("background", "stop", "restart", "attached")


@click.command("serve")
@serving_options
@common
@click.pass_obj
def serve_command(options: Options, /, **values: Any) -> None:
    """Serve (the default without a verb)."""
    modes = {name: values.pop(name) for name in MODES}
    options.add(values)
    serve(options, **modes)


def serve(options: Options, *, background: bool, stop: bool, restart: bool, attached: bool) -> None:
    """Serve, or stop or restart a server in the background."""
    if sum((background, stop, restart)) > 1:
        raise click.UsageError("-B, -S and -R exclude one another.")
    if attached and background:
        raise click.UsageError("-a and -B exclude one another.")
    config = options.load()
    pid_file = Path(config.pid_file)
    pid = process.find_running(pid_file)
    if stop:
        _stop(options, pid, pid_file)
    elif restart and pid:
        process.restart(pid, pid_file, config.listen)
        options.say(f"The server (pid {pid}) has restarted.")
    elif background or restart:
        _start(options, config, pid, pid_file)
    else:
        _run(options, config)


def _stop(options: Options, pid: int | None, pid_file: Path) -> None:
    if pid is None:
        pid_file.unlink(missing_ok=True)
        fail(f"No server is running with its process id in {pid_file}.")
    process.stop(pid, pid_file)
    options.say(f"The server (pid {pid}) has stopped.")


def _start(options: Options, config: Config, running: int | None, pid_file: Path) -> None:
    if running:
        fail(f"A server runs already (pid {running}, {pid_file}); -R restarts it, -S stops it.")
    pid_file.unlink(missing_ok=True)
    log_file = options.log_file or Path(os.devnull)
    pid = process.start(_foreground_command(options, config), config, pid_file, log_file)
    options.say(f"The server (pid {pid}) answers on {address.url(config)}.")


def _foreground_command(options: Options, config: Config) -> list[str]:
    """Return the command that serves in the foreground with the same options."""
    flags = {"-T": options.test_run, "-v": options.verbose, "-V": options.debug, "-q": options.quiet}
    flags |= {"-C": options.critical, "-i": options.intolerant, "--reload": options.reload}
    values = {"-y": options.path, "-l": options.log_file, "-c": options.config_log_file, "--listen": options.listen}
    values["--pid-file"] = Path(config.pid_file)
    arguments = [flag for flag, on in flags.items() if on]
    arguments += [str(part) for name, value in values.items() if value for part in (name, value)]
    return [sys.executable, "-m", "image_repo", "serve", *arguments]


def _run(options: Options, config: Config) -> None:
    from image_repo.cli import startup  # noqa: PLC0415, it imports the repository

    signals.end_while_loading()
    with startup.collect_warnings() as warnings:
        hints = startup.prepare(config)
    if options.intolerant and warnings:
        fail("The start was warned about, and -i allows no warnings:", *warnings)
    if not uwsgi.is_reload():
        for line in hints:
            options.say(line)
    uwsgi.serve(config, pid_file=options.pid_file, reload=options.reload, verbose=options.verbose or options.debug)
