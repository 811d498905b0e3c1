"""Metrics of a node, counted by all its processes, in the text format of Prometheus (0.0.4).

Each process maps a file of its own in a shared folder: a count is an addition in memory, without a lock, a system call
or a server. The process that serves ``/metrics`` reads and sums all files. ``flock`` marks a file as in use; when its
process ends, the next process takes the file and continues, so that a sum never falls.

``row[column] += 1`` loses no count between threads: CPython switches threads where a function begins or ends and where
a loop repeats (the "eval breaker"), not between these three instructions, and no other process writes the row.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import hashlib
import itertools
import logging
import mmap
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_repo import __version__
from image_repo.concurrency.locks import acquire
from image_repo.concurrency.shared_file import map_shared, open_shared

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: steps of a render, named as in Server-Timing
STEPS = ("fetch", "queue", "render")
#: upper bounds of the buckets of a histogram, in seconds
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family.

    :param kind: ``counter``, ``gauge`` or ``histogram``
    :param label: names of the labels, with spaces between them; empty for a single number
    :param values: of the labels, with spaces between them
    :param peaks: values that each process measures for the whole node: the largest of them counts, not the sum
    """

    name: str
    kind: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    peaks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Numbers that are measured when they are read, for the whole node.

    :param label: name of the label
    :param samples: value of the label → number
    """

    name: str
    help: str
    label: str
    samples: Mapping[str, float]


#: what a request is for, by the beginning of its path
ROUTES = (
    *("pictures", "writes", "collection", "search", "stats", "keys", "export", "import", "artifacts", "snapshots"),
    *("iiif", "temp", "probes", "other"),
)
_STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

REQUESTS = Family(
    "image_repo_requests_total", "counter", "Responses by class of status.",
    "status", _STATUSES,
)  # fmt: skip
DURATIONS = Family(
    "image_repo_request_seconds", "histogram", "Time until the last byte of a response was handed to the server.",
    "route status", tuple(f"{route} {status}" for route in ROUTES for status in _STATUSES),
)  # fmt: skip
HITS = Family(
    "image_repo_hits_total", "counter", "Renditions served from a cache layer.", "layer", ("memory", "disk", "cache")
)
RENDERS = Family("image_repo_renders_total", "counter", "Renditions that were rendered.")
SECONDS = Family("image_repo_render_seconds", "histogram", "Duration of the steps of rendering.", "step", STEPS)
SENT = Family("image_repo_bytes_sent_total", "counter", "Bytes of response bodies.")
RECEIVED = Family("image_repo_bytes_received_total", "counter", "Bytes of request bodies.")
PURGES = Family("image_repo_purges_total", "counter", "Purges of a cache in front.", "outcome", ("accepted", "failed"))
EVICTIONS = Family(
    "image_repo_evictions_total", "counter", "Entries that a cache tier evicted.", "tier", ("memory", "disk")
)
CACHE_BYTES = Family(
    "image_repo_cache_bytes", "gauge", "Bytes in a cache tier; of the disk as last surveyed.",
    "tier", ("memory", "disk"), peaks=("disk",),
)  # fmt: skip
CACHE_ENTRIES = Family(
    "image_repo_cache_entries", "gauge", "Entries in a cache tier; of the disk as last surveyed.",
    "tier", ("memory", "disk"), peaks=("disk",),
)  # fmt: skip
CIRCUITS = Family(
    "image_repo_open_circuits", "gauge", "Workers that leave a failing store alone.", "store", ("originals", "cache")
)
QUEUE = Family("image_repo_render_queue", "gauge", "Requests that wait for a render.")
CALLS = Family(
    "image_repo_store_calls_total", "counter", "Calls of the stores; a listing counts once.",
    "verb", ("head", "get", "put", "delete", "keys", "link"),
)  # fmt: skip
ERRORS = Family("image_repo_store_errors_total", "counter", "Calls of the stores that failed.")
FAMILIES = (
    *(REQUESTS, DURATIONS, HITS, RENDERS, SECONDS, SENT, RECEIVED, EVICTIONS, CACHE_BYTES, CACHE_ENTRIES),
    *(QUEUE, CALLS, ERRORS, CIRCUITS, PURGES),
)


def _columns() -> Iterator[tuple[str, str]]:
    """Yield family and label value of each number of a row; of a histogram each bucket, and the sum last."""
    for family in FAMILIES:
        for value in family.values:
            if family.kind == "histogram":
                yield from ((family.name, f"{value} {number}") for number in range(len(BUCKETS) + 1))
            yield family.name, value


_AT = {column: number for number, column in enumerate(_columns())}
_WIDTH = len(_AT) * 8
_FAMILY = {family.name: family for family in FAMILIES}
_COMBINE: list[Callable[[Sequence[int]], int]] = [max if value in _FAMILY[name].peaks else sum for name, value in _AT]
#: part of the folder's name: programs with another layout use other files
_LAYOUT = hashlib.sha256(repr((tuple(_AT), BUCKETS)).encode()).hexdigest()[:8]


def column(family: Family, value: str = "") -> int:
    """Return the index of a number in a row."""
    return _AT[family.name, value]


#: status // 100 → column
STATUS = (0, *(column(REQUESTS, value) for value in REQUESTS.values))
#: the buckets of hits in memory, for the fast path
HIT_2XX, HIT_3XX = column(DURATIONS, "pictures 2xx 0"), column(DURATIONS, "pictures 3xx 0")


class Counters:
    """The counters of this process, and the sum over the node.

    :param folder: shared by the processes of the node; where None or unusable, this process counts alone
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / f"metrics-{_LAYOUT}" if folder else None
        self._handle = -1
        #: one number for each column, in native byte order; callers add to it
        self.row = memoryview(self._map()).cast("Q")
        for at in _gauges():
            self.row[at] = 0

    def add(self, family: Family, value: str = "", count: int = 1) -> None:
        """Add to a counter."""
        at = _AT[family.name, value]
        self.row[at] += count

    def observe(self, family: Family, value: str, seconds: float) -> None:
        """Add a duration to a histogram."""
        number = next((number for number, most in enumerate(BUCKETS) if seconds <= most), len(BUCKETS))
        bucket, total = _AT[family.name, f"{value} {number}"], _AT[family.name, value]
        duration = int(seconds * _NANOSECONDS)
        self.row[bucket] += 1
        self.row[total] += duration

    def set(self, family: Family, value: str, number: int) -> None:
        """Set a gauge of this process."""
        self.row[_AT[family.name, value]] = number

    def waiting(self, count: int) -> None:
        """Change the number of requests that wait for a render."""
        at = _AT[QUEUE.name, ""]
        self.row[at] += count

    def text(self, gauges: Iterable[Gauge] = ()) -> str:
        """Return the metrics of the node as Prometheus reads them.

        :param gauges: measured now, to add
        """
        totals = self._totals()
        info = f'version="{__version__}",python="{platform.python_version()}"'
        lines = [
            "# HELP image_repo_build_info Versions of the program and of Python.",
            "# TYPE image_repo_build_info gauge",
            f"image_repo_build_info{{{info}}} 1",
        ]
        for family in FAMILIES:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += _histogram(family, totals) if family.kind == "histogram" else _plain(family, totals)
        for gauge in gauges:
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
            lines += [
                f"{_labelled(gauge.name, gauge.label, value)} {number:.10g}" for value, number in gauge.samples.items()
            ]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        """Release the row for the next process."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _map(self) -> mmap.mmap:
        if self._folder:
            try:
                return self._claim(self._folder)
            except OSError as error:
                log.warning("each process of this node counts alone: %s", error)
        self._folder = None
        return mmap.mmap(-1, _WIDTH)

    def _claim(self, folder: Path) -> mmap.mmap:
        """Map the first row that is not in use."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for number in itertools.count():
            handle = open_shared(folder / str(number))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shared = map_shared(handle, _WIDTH)
            except BlockingIOError:
                os.close(handle)
            except BaseException:
                os.close(handle)
                raise
            else:
                self._handle = handle
                break
        return shared

    def _totals(self) -> Sequence[int]:
        return [combine(counts) for combine, counts in zip(_COMBINE, zip(*self._rows(), strict=True), strict=True)]

    def _rows(self) -> Iterator[Sequence[int]]:
        if self._folder is None:
            yield list(self.row)
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
                row = array.array("Q", file.read(_WIDTH))
                if not _is_in_use(file.fileno()):
                    for at in _gauges():  # the gauges of a process end with it
                        row[at] = 0
                yield row


