"""Writers that a test kills: each runs in a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ANONYMOUS
from image_repo.config import Config
from image_repo.model.names import ImageName
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository

__all__ = ["UNCONDITIONAL", "Work", "begin", "change", "embedded", "upload"]

#: what a writer does again and again, with the number of its turn; what it returns is acknowledged
Work = Callable[[Repository, list[bytes], int], str]


def upload(repo: Repository, pictures: list[bytes], turn: int) -> str:
    """Replace a picture and its data, which names the digest of the picture."""
    body, name = pictures[turn % len(pictures)], f"picture-{turn % 2}"
    with repo.writer.spool() as spool:
        spool.fill([body])
        data = {"sha256": hashlib.sha256(body).hexdigest(), "turn": turn}
        repo.writer.put(ANONYMOUS, ImageName(name), spool, filename=f"{data['sha256']}.jpg", data=data)
    return name


def change(repo: Repository, _: list[bytes], turn: int) -> str:
    """Replace the data of some images at once."""
    names = [f"bulk-{number}" for number in range(4)]
    repo.writer.replace_many(ANONYMOUS, {ImageName(name): {"turn": turn} for name in names})
    return names[0]


def _run(config: Config, work: Work, pictures: list[bytes], first: int, acknowledged: Connection) -> None:
    repo = wiring.build(config)
    for turn in range(first, first + 100_000):
        acknowledged.send((work(repo, pictures, turn), turn))


def begin(config: Config, work: Work, pictures: list[bytes], first: int) -> tuple[BaseProcess, Any]:
    """Start a writer.

    :returns: the process, and the end of a pipe at which its acknowledgements arrive
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(config, work, pictures, first, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours
