"""The command line. Without a verb it serves."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from image_repo import __version__
from image_repo.access.principal import ADMIN
from image_repo.config import Config, dump, load
from image_repo.errors import ConfigurationError, Problem
from image_repo.observability.logging import LogSettings, clean, configure
from image_repo.server import address, process, uwsgi

if TYPE_CHECKING:
    from image_repo.exchange.base import ImportOutcome
    from image_repo.repository.repository import Repository

log = logging.getLogger("image_repo")
F = TypeVar("F", bound=Callable[..., Any])

_EXAMPLES = """\b
Examples:
  image_repo                                serve ./image_repo_data on http://127.0.0.1:5000
  image_repo -Yt > config.yml               every setting with its help, to start from
  image_repo -y config.yml -t               check the configuration and reach the store
  image_repo -y config.yml -B -l repo.log   serve in the background; -R restarts, -S stops
  image_repo put pictures/ --prefix sites   upload a folder; what is there already is skipped
  image_repo get sites/north xsize=300 -o north.jpg
  image_repo link sites/north thumbnail=True
  image_repo export species=fox -o foxes.zip
  image_repo import foxes.zip               or a folder, or what a neighbour has left behind
\b
Exit status: 0 all went well; 1 something did not, and was said; 2 the command line was not understood.
"""


@dataclass
class Options:
    """What was said on the command line, before the verb or behind it."""

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

    def add(self, given: Mapping[str, Any]) -> None:
        """Takes what was said; what was not said there leaves what was said before."""
        for name, value in given.items():
            if value:
                setattr(self, name, value)

    @property
    def path(self) -> Path | None:
        """The configuration file, if there is one."""
        named = self.config or os.environ.get("IMAGE_REPO_CONFIG") or None
        return Path(named) if named else None

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings that the command line decides."""
        said = {
            "persistent_store_configuration.kind": "disk" if self.test_run else None,
            "listen": self.listen,
            "pid_file": str(self.pid_file) if self.pid_file else None,
        }
        return {name: value for name, value in said.items() if value is not None}

    @property
    def log_settings(self) -> LogSettings:
        """How much is told, and where: the loudest and the most silent option win."""
        level = logging.WARNING
        if self.verbose:
            level = logging.INFO
        if self.debug:
            level = logging.DEBUG
        if self.quiet or self.critical:
            level = logging.CRITICAL
        return LogSettings(level, self.log_file, self.config_log_file)

    def load(self) -> Config:
        """The configuration; the command ends with every mistake in it told."""
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
        """The live repository, for verbs."""
        from image_repo import wiring  # noqa: PLC0415, a verb like link-key or -Y has no use for all of it

        return wiring.build(self.load())

    def say(self, text: str) -> None:
        """Tells a person what is going on, unless silence is wanted."""
        if not self.quiet:
            click.echo(text)


def fail(*lines: str) -> NoReturn:
    """Ends the command: something did not go well."""
    for line in lines:
        click.echo(line, err=True)
    raise SystemExit(1)


