"""Which nodes serve a container: each leaves a small note there, and renews it while it serves.

An index that only one node has (SQLite) does not hear of what the others write. So nodes whose
index is not shared tell each other apart here, and ``image_repo -t`` refuses them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from image_repo.stores.base import Store

log = logging.getLogger(__name__)

#: what the notes of nodes begin with in a container
PREFIX = ".nodes/"
#: seconds for which a note counts, and after which it is renewed
LIFETIME, RENEWED = 300.0, 100.0
_MOST_BYTES = 4096
_MOST_NODES = 1_000


@dataclass(frozen=True, slots=True)
class Node:
    """What a node tells of itself.

    :param shared: whether other nodes can share its index; None where it has none
    :param until: seconds since the epoch
    """

    id: str
    host: str
    shared: bool | None
    until: float

    @classmethod
    def load(cls, text: bytes) -> Node | None:
        """Reads a note; None when it is none."""
        try:
            told = json.loads(text)
            return cls(str(told["id"]), str(told["host"]), told["shared"], float(told["until"]))
        except (ValueError, TypeError, KeyError):
            return None


class MembershipBoard(Protocol):
    """Where notes are left."""

    def write(self, name: str, text: bytes, until: float) -> None:
        """Leaves one."""

    def remove(self, name: str) -> None:
        """Takes it away."""

    def all(self) -> Iterator[bytes]:
        """Those that are there."""


class StoreMembershipBoard:
    """In a container that all nodes share, with an expiry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, name: str, text: bytes, until: float) -> None:
        """Leaves one."""
        self._store.put(PREFIX + name, text, media_type="application/json", expires=until)

    def remove(self, name: str) -> None:
        """Takes it away."""
        self._store.delete(PREFIX + name)

    def all(self) -> Iterator[bytes]:
        """Those that are there."""
        for entry in list(self._store.keys(PREFIX))[:_MOST_NODES]:
            body = self._store.get(entry.key) if entry.size <= _MOST_BYTES else None
            if body is not None:
                with body:
                    yield b"".join(body)


class FolderMembershipBoard:
    """In a folder that all nodes share; what is out of date is removed by whoever sees it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, text: bytes, until: float) -> None:
        """Leaves one."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self._folder / f".{name}"
        aside.write_bytes(text)
        os.utime(aside, (until, until))
        aside.replace(self._folder / name)

    def remove(self, name: str) -> None:
        """Takes it away."""
        (self._folder / name).unlink(missing_ok=True)

    def all(self) -> Iterator[bytes]:
        """Those that are there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(self._folder.iterdir())[:_MOST_NODES]:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < time.time() - LIFETIME:
                        path.unlink()
                    elif path.stat().st_size <= _MOST_BYTES and not path.name.startswith("."):
                        yield path.read_bytes()


class Membership:
    """This node, and the others that serve the same container.

    :param own: the private folder of this node, which keeps its id
    """

    def __init__(self, board: MembershipBoard, own: Path) -> None:
        self._board = board
        self._own = own

    @property
    def id(self) -> str:
        """The same for all processes of this node, for as long as its folder is there.

        :raises OSError: when it cannot be kept
        """
        path = self._own / "node"
        for _ in range(2):
            with contextlib.suppress(FileNotFoundError):
                known = path.read_text(encoding="ascii", errors="replace")
                if known:
                    return known
            aside = path.with_name(f"node.{os.getpid()}")
            aside.write_text(secrets.token_hex(8), encoding="ascii")
            try:
                aside.replace(path) if not path.exists() else aside.unlink()
            except FileNotFoundError:
                continue
        return path.read_text(encoding="ascii", errors="replace")

    def tell(self, *, shared: bool | None) -> None:
        """Leaves the note of this node, or renews it.

        :raises StoreUnavailable, OSError: when that cannot be done
        """
        node = Node(self.id, socket.gethostname(), shared, time.time() + LIFETIME)
        self._board.write(node.id, json.dumps(asdict(node)).encode(), node.until)

    def leave(self) -> None:
        """Takes the note away: this node serves no more.

        :raises StoreUnavailable, OSError: when that cannot be done; it is out of date soon
        """
        self._board.remove(self.id)

    def others(self) -> list[Node]:
        """The other nodes that serve this container now.

        :raises StoreUnavailable, OSError: when that cannot be told
        """
        now, ours = time.time(), self.id
        found = (Node.load(text) for text in self._board.all())
        return [node for node in found if node and node.id != ours and node.until > now]
