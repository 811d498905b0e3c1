"""More is asked for than can be made: a bounded number wait, the others are told at once, and nobody else notices."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import pictures
import pytest
import requests

from image_repo.concurrency.limiter import Limit, Limiter, Stage
from image_repo.errors import Busy


def test_a_stage_admits_as_many_as_its_capacity() -> None:
    limiter = Limiter({Stage.RENDITION: Limit(2)})
    with (
        limiter.admit(Stage.RENDITION),
        limiter.admit(Stage.RENDITION),
        pytest.raises(Busy),
        limiter.admit(Stage.RENDITION),
    ):
        pass
    with limiter.admit(Stage.RENDITION), limiter.admit(Stage.RENDITION):
        pass


def test_a_full_stage_without_a_queue_refuses_at_once() -> None:
    limiter = Limiter({Stage.RENDITION: Limit(1)})
    outcome: list[type[BaseException]] = []

    def enter() -> None:
        try:
            with limiter.admit(Stage.RENDITION):
                pass
        except Busy as error:
            outcome.append(type(error))

    with limiter.admit(Stage.RENDITION):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    assert outcome == [Busy]


@pytest.mark.servers
def test_a_flood_of_renders_holds_up_nobody_else(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, server={"processes": 2}, render={"at_once": 1, "queue": 8, "wait": 50})
    base = f"http://{commands.listens_on(config)}"
    answers: list[requests.Response] = []

    def cold(side: int) -> None:
        answers.append(requests.get(f"{base}/images/big?xsize={side}&kind=png", timeout=60))

    with commands.serving(config):
        big = pictures.jpeg(pictures.photo(2400, 1800))
        assert requests.put(f"{base}/images/big", data=big, timeout=60).status_code == 201
        for _ in range(10):
            assert requests.get(f"{base}/images/big?xsize=20", timeout=60).status_code == 200
        with ThreadPoolExecutor(200) as pool:
            flood = [pool.submit(cold, 1000 + number) for number in range(200)]
            commands.until(lambda: len(answers) > 100, "most are refused")
            waits: list[float] = []
            while not all(one.done() for one in flood):
                for path in ("/livez", "/images/big?xsize=20"):
                    began = time.monotonic()
                    assert requests.get(base + path, timeout=30).status_code == 200
                    waits.append(time.monotonic() - began)
    outcomes = Counter(answer.status_code for answer in answers)
    # In each process nine places; whoever comes when one is free again has it as well, however many these are.
    assert 9 <= outcomes[200] < 200
    assert outcomes[503] == 200 - outcomes[200]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.headers["Retry-After"] for answer in refused} == {"2"}
    assert {answer.json()["type"] for answer in refused} == {"/problems/busy"}
    assert waits
    assert sorted(waits)[len(waits) // 2] < 0.5  # the goal is 50 ms; the machine of the tests may be busy
