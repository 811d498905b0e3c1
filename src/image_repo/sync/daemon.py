"""The catalogue daemon: what a serving node does beside its requests, so that the catalogue follows the container.

One process of the node does it. It works through the outbox, looks for changes that other tools have made in the
container, rebuilds an empty index, and reads originals that are known only from a listing. All of it is done in small
steps with pauses: requests come first. Failures are logged, and retried with backoff.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from image_repo.catalogue.indexer import REBUILDING, TROUBLE, UNREAD, SweepState
from image_repo.catalogue.outbox import Outbox
from image_repo.catalogue.query import Filter
from image_repo.concurrency.background import StoppableThread
from image_repo.concurrency.backoff import Backoff
from image_repo.concurrency.locks import is_current, try_lock
from image_repo.errors import Busy, Problem
from image_repo.model.names import ImageName
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.repository import Repository
from image_repo.sync import reconciler
from image_repo.sync.membership import RENEWED_S, Membership
from image_repo.sync.reconciler import Sweep, SweepOutcome

if TYPE_CHECKING:
    from image_repo.catalogue.index import Index

log = logging.getLogger(__name__)

#: note of an index that nodes share: which of them follows the container
FOLLOWER = "follower"
#: note of an index: the sweep under way; an index that was made anew meanwhile lacks it
SWEEPING = "sweeping"
#: between two looks for something to do
_POLL_S = 1.0
#: between two looks whether the index is still the same
_LOOK_S = 2.0
#: a sweep may take one in so many seconds
_SHARE = 20.0
#: the pause after a step, as a part of its time, and the longest in seconds
_REST, _LONGEST_REST_S = 1.0, 1.0
#: seconds after which the claim of a silent node ends
_CLAIM_S = 60.0
#: of backoff, at first and at most
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
#: originals and records read at a time
_AT_ONCE = 2


class _Stopped(Exception):
    """The daemon is to end."""


class CatalogueDaemon(StoppableThread):
    """Runs in a thread of a serving process.

    :param own: the private folder of the node, where its processes elect one of them
    :param every: seconds between two sweeps, 0 for the first only
    :param artifacts: to index as well
    """

    def __init__(
        self,
        repo: Repository,
        own: Path,
        *,
        every: int,
        nodes: Membership | None = None,
        artifacts: Artifacts | None = None,
    ) -> None:
        super().__init__("image_repo-catalogue")
        self._repo = repo
        self._index = repo.indexer.index
        self._every = every
        self._nodes = nodes
        self._announced = float("-inf")
        self._claim = _Claim(self._index, secrets.token_hex(8))
        self._duty = Lock(own / "reconciling")
        self._sweeping = Lock(own / "sweeping")
        self._images, self._sweep = reconciler.images(repo, at_once=_AT_ONCE)
        self._artifacts = artifacts
        self._looked = float("-inf")
        #: whether there are originals to be read, beside those that are being read
        self._unread = False
        #: whether the progress of an earlier process was read
        self._resumed = False
        self._reading: Iterator[int] | None = None
        self._progress = Progress(self._index)
        self._backoff = Backoff(_PAUSE_S, _LONGEST_PAUSE_S)

    # -- the thread ------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(_Stopped):
            while True:
                self._wait(max(self._backoff.left(), _POLL_S))
                if self._duty.taken():
                    self._try()
        self._leave()
        if self._duty.is_held:
            self._claim.release()
        self._duty.release()

    def _try(self) -> None:
        try:
            self.turn()
        except _Stopped:
            raise
        except Exception as error:  # whatever it is, it is retried
            pause = self._backoff.fail()
            is_unforeseen = not isinstance(error, Problem)
            log.warning("the catalogue does not follow, and will in %.1f s: %s", pause, error, exc_info=is_unforeseen)
            with contextlib.suppress(Problem):  # it may be the index that does not answer
                self._index.keep_note(TROUBLE, str(error))
        else:
            if self._backoff.is_failing and not self._every:  # otherwise the next sweep shows whether it is over
                self._index.keep_note(TROUBLE, None)
            self._backoff.reset()

    def turn(self) -> None:
        """Do all that is due now.

        :raises Problem: when the index or the store does not answer
        """
        self._tell()
        if self._backoff.is_failing:
            self._index.check()
        self._catch_up()
        if not self._claim.is_ours():
            self._resumed = False
            return
        if not self._resumed:
            self._unread, self._resumed = self._progress.resume(), True
        while not self._is_due():
            if self._reading is None and not self._unread:
                return
            self._read_on()
        if self._sweeping.taken():
            try:
                self._look_through()
                self._repo.trash.tidy()
            finally:
                self._sweeping.release()

    def _wait(self, seconds: float) -> None:
        if self._ended.wait(seconds):
            raise _Stopped

    def _rest(self, began: float) -> float:
        """Pause after a step, do meanwhile what is urgent, and return the seconds that the step took."""
        took = time.monotonic() - began
        self._wait(min(_REST * took, _LONGEST_REST_S))
        self._tell()
        self._catch_up()
        self._claim.is_ours()
        return took

    # -- what was missed -------------------------------------------------------------

    def _catch_up(self) -> None:
        """Index the names in the outbox, and those whose writer was killed."""
        self._repo.metadata.note_abandoned()
        self._settle_noted(self._repo.indexer.outbox, self._index, self._follow)
        if self._artifacts:
            artifacts = self._artifacts
            index = artifacts.indexer.index
            self._settle_noted(
                artifacts.indexer.outbox, index, lambda name: reconciler.overwrite(index, name, artifacts.row(name))
            )

    def _settle_noted(self, behind: Outbox, index: Index, settle: Callable[[str], None]) -> None:
        if behind.is_empty():
            return
        noted = behind.take()
        stamps = index.stamps([name for name, _ in noted]) if noted else {}
        for name, version in noted:
            if not version or not stamps.get(name, "").startswith(version + "."):
                _try_to(settle, name)
            if self._ended.is_set():
                return  # what was taken stays in the outbox
        behind.done()

    def _follow(self, text: str) -> None:
        try:
            stamp = self._repo.metadata.reindex(ImageName(text))
        except Busy:  # its writer indexes it
            return
        self._unread |= stamp is not None and stamp.endswith(UNREAD)

    # -- everything ------------------------------------------------------------------

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._looked < _LOOK_S:
            return False
        self._looked = now
        swept = SweepState.read(self._index)
        if swept is None:
            return True
        age = time.time() - swept.at
        return self._every > 0 and not 0 <= age < max(self._every, _SHARE * swept.took)

    def _look_through(self) -> None:
        """Compare the index with everything that the container lists."""
        ours = secrets.token_hex(8)
        self._index.keep_note(SWEEPING, ours)
        if SweepState.read(self._index) is None:
            self._index.check()
            self._progress.begin(sum(1 for _ in self._steps(self._images.listing())))
        outcome, took = self._follow_all(self._sweep, self._images.listing())
        if self._artifacts:
            index, artifacts = self._artifacts.indexer.index, self._artifacts
            took += self._follow_all(Sweep(index, artifacts.row), artifacts.stamps())[1]
        if self._index.note(SWEEPING) != ours:
            log.info("the catalogue was made anew while it followed, and follows from the beginning")
            return
        SweepState(time.time(), took).save(self._index)
        self._index.keep_note(TROUBLE, None)
        self._unread, self._reading = outcome.unread > 0, None
        if not self._unread:
            self._progress.end()

    def _follow_all(self, sweep: Sweep, listing: reconciler.Listing) -> tuple[SweepOutcome, float]:
        outcome, took, began = SweepOutcome(), 0.0, time.monotonic()
        for outcome in sweep.run(listing):
            took += self._rest(began)
            if sweep is self._sweep:
                self._progress.show(outcome.whole)
            began = time.monotonic()
        if outcome.written or outcome.removed:
            log.info("the catalogue has followed: %d written, %d removed", outcome.written, outcome.removed)
        return outcome, took

    def _steps(self, listing: reconciler.Listing) -> Iterator[object]:
        """Return a listing that ends when the daemon does."""
        for each in listing:
            if self._ended.is_set():
                raise _Stopped
            yield each

    def _read_on(self) -> None:
        """Read some more of the originals that are known only from a listing."""
        began = time.monotonic()
        if self._reading is None:
            self._reading, self._unread = reconciler.complete(self._repo, at_once=_AT_ONCE, rows=_AT_ONCE), False
        for read in itertools.islice(self._reading, 1):
            self._progress.add(read)
            self._rest(began)
            return
        self._reading = None
        if not self._unread:
            self._progress.end()

    # -- other nodes -----------------------------------------------------------------

    def _tell(self) -> None:
        """Tells the other nodes that this one serves; best effort."""
        if self._nodes is None or time.monotonic() - self._announced < RENEWED_S:
            return
        self._announced = time.monotonic()
        try:
            self._nodes.tell(shared=self._index.shared)
        except (Problem, OSError) as error:
            log.info("the note of this node was not renewed: %s", error)

    def _leave(self) -> None:
        if self._nodes is not None and self._announced > 0 and self._duty.is_held:
            with contextlib.suppress(Problem, OSError):
                self._nodes.leave()


def _try_to(settle: Callable[[str], None], name: str) -> None:
    """Settle a name; a fault of this name does not stop the others.

    :raises Problem: when the index or the store does not answer
    """
    try:
        settle(name)
    except Exception as error:
        if isinstance(error, Problem) and error.retry_after is not None:
            raise
        log.warning("%s cannot be indexed: %s", name, error, exc_info=not isinstance(error, Problem))


class _Claim:
    """A lease: one of the nodes that share an index follows the container; another one when it is gone.

    Best effort: where two do it at the same time, nothing is wrong, but done twice.
    """

    def __init__(self, index: Index, node: str) -> None:
        self._index = index
        self._node = node
        self._renewed = float("-inf")

    def is_ours(self) -> bool:
        """Return whether this node follows the container, from now on."""
        if not self._index.shared or time.monotonic() - self._renewed < _CLAIM_S / 3:
            return True
        now = time.time()
        with contextlib.suppress(ValueError, TypeError, KeyError):
            claim = json.loads(self._index.note(FOLLOWER) or "")
            if claim["node"] != self._node and now < claim["until"] < now + 2 * _CLAIM_S:
                return False
        self._index.keep_note(FOLLOWER, json.dumps({"node": self._node, "until": now + _CLAIM_S}))
        self._renewed = time.monotonic()
        return True

    def release(self) -> None:
        """Let another node follow at once."""
        if self._index.shared and time.monotonic() - self._renewed < _CLAIM_S:
            with contextlib.suppress(Problem):
                self._index.keep_note(FOLLOWER, None)


class Progress:
    """How far an index is from being complete for the first time, as a note of the index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._total = 0
        self._done = 0
        self._shown: str | None = None

    def begin(self, total: int) -> None:
        """Begin with the number of images in all."""
        self._total = total
        self.show(0)

    def resume(self) -> bool:
        """Return whether another process ended before the index was complete, and go on from there."""
        left = self._index.note(REBUILDING)
        if left is None:
            return False
        self._total = self._index.count(Filter())
        self._done = int(float(left) * self._total)
        return True

    def show(self, done: int) -> None:
        """Note how many of all are indexed."""
        self._done = done
        if self._total:
            self._keep(f"{min(self._done / self._total, 0.99):.2f}")

    def add(self, more: int) -> None:
        self.show(self._done + more)

    def end(self) -> None:
        if self._total or self._index.note(REBUILDING) is not None:
            self._total = 0
            self._keep(None)

    def _keep(self, text: str | None) -> None:
        if text != self._shown or text is None:
            self._index.keep_note(REBUILDING, text)
            self._shown = text


class Lock:
    """A lock file that one process holds at a time, until it releases it or ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    @property
    def is_held(self) -> bool:
        return self._handle is not None

    def taken(self) -> bool:
        """Return whether this process holds the lock now; take it if it is free."""
        if self._handle is not None and is_current(self._handle, self._path):
            return True
        self.release()
        with contextlib.suppress(OSError):
            self._handle = try_lock(self._path)
        return self.is_held

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
