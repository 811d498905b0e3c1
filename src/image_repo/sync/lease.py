"""The lease of the one writing node, for a container whose writers nothing orders: Swift or S3 without PostgreSQL.

An object in the persistent container names the node that writes. A node claims it where there is none, or where it has
not changed for :data:`LIFETIME_S`: seconds of the claimant's own clock, so that the clocks of nodes need not agree.
After two intervals it reads the object again, from all replicas: of two claims at the same moment one object remains,
and names the winner. The holder renews it, and stops to write well before another node may claim it.

What race is left: a claim that takes longer than two intervals to be stored. Its node and the holder may both write
until the holder's next renewal finds out.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from image_repo.concurrency.locks import try_lock, wait_for
from image_repo.errors import Busy, NotTheWriter, PreconditionFailed, Problem
from image_repo.stores.base import Store, read_small, reading_newest

log = logging.getLogger(__name__)

#: of the object in the persistent container
KEY = ".leases/writer"
#: seconds without a change after which another node may claim the lease
LIFETIME_S = 15.0
#: seconds after its last renewal for which the holder writes, and between two renewals
WRITES_S, RENEWED_S = 10.0, 4.0
#: half of the seconds between a claim and the look whether it has won
INTERVAL_S = 0.25
#: seconds after which the store may drop the claim of a node that is gone
_FORGOTTEN_S = 300.0
_MAX_BYTES = 4096
_STEP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of the lease.

    :param node: id of the node
    :param count: grows with each renewal, so that each changes the object
    """

    node: str
    host: str
    count: int

    def dump(self) -> bytes:
        """Return the JSON that is stored."""
        return json.dumps({"node": self.node, "host": self.host, "count": self.count}).encode()

    @classmethod
    def load(cls, text: bytes) -> Claim:
        """Return what :meth:`dump` wrote; a claim of nobody for anything else."""
        try:
            members = json.loads(text)
            return cls(str(members["node"]), str(members["host"]), int(members["count"]))
        except (ValueError, TypeError, KeyError):
            return cls("", "unknown", 0)


def read_claim(store: Store) -> Claim | None:
    """Return the claim that the container holds now; None where there is none.

    :raises StoreUnavailable: when it cannot be asked
    """
    with reading_newest():
        text = read_small(store, KEY, _MAX_BYTES)
    return None if text is None else Claim.load(text)


