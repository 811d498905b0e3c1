"""Writers that a test kills: each runs in a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ANONYMOUS
from image_repo.config import Config
from image_repo.exchange.importer import Importer, from_zip
from image_repo.model.names import ImageName
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository

__all__ = ["IMPORTED", "UNCONDITIONAL", "Work", "begin", "change", "embedded", "take_in", "upload"]

#: names of one import
IMPORTED = tuple(f"imported-{number}" for number in range(4))

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


def take_in(repo: Repository, pictures: list[bytes], turn: int) -> str:
    """Import a zip that replaces some pictures and their data, which name the digests of the pictures."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        lines = []
        for number, name in enumerate(IMPORTED):
            body = pictures[(turn + number) % len(pictures)]
            digest = hashlib.sha256(body).hexdigest()
            data = {"sha256": digest, "turn": turn}
            lines.append({"file_name": f"{name}.jpg", "name": name, "filename": f"{digest}.jpg", "data": data})
            archive.writestr(f"{name}.jpg", body)
        archive.writestr("metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    items = from_zip(file, len(file.getvalue()), io.BytesIO(), 100).items
    failed = [outcome.problem for outcome in Importer(repo, ANONYMOUS).run(items) if outcome.problem]
    assert not failed, failed
    return IMPORTED[0]


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