def _gauges() -> list[int]:
    return [column(family, value) for family in FAMILIES if family.kind == "gauge" for value in family.values]


def _is_in_use(handle: int) -> bool:
    """Whether a live process counts in this file."""
    is_free = acquire(handle, fcntl.LOCK_SH)
    if is_free:
        fcntl.flock(handle, fcntl.LOCK_UN)
    return not is_free


def _labelled(name: str, labels: str, values: str) -> str:
    """
    :param labels: their names, with spaces between them
    """
    pairs = ",".join(f'{label}="{value}"' for label, value in zip(labels.split(), values.split(), strict=True))
    return f"{name}{{{pairs}}}" if pairs else name


def _plain(family: Family, totals: Sequence[int]) -> Iterable[str]:
    for value in family.values:
        yield f"{_labelled(family.name, family.label, value)} {totals[column(family, value)]}"


def _histogram(family: Family, totals: Sequence[int]) -> Iterable[str]:
    for value in family.values:
        below = 0
        for number, most in enumerate((*map(repr, BUCKETS), "+Inf")):
            below += totals[column(family, f"{value} {number}")]
            yield f"{_labelled(family.name + '_bucket', family.label + ' le', f'{value} {most}')} {below}"
        total = totals[column(family, value)] / _NANOSECONDS
        yield f"{_labelled(family.name + '_sum', family.label, value)} {total:.6f}"
        yield f"{_labelled(family.name + '_count', family.label, value)} {below}"


def route_of(path: str, method: str, pictures: str) -> str:
    """Return the route of a request.

    :param path: decoded
    :param pictures: the path below which pictures are, with a slash at its end
    """
    if path.startswith(pictures) or path == pictures[:-1]:
        if method not in ("GET", "HEAD", "OPTIONS"):
            return "writes"
        return "pictures" if path.startswith(pictures) else "collection"
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return _ROUTE_OF.get(first, "other")


_ROUTE_OF = {route: route for route in ROUTES[3:12]} | dict.fromkeys(
    ("health", "healthz", "livez", "readyz", "metrics"), "probes"
)
