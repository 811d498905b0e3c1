"""A soak: everything mixed against one server, every answer checked, memory watched, a verdict at the end.

    python -m bench.soak --seconds 3600

Hits over connections that are kept, misses, conditions and ranges, slow readers, requests that are
given up halfway, uploads with a length and in chunks, deletions, and a restart (``-R``) every now and
then. A picture's bytes must always be those that the same request gave first, for as long as its
original is the same. No request may fail but those that were given up, and memory may not grow. The
exit status is 1 when something was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from bench import originals
from bench.load import Client, connect, read_answer
from bench.systems import HERE, ImageRepo

#: threads of each kind
_KINDS = {"hit": 3, "kept": 3, "miss": 1, "conditional": 1, "range": 1, "slow reader": 2, "given up": 1, "upload": 1}
_RESTART_EVERY = 20.0
_MB = 1 << 20
#: how much memory may have grown between the second fifth of the time and the last, where it was long enough to tell
_GROWTH, _TELLING = 1.10, 600.0
_MOST_TROUBLES = 20


class Soak:
    """One server, and what was seen of it.

    :param sources: pictures to upload, by name
    """

    def __init__(self, server: ImageRepo, sources: dict[str, bytes], seed: int) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self._sources = sources
        self._seed = seed
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def run(self, seconds: float) -> list[int]:
        """Bytes of memory, sampled all the while."""
        works: dict[str, Callable[[random.Random], None]] = {
            "hit": lambda dice: self._picture(dice, 12),
            "kept": self._kept,
            "miss": lambda dice: self._picture(dice, 3_000),
            "conditional": self._conditional,
            "range": self._range,
            "slow reader": self._slow_reader,
            "given up": self._given_up,
            "upload": self._upload,
        }
        threads = [
            threading.Thread(target=self._repeat, args=(kind, works[kind], f"{self._seed} {kind} {n}"))
            for kind, count in _KINDS.items()
            for n in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            return self._watch(seconds)
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _watch(self, seconds: float) -> list[int]:
        memory, begun = [], time.monotonic()
        restarted = begun
        while (now := time.monotonic()) < begun + seconds:
            time.sleep(0.5)
            memory.append(self.server.pss())
            if now - restarted > _RESTART_EVERY:
                restarted = now
                self._restart()
        return memory

    def _restart(self) -> None:
        command = [*self.server.command(), "-R"]
        done = subprocess.run(command, cwd=self.server.folder, capture_output=True, text=True, check=False)
        self.counts["restart"] += 1
        if done.returncode:
            self._trouble(f"restart: {done.stderr[-300:]}")

    def _repeat(self, kind: str, work: Callable[[random.Random], None], seed: str) -> None:
        dice = random.Random(seed)
        while not self._ended.is_set():
            try:
                work(dice)
            except (OSError, EOFError, AssertionError, ValueError) as error:
                self._trouble(f"{kind}: {type(error).__name__} {error}")
            with self._lock:
                self.counts[kind] += 1

    def _trouble(self, what: str) -> None:
        with self._lock:
            self.counts["TROUBLE"] += 1
            if len(self.troubles) < _MOST_TROUBLES:
                self.troubles.append(f"{time.strftime('%H:%M:%S')} {what}")

    # -- what clients do -------------------------------------------------------------

    def _path(self, dice: random.Random, variants: int) -> str:
        name = dice.choice(["steady-mp1", "steady-mp4"])
        n = dice.randrange(variants)
        kind = ("jpg", "webp", "png")[n % 3] if variants < 100 else "jpg"
        return f"/images/{name}?xsize={40 + n % 500}&ysize={40 + n // 500}&fit=cover&kind={kind}"

    def _same(self, path: str, status: int, body: bytes, wanted: int = 200) -> None:
        assert status == wanted, f"{path}: {status} {body[:120]!r}"
        digest = hashlib.sha256(body).hexdigest()
        with self._lock:
            first = self._digests.setdefault(path, digest)
        assert digest == first, f"{path}: other bytes than at first"

    def _picture(self, dice: random.Random, variants: int) -> None:
        path = self._path(dice, variants)
        client = Client(self.server.port)
        with contextlib.closing(client):
            answer = client.get(path)
        self._same(path, answer.status, answer.body)

    def _kept(self, dice: random.Random) -> None:
        """A connection that asks for many, with pauses in which it is idle."""
        client = Client(self.server.port)
        with contextlib.closing(client):
            for _ in range(50):
                path = self._path(dice, 12)
                answer = client.get(path)
                self._same(path, answer.status, answer.body)
                if dice.random() < 0.05:
                    time.sleep(dice.random() / 4)

    def _conditional(self, dice: random.Random) -> None:
        path = self._path(dice, 12)
        client = Client(self.server.port)
        with contextlib.closing(client):
            whole = client.get(path)
            answer = client.get(path, If_None_Match=whole.headers["etag"])
        assert answer.status == 304 and not answer.body, f"{path}: {answer.status} where 304 was expected"

    def _range(self, dice: random.Random) -> None:
        path = self._path(dice, 12)
        client = Client(self.server.port)
        with contextlib.closing(client):
            whole = client.get(path).body
            first = dice.randrange(len(whole))
            answer = client.get(path, Range=f"bytes={first}-{first + 99}")
        assert answer.status == 206, f"{path}: {answer.status} where 206 was expected"
        assert answer.body == whole[first : first + 100], f"{path}: other bytes from {first} on"

    def _slow_reader(self, dice: random.Random) -> None:
        """Takes a picture at 20 kB/s or so, which is slow but not too slow."""
        path = f"/images/steady-mp4?xsize={900 + dice.randrange(4)}"
        with connect(self.server.port) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            data = bytearray()
            while part := sock.recv(4096):
                data += part
                if not self._ended.is_set():
                    time.sleep(0.2 * dice.random())
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        self._same(path, int(head[9:12] or 0), body)

    def _given_up(self, dice: random.Random) -> None:
        """Ends in the middle of its request, or before or in the middle of its answer. Nobody answers for that."""
        text = f"GET {self._path(dice, 3_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        with connect(self.server.port) as sock:
            sock.sendall(text[: dice.choice([10, len(text) - 2, len(text), len(text)])])
            if dice.random() < 0.5:
                sock.settimeout(0.05)
                with contextlib.suppress(OSError):
                    sock.recv(dice.randrange(1, 4000))
        time.sleep(0.01)

    def _upload(self, dice: random.Random) -> None:
        """Replaces a picture, sees the new one at once, and sometimes takes it away again."""
        name = f"changing-{dice.randrange(4)}"
        which = dice.choice(list(self._sources))
        told = self._put(name, self._sources[which], chunked=dice.random() < 0.5)
        assert told in (200, 201), f"upload of {name}: {told}"
        client = Client(self.server.port)
        with contextlib.closing(client):
            for _ in range(4):  # whichever worker answers
                shown = client.get(f"/images/{name}?xsize=120")
                self._same(f"the picture {which} at 120", shown.status, shown.body)
        if dice.random() < 0.2:
            self._delete(name)
        time.sleep(0.1)

    def _put(self, name: str, body: bytes, *, chunked: bool) -> int:
        head = f"PUT /images/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
        with connect(self.server.port) as sock:
            if chunked:
                sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
                for start in range(0, len(body), 50_000):
                    part = body[start : start + 50_000]
                    sock.sendall(b"%x\r\n%b\r\n" % (len(part), part))
                sock.sendall(b"0\r\n\r\n")
            else:
                sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return read_answer(sock)[0]

    def _delete(self, name: str) -> None:
        with connect(self.server.port) as sock:
            sock.sendall(f"DELETE /images/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert read_answer(sock)[0] == 200, f"{name} cannot be deleted"
        client = Client(self.server.port)
        with contextlib.closing(client):
            gone = client.get(f"/images/{name}?xsize=120").status
        assert gone == 404, f"{name} was deleted, and is answered with {gone}"


def verdict(soak: Soak, memory: list[int], seconds: float) -> bool:
    """Tells what was seen; whether all is well."""
    fifth = max(1, len(memory) // 5)
    early, late = median(memory[fifth : 2 * fifth] or memory), median(memory[-fifth:])
    print(", ".join(f"{count:,} × {kind}" for kind, count in sorted(soak.counts.items())))
    print(f"memory: {early / _MB:.0f} MB early, {late / _MB:.0f} MB late, {max(memory) / _MB:.0f} MB at its peak")
    for trouble in soak.troubles:
        print(f"  {trouble}")
    well = not soak.troubles
    if seconds >= _TELLING and late > early * _GROWTH:
        print(f"memory grew by {late / early - 1:.0%}")
        well = False
    print("PASS: nothing lost, nothing mixed, nothing grown" if well else "FAIL")
    return well


def main() -> None:
    parser = argparse.ArgumentParser("bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".tests" / "bench")
    given = parser.parse_args()
    made = originals.prepare(given.folder.resolve() / "originals")
    folder = given.folder.resolve() / "soak"
    steady = {f"steady-{name}": made[name] for name in ("mp1", "mp4")}
    scratch = folder.parent / "soak-source"
    sources = {str(n): originals.copy(made["mp1"], scratch, n).read_bytes() for n in range(2)}
    sources["mp4"] = made["mp4"].read_bytes()
    scratch.unlink()
    # so little memory that it is evicting all the time
    server = ImageRepo(folder, steady, memory_cache_configuration={"max_size": "8 MiB"})
    server.options = ("--pid-file", str(folder / "pid"))
    with server:
        soak = Soak(server, sources, given.seed)
        memory = soak.run(given.seconds)
        well = verdict(soak, memory, given.seconds)
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
