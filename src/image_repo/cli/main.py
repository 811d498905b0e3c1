"""The command: its options, and the table of its verbs. Without a verb it serves."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import click

from image_repo import __version__
from image_repo.cli import serving
from image_repo.cli.options import Options, common, describe_error, fail
from image_repo.cli.options import serving as serving_options
from image_repo.config import Config, dump
from image_repo.errors import Problem

log = logging.getLogger("image_repo")

_EXAMPLES = """\b
Examples:
  image_repo                                serve ./image_repo_data on http://127.0.0.1:5000
  image_repo -Yt > config.yml               print every setting with its help, to start from
  image_repo -y config.yml -t               check the configuration and reach the store
  image_repo -y config.yml -B -l repo.log   serve in the background; -R restarts, -S stops
  image_repo put pictures/ --prefix sites   upload a folder; pictures that are stored already are skipped
  image_repo get sites/north xsize=300 -o north.jpg
  image_repo link sites/north thumbnail=True
  image_repo export species=fox -o foxes.zip
  image_repo import foxes.zip               or a folder, or the data of another system
\b
Completion: add to the start-up file of your shell (bash, zsh or fish)
  eval "$(_IMAGE_REPO_COMPLETE=bash_source image_repo)"
\b
Exit status: 0 success; 1 failure, with a message; 2 wrong usage.
"""

#: verb → module that defines ``VERB_command``; modules are imported when needed, because most import the repository
VERBS = {
    "serve": "serving",
    "put": "pictures",
    "get": "pictures",
    "link": "pictures",
    "sign": "signing",
    "warm": "pictures",
    "purge": "pictures",
    "ls": "records",
    "rm": "records",
    "restore": "records",
    "mv": "records",
    "set": "records",
    "stats": "records",
    "status": "startup",
    "check": "checks",
    "rebuild": "catalogue",
    "index": "catalogue",
    "export": "exchange",
    "import": "exchange",
    "link-key": "keys",
    "key": "keys",
    "config": "config",
    "s3-lifecycle": "lifecycle",
}


class Verbs(click.Group):
    """Imports verbs on demand, and prints errors without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"image_repo.cli.{VERBS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Problem as problem:
            log.debug("%s", problem, exc_info=True)
            fail(f"{problem.title}: {problem.detail}" if problem.detail else problem.title)
        except OSError as error:
            log.debug("%s", error, exc_info=True)
            fail(describe_error(error))


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
@serving_options
@click.option("-Y", "--dump-yaml", is_flag=True, help="Print every setting as YAML, and end.")
@click.option("-t", "--trial-run", is_flag=True, help="Check the settings, reach the store, and end.")
@click.version_option(__version__, prog_name="image_repo")
@click.pass_context
def main(ctx: click.Context, /, dump_yaml: bool, trial_run: bool, **values: Any) -> None:
    """Any picture of a repository, in any size and format, by one URL.

    Without a verb it serves. Settings come from -y FILE (or IMAGE_REPO_CONFIG), then from
    the environment (IMAGE_REPO_…), then from the command line. Swift is used when its usual OS_* variables
    are set, S3 when S3_BUCKET is, else a folder.
    """
    options = ctx.ensure_object(Options)
    modes = {name: values.pop(name) for name in serving.MODES}
    options.add(values)
    if dump_yaml:
        click.echo(dump(options.load() if options.path else Config()), nl=False)
        raise click.exceptions.Exit(0)
    if trial_run:
        _trial(options)
    elif ctx.invoked_subcommand is None:
        serving.serve(options, **modes)
    elif ctx.invoked_subcommand != "serve" and any(modes.values()):
        raise click.UsageError("-B, -S, -R and -a are for serving, not for another verb.")


def _trial(options: Options) -> None:
    from image_repo.cli import startup  # noqa: PLC0415, it imports the repository

    findings = startup.trial(options.load())
    if not options.quiet:
        startup.print_findings(findings)
    raise click.exceptions.Exit(0 if all(finding.ok for finding in findings) else 1)


if __name__ == "__main__":
    main()