class WriteLease:
    """Implements :class:`~image_repo.concurrency.locks.WriteOrder`: this node writes, or none of its writers does.

    The processes of a node share the lease by a file in the node's own folder.

    :param store: the persistent container
    :param node: the id of this node
    :param own: the private folder of this node for this container
    :param advice: what to do about a second node, for its refusal
    :param interval: seconds
    :param lifetime: seconds
    """

    def __init__(
        self,
        store: Store,
        node: Callable[[], str],
        own: Path,
        *,
        advice: str = "",
        interval: float = INTERVAL_S,
        lifetime: float = LIFETIME_S,
    ) -> None:
        self._store = store
        self._node = node
        self._own = own
        self._advice = advice
        self._interval = interval
        self._lifetime = lifetime
        self._writes = lifetime * WRITES_S / LIFETIME_S
        self._renewed = lifetime * RENEWED_S / LIFETIME_S
        self._state = _NodeState(own / "lease")
        #: the claim of another node, and since when it has not changed
        self._other: tuple[Claim, float] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._user: int | None = None

    @contextmanager
    def held(self, key: str, end: float, *, to_write: bool = True) -> Iterator[None]:
        """Hold the lease, to write; the names of one node are ordered by its own locks.

        :raises NotTheWriter: while another node holds it
        :raises StoreUnavailable: when it cannot be claimed
        """
        if to_write and not self._is_ours():
            self._claim(end)
        yield

    def confirm(self) -> None:
        """Check that the lease is still ours.

        :raises NotTheWriter: when another node may have claimed it
        """
        if not self._is_ours():
            raise self._refusal("it was not renewed in time")

    def close(self) -> None:
        """Stop to renew; where no other process of this node writes, give the lease back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_STEP_TIMEOUT_S)
        user, self._user = self._user, None
        if user is None:
            return
        os.close(user)
        with contextlib.suppress(Problem, OSError):
            alone = try_lock(self._own / "lease.users")
            if alone is None:
                return
            with contextlib.closing(os.fdopen(alone)):
                self._give_back()

    def _give_back(self) -> None:
        claim = read_claim(self._store)
        self._state.write(None)
        if claim and claim.node == self._node():
            self._store.delete(KEY)

    # -- the state of this node --------------------------------------------------------

    def _is_ours(self) -> bool:
        renewed = self._state.read()
        return renewed is not None and 0 <= time.monotonic() - renewed < self._writes

    def _refusal(self, reason: str) -> NotTheWriter:
        text = f"One node at a time writes to this container, and this one does not now: {reason}."
        return NotTheWriter(f"{text} {self._advice}".rstrip())

    # -- claiming and renewing ---------------------------------------------------------

    def _claim(self, end: float) -> None:
        """Claim the lease for this node, once for all of its threads and processes."""
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Busy("The lease of the writing node is being claimed.")
        try:
            self._start()
            with self._alone(end):
                if not self._is_ours():
                    self._claim_alone()
        finally:
            self._lock.release()

    @contextmanager
    def _alone(self, end: float) -> Iterator[None]:
        """Keep the other processes of this node from claiming and renewing."""
        handle = None
        with contextlib.suppress(OSError):  # where lock files cannot be used, the store still tells who has won
            handle = wait_for(lambda: try_lock(self._own / "lease.lock"), end)
            if handle is None:
                raise Busy("The lease of the writing node is being claimed.")
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _claim_alone(self) -> None:
        self._observe()
        other = self._other
        if other and time.monotonic() - other[1] < self._lifetime:
            raise self._refusal(f"{other[0].host} writes")
        began = time.monotonic()
        self._put(overwrite=read_claim(self._store) is not None)
        self._ended.wait(2 * self._interval)
        claim = read_claim(self._store)
        if claim is None or claim.node != self._node():
            self._observe()
            raise self._refusal(f"{claim.host if claim else 'another one'} has claimed it at the same moment")
        self._state.write(began)
        log.info("this node writes to %s", self._store.description)

    def _put(self, *, overwrite: bool = True) -> None:
        claim = Claim(self._node(), socket.gethostname(), time.time_ns())
        try:
            self._store.put(
                KEY,
                claim.dump(),
                media_type="application/json",
                expires=time.time() + _FORGOTTEN_S,
                overwrite=overwrite,
            )
        except PreconditionFailed:
            self._observe()
            raise self._refusal("another one has claimed it at the same moment") from None

    def _observe(self) -> None:
        """Read the claim; another node's counts from the moment at which it was last seen to change."""
        claim = read_claim(self._store)
        if claim is None or claim.node == self._node():
            self._other = None
        elif self._other is None or self._other[0] != claim:
            self._other = claim, time.monotonic()

    def _renew(self) -> None:
        if not self._is_ours():
            self._observe()
            return
        began = time.monotonic()
        claim = read_claim(self._store)
        if claim is None or claim.node != self._node():
            log.error("another node (%s) has claimed the lease of this one", claim.host if claim else "unknown")
            self._state.write(None)
            return
        self._put()
        self._state.write(began)

    # -- the thread --------------------------------------------------------------------

    def _start(self) -> None:
        """Renew from now on, or observe the node that writes."""
        if self._thread is None:
            with contextlib.suppress(OSError):
                self._user = try_lock(self._own / "lease.users", fcntl.LOCK_SH)
            self._thread = threading.Thread(target=self._run, name="image_repo-lease", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._renewed):
            try:
                with self._alone(time.monotonic() + self._renewed):
                    renewed = self._state.read()
                    if renewed is None or time.monotonic() - renewed > self._renewed / 2:
                        self._renew()
            except (Problem, OSError) as error:
                log.warning("the lease of the writing node was not renewed: %s", error)


class _NodeState:
    """When this node last renewed the lease, in a file that its processes share.

    :param path: of the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = _boot_id()
        self._here: float | None = None

    def read(self) -> float | None:
        """Return monotonic seconds; None where the lease is not ours."""
        try:
            boot, seconds = self._path.read_text(encoding="ascii").split()
            stored = float(seconds) if boot == self._boot else None
        except (OSError, ValueError):
            stored = None
        return max((each for each in (stored, self._here) if each is not None), default=None)

    def write(self, renewed: float | None) -> None:
        """Store when it was renewed, None when it is not ours any more; where that fails, for this process alone."""
        self._here = renewed
        try:
            if renewed is None:
                self._path.unlink(missing_ok=True)
                return
            aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            aside.write_text(f"{self._boot} {renewed}", encoding="ascii")
            aside.replace(self._path)
        except OSError as error:
            log.warning("the other processes of this node do not know of its lease: %s", error)


def _boot_id() -> str:
    """Return the id of this start of the machine: monotonic seconds of another one mean nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return "unknown"