def _options(*added: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(added):
            function = option(function)
        return function

    return decorate


_FILE = click.Path(dir_okay=False, path_type=Path)
common = _options(
    click.option("-y", "--yaml-config", "config", type=_FILE, metavar="FILE", help="Settings."),
    click.option("-T", "--test-run", is_flag=True, help="Local store only: Swift is not contacted."),
    click.option("-v", "--verbose", is_flag=True, help="Tell what is done."),
    click.option("-V", "--debug", is_flag=True, help="Tell everything."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but what is critical."),
    click.option("-C", "--critical", is_flag=True, help="Log only what is critical."),
    click.option("-l", "--log-file", type=_FILE, metavar="FILE", help="Log there."),
    click.option(
        "-c", "--config-log-file", type=_FILE, metavar="FILE",
        help="Python logging configuration (INI or JSON).",
    ),
    click.option("-i", "--intolerant", is_flag=True, help="Whatever is warned about at the start ends it."),
)  # fmt: skip
serving = _options(
    click.option("--listen", metavar="HOST:PORT", help="Where to listen (default 127.0.0.1:5000)."),
    click.option("--pid-file", type=_FILE, metavar="FILE", help="Where the process id is left."),
    click.option("--reload", is_flag=True, help="Start anew whenever the code changes; for working on it."),
    click.option("-B", "--background", is_flag=True, help="Serve in the background."),
    click.option("-S", "--stop", is_flag=True, help="Stop the server that runs in the background."),
    click.option("-R", "--restart", is_flag=True, help="Let it read settings and code anew; no request is lost."),
    click.option("-a", "--attached", is_flag=True, help="Stay attached to the terminal (what happens anyway)."),
)


_MODES = ("background", "stop", "restart", "attached")


class Verbs(click.Group):
    """Errors that are meant for people are told without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Problem as problem:
            log.debug("%s", problem, exc_info=True)
            fail(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)
        except (OSError, TimeoutError) as error:
            log.debug("%s", error, exc_info=True)
            fail(str(error))


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        # the first image_repo wrote --yaml_config
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
    epilog=_EXAMPLES,
)
@common
@serving
@click.option("-Y", "--dump-yaml", is_flag=True, help="Print every setting as YAML, and end.")
@click.option("-t", "--trial-run", is_flag=True, help="Check the settings, reach the store, and end.")
@click.version_option(__version__, prog_name="image_repo")
@click.pass_context
def main(ctx: click.Context, /, dump_yaml: bool, trial_run: bool, **given: Any) -> None:
    """Any picture of a repository, in any size and format, by one URL.

    Without a verb it serves. Settings come from -y FILE (or IMAGE_REPO_CONFIG), then from
    the environment (IMAGE_REPO_…), then from the command line. Swift is used when its usual OS_* variables
    are there, else a folder.
    """
    options = ctx.ensure_object(Options)
    modes = {name: given.pop(name) for name in _MODES}
    options.add(given)
    if dump_yaml:
        _dump(options)
    elif trial_run:
        _trial(options)
    elif ctx.invoked_subcommand is None:
        _serve(options, **modes)
    elif ctx.invoked_subcommand != "serve" and any(modes.values()):
        raise click.UsageError("-B, -S, -R and -a are for serving, not for another verb.")


def _dump(options: Options) -> None:
    click.echo(dump(options.load() if options.path else Config()), nl=False)
    raise click.exceptions.Exit(0)


def _trial(options: Options) -> None:
    from image_repo.cli import pictures  # noqa: PLC0415

    findings = pictures.trial(options.load())
    for finding in findings:
        options.say(str(finding))
    raise click.exceptions.Exit(0 if all(finding.ok for finding in findings) else 1)


@main.command("serve")
@common
@serving
@click.pass_obj
def serve_command(
    options: Options, /, background: bool, stop: bool, restart: bool, attached: bool, **given: Any
) -> None:
    """Serve (what happens without a verb)."""
    options.add(given)
    _serve(options, background=background, stop=stop, restart=restart, attached=attached)


def _serve(options: Options, *, background: bool, stop: bool, restart: bool, attached: bool) -> None:
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
        options.say(f"The server (pid {pid}) has started anew.")
    elif background or restart:
        _start(options, config, pid, pid_file)
    else:
        _run(options, config)


def _stop(options: Options, pid: int | None, pid_file: Path) -> None:
    if pid is None:
        pid_file.unlink(missing_ok=True)
        fail(f"No server runs that left its process id in {pid_file}.")
    process.stop(pid, pid_file)
    options.say(f"The server (pid {pid}) has stopped.")


def _start(options: Options, config: Config, running: int | None, pid_file: Path) -> None:
    if running:
        fail(f"A server runs already (pid {running}, {pid_file}); -R restarts it, -S stops it.")
    pid_file.unlink(missing_ok=True)
    log_file = options.log_file or Path(os.devnull)
    pid = process.start(_foreground(options, config), config, pid_file, log_file)
    options.say(f"The server (pid {pid}) answers on {address.url(config)}.")


def _foreground(options: Options, config: Config) -> list[str]:
    """The command that serves as this one was asked to, in the foreground."""
    flags = {"-T": options.test_run, "-v": options.verbose, "-V": options.debug, "-q": options.quiet}
    flags |= {"-C": options.critical, "-i": options.intolerant, "--reload": options.reload}
    named = {"-y": options.path, "-l": options.log_file, "-c": options.config_log_file, "--listen": options.listen}
    named["--pid-file"] = Path(config.pid_file)
    said = [flag for flag, on in flags.items() if on]
    said += [str(part) for name, value in named.items() if value for part in (name, value)]
    return [sys.executable, "-m", "image_repo", "serve", *said]


def _run(options: Options, config: Config) -> None:
    from image_repo.cli import pictures  # noqa: PLC0415

    with pictures.warnings() as told:
        hints = pictures.prepare(config)
    if options.intolerant and told:
        fail("The start was warned about, and -i allows no warnings:", *told)
    if not uwsgi.is_reload():
        for line in hints:
            options.say(line)
    uwsgi.serve(config, pid_file=options.pid_file, reload=options.reload, verbose=options.verbose or options.debug)


# -- the verbs ----------------------------------------------------------------------------


_PARAMETERS = click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")


def _pairs(parameters: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        if not equals or name in pairs:
            raise click.UsageError(f"Expected each PARAMETER=VALUE once, but received {text!r}.")
        pairs[name] = value
    return pairs


@main.command()
@common
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--prefix", default="", metavar="PATH", help="Put them below this path of the repository.")
@click.pass_obj
def put(options: Options, /, folder: Path, prefix: str, **given: Any) -> None:
    """Upload every picture of a folder, under its path there.

    May be repeated, after an interruption too: pictures that are there with the same bytes are skipped. Files that are
    no pictures are named at the end.
    """
    from image_repo.cli import pictures  # noqa: PLC0415

    options.add(given)
    with closing(options.repo()) as repo:
        files = pictures.files_below(folder)
        with click.progressbar(length=len(files), label="Uploading", file=sys.stderr) as bar:
            report = pictures.put(repo, folder, files, prefix, lambda: bar.update(1))
    for file in sorted(report.no_pictures):
        click.echo(f"{file}: is no picture", err=True)
    for file, reason in sorted(report.failed):
        click.echo(f"{file}: {reason}", err=True)
    options.say(
        f"{report.stored} stored, {report.skipped} there already, {len(report.no_pictures)} no pictures, "
        f"{len(report.failed)} failed."
    )
    if report.failed:
        raise SystemExit(1)


@main.command()
@common
@click.argument("name")
@_PARAMETERS
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="Write it there instead of to standard output.")
@click.pass_obj
def get(options: Options, /, name: str, parameters: tuple[str, ...], output: Path | None, **given: Any) -> None:
    """Get one picture, made as the parameters say.

    \b
    image_repo get sites/north xsize=300 kind=webp -o north.webp
    image_repo get sites/north kind=original > north.jpg
    """
    from image_repo.cli import pictures  # noqa: PLC0415

    options.add(given)
    pairs = _pairs(parameters)
    if output is None and sys.stdout.isatty():
        raise click.UsageError("A picture is no sight in a terminal: say -o FILE, or redirect the output.")
    with closing(options.repo()) as repo:
        chunks = pictures.get(repo, *pictures.find(repo, options.load(), name, pairs))
        with click.open_file(str(output or "-"), "wb", atomic=output is not None) as file:
            file.writelines(chunks)


@main.command()
@common
@click.argument("name")
@_PARAMETERS
@click.option("--lifetime", type=click.IntRange(min=1), metavar="SECONDS", help="How long it holds at least.")
@click.pass_obj
def link(options: Options, /, name: str, parameters: tuple[str, ...], lifetime: int | None, **given: Any) -> None:
    """Print a temporary URL of a picture, made as the parameters say."""
    from image_repo.cli import pictures  # noqa: PLC0415

    options.add(given)
    config = options.load()
    most = config.persistent_store_configuration.url_lifetime_most
    if lifetime and lifetime > most:
        raise click.UsageError(f"Expected --lifetime of at most {most} (url_lifetime_most).")
    with closing(options.repo()) as repo:
        current, recipe = pictures.find(repo, config, name, _pairs(parameters))
        made = repo.links.create(ADMIN, current, recipe, lifetime, pictures.filename(current, recipe))
    click.echo(address.url(config) + made.url if made.url.startswith("/") else made.url)


@main.command()
@common
@click.argument("target", metavar="NAME|PATH/")
@click.pass_obj
def purge(options: Options, /, target: str, **given: Any) -> None:
    """Remove what was rendered of an image, or of all below a path, from every cache. Originals stay."""
    from image_repo.cli import pictures  # noqa: PLC0415

    options.add(given)
    with closing(options.repo()) as repo:
        images, gone = pictures.purge(repo, target)
    told = ", ".join(f"{number} from {layer}" for layer, number in gone.items() if number)
    options.say(f"{images} looked at; removed: {told or 'nothing'}.")


@main.command()
@common
@click.argument("prefix", metavar="PATH/", default="")
@_PARAMETERS
@click.option(
    "--preset", "presets", multiple=True, metavar="NAME", help="A preset of the settings; several may be named."
)
@click.pass_obj
def warm(options: Options, /, prefix: str, parameters: tuple[str, ...], presets: tuple[str, ...], **given: Any) -> None:
    """Make the pictures that will be asked for, of all images below a path, so that nobody waits for them.

    \b
    image_repo warm sites/ --preset card --preset thumb
    image_repo warm "" xsize=300 kind=webp
    """
    from image_repo.cli import pictures  # noqa: PLC0415
    from image_repo.model.names import parse_prefix  # noqa: PLC0415

    options.add(given)
    config, said = options.load(), _pairs(parameters)
    wanted = [{"preset": preset, **said} for preset in presets] or [said]
    with closing(options.repo()) as repo:
        images = list(repo.reader.images(ADMIN, parse_prefix(prefix)))
        with click.progressbar(length=len(images), label="Warming", file=sys.stderr) as bar:
            report = pictures.warm(repo, config, images, wanted, lambda: bar.update(1))
    for name, reason in sorted(report.failed):
        click.echo(f"{name}: {reason}", err=True)
    options.say(f"{report.made} made, {report.there} there already, {len(report.failed)} failed.")
    if report.failed:
        raise SystemExit(1)


@main.command()
@common
@click.pass_obj
def check(options: Options, /, **given: Any) -> None:
    """Read every original, artifact and snapshot, and tell what is not as it should be.

    Bytes that are not those that were uploaded, names with two originals, records without one, a catalogue that is
    damaged. Nothing is changed. That the catalogue is a little behind is told, and is no fault.
    """
    from image_repo.cli import catalogue, pictures  # noqa: PLC0415

    options.add(given)
    with closing(options.repo()) as repo:
        walked = pictures.walk(repo)
        with click.progressbar(length=len(walked.originals), label="Reading", file=sys.stderr) as bar:
            wrong = list(pictures.check(repo, walked, lambda: bar.update(1)))
        wrong += pictures.check_beside(options.load(), repo)
        broken, behind = catalogue.differences(repo)
    wrong += broken
    for line in wrong:
        click.echo(line)
    for line in behind:
        click.echo(line, err=True)
    options.say(f"{len(walked.originals)} images, {len(walked.records)} records, {len(walked.others)} other objects.")
    if wrong:
        raise SystemExit(1)


@contextmanager
def _bar(what: str, length: int) -> Iterator[Callable[[int], object]]:
    """A progress bar; it is told how many more."""
    with click.progressbar(length=length, label=what, file=sys.stderr) as bar:
        yield bar.update


@main.command()
@common
@click.option("--from-scratch", is_flag=True, help="Throw away what there is first.")
@click.pass_obj
def rebuild(options: Options, /, from_scratch: bool, **given: Any) -> None:
    """Make the catalogue tell what the container holds.

    A server does it by itself; this is quicker. It may be interrupted: what is there already is not read again.
    """
    from image_repo.cli import catalogue  # noqa: PLC0415

    options.add(given)
    with closing(options.repo()) as repo:
        report = catalogue.rebuild(options.load(), repo, _bar, from_scratch=from_scratch)
    for name, reason in report.failed:
        click.echo(f"{name}: {reason}", err=True)
    done = report.images
    options.say(
        f"{done.there} images, {report.artifacts.there} artifacts: {done.written + report.artifacts.written} written, "
        f"{done.removed + report.artifacts.removed} removed, {report.read} originals read."
    )
    if report.failed:
        raise SystemExit(1)


@main.command()
@common
@click.argument("keys", nargs=-1, metavar="[KEY | KEY,SORTKEY]...")
@click.option("--drop", is_flag=True, help="No longer.")
@click.option("--list", "listed", is_flag=True, help="Tell which keys are kept in order.")
@click.pass_obj
def index(options: Options, /, keys: tuple[str, ...], drop: bool, listed: bool, **given: Any) -> None:
    """Let the catalogue keep keys in order, so that queries for them are quick.

    \b
    image_repo index width data.site        filters by width; by a member of data
    image_repo index data.site,uploaded     filters by the site, sorted by time
    """
    from image_repo.cli import catalogue  # noqa: PLC0415

    options.add(given)
    if listed == bool(keys) or (drop and not keys):
        raise click.UsageError("Expected keys, or --list.")
    wanted = [catalogue.read_key(key) for key in keys]
    with closing(options.repo()) as repo:
        if drop:
            unknown = catalogue.forget_order(repo.indexer.index, wanted)
        else:
            unknown = []
            catalogue.keep_in_order(repo.indexer.index, wanted)
        kept = sorted(map(catalogue.show_key, repo.indexer.index.indexed()))
    for key in kept:
        click.echo(key)
    if unknown:
        fail(*(f"{catalogue.show_key(key)} was not kept in order." for key in unknown))


@main.command()
@common
@click.argument("arguments", nargs=-1, metavar="[PATH/] [FILTER | PARAMETER=VALUE]...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE.zip|DIR", help="Write it there."
)
@click.option(
    "--originals/--rendered", default=None, help="Pictures as they were uploaded, or without metadata. "
    "Originals unless xsize, ysize, kind, quality, fit or thumbnail say how they are made.",
)  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["coco", "camtrap", "croissant"]), help="Tell of them so too.")
@click.pass_obj
def export(
    options: Options, /, arguments: tuple[str, ...], output: Path, originals: bool | None, format_: str | None,
    **given: Any,
) -> None:  # fmt: skip
    """Write pictures and what is known of them into a zip or a folder, from which import takes them back.

    \b
    image_repo export -o all.zip
    image_repo export sites/ species=fox width__gte=1000 -o foxes.zip
    image_repo export text=badger xsize=640 kind=webp --format coco -o badgers
    """
    from image_repo.cli import exchange  # noqa: PLC0415

    options.add(given)
    config = options.load()
    asked = exchange.read_export(config, arguments, originals=originals, format=format_)
    with closing(options.repo()) as repo:
        made = exchange.export(config, repo, asked, output, _bar)
    options.say(f"{made.pictures} pictures, {made.descriptions} descriptions, {made.missing} missing: {output}")
    for name in made.notes:
        options.say(f"What could not be told of them is in {name}.")
    if made.missing:
        fail("What is missing is told in _missing.txt.")


@main.command("import")
@common
@click.argument("path", metavar="PATH", type=click.Path(exists=True, path_type=Path))
@click.option("--prefix", default="", metavar="PATH", help="Put them below this path of the repository.")
@click.option(
    "--uploads", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
    help="The folder of the files that a mongoexport names.",
)  # fmt: skip
@click.pass_obj
def import_command(options: Options, /, path: Path, prefix: str, uploads: Path | None, **given: Any) -> None:
    """Take in a zip or a folder: an export, pictures alone, or what a neighbour has left behind.

    May be repeated, after an interruption too: what is there already stays as it is. What is said of a picture in
    metadata.jsonl replaces what was said of it before.
    """
    from image_repo.cli import exchange  # noqa: PLC0415

    options.add(given)
    with closing(options.repo()) as repo:
        counts = exchange.take_in(options.load(), repo, path, prefix, uploads, _bar, _tell_entry)
    told = ", ".join(
        f"{counts[status]} {status}" for status in ("stored", "replaced", "unchanged", "skipped", "failed")
    )
    options.say(f"{told}.")
    if counts["failed"]:
        raise SystemExit(1)


def _tell_entry(outcome: ImportOutcome) -> None:
    problem = outcome.problem
    why = (problem.detail or problem.title) if problem else ""
    click.echo(f"{clean(outcome.entry)}: {outcome.status}: {clean(why)}", err=True)


@main.command("link-key")
@common
@click.option("--second", is_flag=True, help="The key that is only verified with, so that the first can be changed.")
@click.option("--show", is_flag=True, help="Print the key.")
@click.pass_obj
def link_key(options: Options, /, second: bool, show: bool, **given: Any) -> None:
    """Make a key for temporary URLs, and set it where they are verified.

    Links signed with the key that was there stop working, unless it is kept as the other one.
    """
    from image_repo.cli import pictures  # noqa: PLC0415

    options.add(given)
    place, secret = pictures.set_link_key(options.load(), second=second)
    options.say(f"{place} has got a {'second ' if second else ''}key for temporary URLs.")
    if show:
        click.echo(secret)


if __name__ == "__main__":
    main()
