"""Membership: each node that serves a container leaves a small note there, and renews it while it serves.

An index that is not shared (SQLite) misses the writes of other nodes. Nodes detect each other by these notes, and
``image_repo -t`` refuses a second one.
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

from image_repo.stores.base import Store, read_small

log = logging.getLogger(__name__)

#: of the notes in a container
PREFIX = ".nodes/"
#: for which a note counts, and after which it is renewed
LIFETIME_S, RENEWED_S = 300.0, 100.0
_MOST_BYTES = 4096
_MOST_NODES = 1_000


@dataclass(frozen=True, slots=True)
class Node:
    """The note of a node.

    :param shared: whether other nodes can share its index; None where it has none
    :param until: seconds since the epoch
    """

    id: str
    host: str
    shared: bool | None
    until: float

    @classmethod
    def load(cls, text: bytes) -> Node | None:
        """Return the node of a note; None when it is none."""
        try:
            note = json.loads(text)
            return cls(str(note["id"]), str(note["host"]), note["shared"], float(note["until"]))
        except (ValueError, TypeError, KeyError):
            return None


class MembershipBoard(Protocol):
    """A place for notes."""

    def write(self, name: str, text: bytes, until: float) -> None:
        """Leave a note, over an earlier one of this name."""

    def remove(self, name: str) -> None:
        """Remove a note."""

    def all(self) -> Iterator[bytes]:
        """Return the notes."""


class StoreMembershipBoard:
    """Notes in a container that all nodes share, with an expiry."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, name: str, text: bytes, until: float) -> None:
        self._store.put(PREFIX + name, text, media_type="application/json", expires=until)

    def remove(self, name: str) -> None:
        self._store.delete(PREFIX + name)

    def all(self) -> Iterator[bytes]:
        for entry in list(self._store.keys(PREFIX))[:_MOST_NODES]:
            yield read_small(self._store, entry.key, _MOST_BYTES) or b""


class FolderMembershipBoard:
    """Notes in a folder that all nodes share; each node removes those that have expired."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, text: bytes, until: float) -> None:
        for folder in (self._folder.parent, self._folder):
            # Not the folder of the originals, whose disk may not be mounted.
            folder.mkdir(mode=0o700, exist_ok=True)
        aside = self._folder / f".{name}"
        aside.write_bytes(text)
        os.utime(aside, (until, until))
        aside.replace(self._folder / name)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def all(self) -> Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted(self._folder.iterdir())[:_MOST_NODES]:
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < time.time() - LIFETIME_S:
                        path.unlink()
                    elif path.stat().st_size <= _MOST_BYTES and not path.name.startswith("."):
                        yield path.read_bytes()


class Membership:
    """This node, and the others that serve the same container.

    :param own: the private folder of this node, for its id
    """

    def __init__(self, board: MembershipBoard, own: Path) -> None:
        self._board = board
        self._own = own
        self._id = ""

    @property
    def id(self) -> str:
        """The id of this node, the same for all its processes; where its folder was deleted, a process restores it.

        :raises OSError: when it cannot be stored
        """
        if not self._id:
            self._id = self._stored_id()
        elif not (self._own / "node").exists():
            with contextlib.suppress(OSError):
                self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self._own / "node").write_text(self._id, encoding="ascii")
        return self._id

    def _stored_id(self) -> str:
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
        """Write or renew the note of this node.

        :raises StoreUnavailable, OSError: when that cannot be done
        """
        node = Node(self.id, socket.gethostname(), shared, time.time() + LIFETIME_S)
        self._board.write(node.id, json.dumps(asdict(node)).encode(), node.until)

    def leave(self) -> None:
        """Remove the note: this node serves no more.

        :raises StoreUnavailable, OSError: when that cannot be done; it expires soon
        """
        self._board.remove(self.id)

    def others(self) -> list[Node]:
        """Return the other nodes that serve this container now.

        :raises StoreUnavailable, OSError: when the notes cannot be read
        """
        now, ours = time.time(), self.id
        nodes = (Node.load(text) for text in self._board.all())
        return [node for node in nodes if node and node.id != ours and node.until > now]
