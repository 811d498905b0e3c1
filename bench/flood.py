"""Cold requests, so many in flight at any time; tells their outcomes as JSON.

python -m bench.flood PORT COUNT SECONDS ROUND      for so many seconds, of ten originals
python -m bench.flood PORT COUNT sizes SIZES        so many different sizes of one original, each once
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter


async def _keep_asking(port: int, dice: random.Random, until: float, outcomes: Counter[str]) -> None:
    while time.monotonic() < until:
        original, width, height = dice.randrange(10), dice.randrange(100, 640), dice.randrange(100, 640)
        path = f"/images/a-{original}?xsize={width}&ysize={height}&fit=fill"
        try:
            status = await asyncio.wait_for(_ask(port, path), 60)
        except (OSError, EOFError, TimeoutError, IndexError):
            status = "no answer"
        outcomes[status] += 1
        if status == "503":
            await asyncio.sleep(0.5)


async def _ask(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        return answer[:12].decode().split()[1]
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _flood(port: int, count: int, seconds: float, seed: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    dice, until = random.Random(seed), time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(_keep_asking(port, dice, until, outcomes))
    return outcomes


async def _ask_for_sizes(port: int, count: int, sizes: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    paths = iter([f"/images/a-0?xsize={100 + n % 100}&ysize={100 + n // 100}&fit=fill" for n in range(sizes)])

    async def work() -> None:
        for path in paths:
            outcomes[await asyncio.wait_for(_ask(port, path), 60)] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())
    return outcomes


if __name__ == "__main__":
    port, count, seconds, number = sys.argv[1:]
    run = (
        _ask_for_sizes(int(port), int(count), int(number))
        if seconds == "sizes"
        else _flood(int(port), int(count), float(seconds), int(number))
    )
    print(json.dumps(asyncio.run(run)))
