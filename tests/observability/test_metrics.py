"""Counting: right over threads, processes and their ends, in the form that Prometheus reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pictures
import pytest
import requests
from commands import configure, listens_on, until
from commands import serving as serving_command
from webserver import Client, embedded, serving

from image_repo.config import LocalCacheConfiguration, MemoryCacheConfiguration
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters


def samples(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' format, each of a family that was announced with help and type.

    Reference: https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4
    """
    values: dict[str, float] = {}
    types: dict[str, str] = {}
    helped: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped and name not in types
            types[name] = kind
        else:
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            family = next(f for f in (name, name.rpartition("_")[0]) if f in types)
            assert family == name or types[family] == "histogram"
            assert series not in values
            values[series] = float(value)
    return values


@pytest.fixture
def counters(tmp_path: Path) -> Iterator[Counters]:
    made = Counters(tmp_path)
    yield made
    made.close()


def test_everything_is_there_from_the_beginning(counters: Counters) -> None:
    values = samples(counters.text())
    assert values.pop(next(name for name in values if name.startswith("image_repo_build_info{"))) == 1
    assert set(values.values()) == {0}
    for name in (
        'image_repo_requests_total{status="2xx"}',
        'image_repo_hits_total{layer="memory"}',
        "image_repo_renders_total",
        'image_repo_render_seconds_bucket{step="render",le="+Inf"}',
        'image_repo_render_seconds_sum{step="queue"}',
        'image_repo_render_seconds_count{step="fetch"}',
        "image_repo_bytes_sent_total",
        'image_repo_evictions_total{tier="disk"}',
        "image_repo_render_queue",
        'image_repo_store_calls_total{verb="head"}',
        "image_repo_store_errors_total",
    ):
        assert name in values


def test_durations_fall_into_every_bucket_above_them(counters: Counters) -> None:
    for seconds in (0.01, 0.011, 0.3, 99.0):
        counters.observe(metrics.SECONDS, "render", seconds)
    values = samples(counters.text())
    buckets = [values[f'image_repo_render_seconds_bucket{{step="render",le="{most}"}}'] for most in metrics.BUCKETS]
    assert buckets == [1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert values['image_repo_render_seconds_bucket{step="render",le="+Inf"}'] == 4
    assert values['image_repo_render_seconds_count{step="render"}'] == 4
    assert values['image_repo_render_seconds_sum{step="render"}'] == pytest.approx(99.321)


def test_no_count_of_a_thread_is_lost(counters: Counters) -> None:
    row, at = counters.row, metrics.column(metrics.RENDERS)
    barrier = threading.Barrier(8)

    def count() -> None:
        barrier.wait()
        for _ in range(50_000):
            row[at] += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert samples(counters.text())["image_repo_renders_total"] == 400_000


_OTHER = """
import os, sys
from pathlib import Path
from image_repo.observability import metrics
counters = metrics.Counters(Path(sys.argv[1]))
counters.add(metrics.RENDERS, count=int(sys.argv[2]))
counters.waiting(1)
print("counted", flush=True)
sys.stdin.read()
os._exit(1)  # whatever a process still wanted to do when it is killed, it does not do
"""


def another(folder: Path, count: int) -> subprocess.Popen[str]:
    """Another process that counts, and waits for a place until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "counted\n"
    return process


def test_processes_add_up_and_live_on_in_the_sum(tmp_path: Path, counters: Counters) -> None:
    def values_of(*names: str) -> list[float]:
        values = samples(counters.text())
        return [values[name] for name in names]

    names = ("image_repo_renders_total", "image_repo_render_queue")
    counters.add(metrics.RENDERS)
    first, second = another(tmp_path, 10), another(tmp_path, 100)
    try:
        assert values_of(*names) == [111, 2]
        first.kill()
        first.wait()
        # What it counted stays; what it was at is over.
        assert values_of(*names) == [111, 1]
        third = another(tmp_path, 1000)
        assert values_of(*names) == [1111, 2]
        third.communicate("")
    finally:
        second.communicate("")
        first.communicate()
    assert values_of(*names) == [1111, 0]
    # The third took the place of the first.
    assert len(list(next(tmp_path.glob("metrics-*")).iterdir())) == 3


def test_without_a_folder_a_process_counts_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file"):
        alone = Counters(folder)
        alone.add(metrics.RENDERS)
        assert samples(alone.text())["image_repo_renders_total"] == 1
        alone.close()
    assert "counts alone" in caplog.text


def test_files_of_somebody_else_disturb_nobody(tmp_path: Path, counters: Counters) -> None:
    folder = next(tmp_path.glob("metrics-*"))
    (folder / "note").write_text("no numbers")
    (folder / "folder").mkdir()
    counters.add(metrics.RENDERS)
    assert samples(counters.text())["image_repo_renders_total"] == 1


def test_what_happens_is_counted(tmp_path: Path) -> None:
    config = embedded(
        tmp_path,
        memory_cache_configuration=MemoryCacheConfiguration(max_size=100_000),
        local_cache_configuration=LocalCacheConfiguration(cache_path=str(tmp_path / "cache")),
        freshness=60.0,
    )

    def difference(client: Client, *requests: str) -> dict[str, float]:
        before = samples(client.get("/metrics").body.decode())
        for request in requests:
            client.get(request)
        after = samples(client.get("/metrics").body.decode())
        changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        return {name: by for name, by in changed.items() if "free_bytes" not in name}

    with serving(config, tmp_path) as served:
        client = served.client
        assert client.put("/images/a", pictures.jpeg(pictures.photo(300, 200))).status == 201
        answer = client.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        rendered = difference(client, "/images/a?xsize=40")
        assert rendered["image_repo_renders_total"] == 1
        for step in ("fetch", "queue", "render"):
            assert rendered[f'image_repo_render_seconds_count{{step="{step}"}}'] == 1
        assert difference(client, "/images/a?xsize=40", "/images/a?xsize=40") == {
            'image_repo_hits_total{layer="memory"}': 2
        }
        assert difference(client, "/images/none")['image_repo_store_calls_total{verb="keys"}'] >= 1
        # as many bytes as push one another out of memory
        many = [f"/images/a?kind=png&xsize={side}" for side in range(40, 80)]
        assert difference(client, *many)['image_repo_evictions_total{tier="memory"}'] > 10
        assert difference(client, many[0])['image_repo_hits_total{layer="disk"}'] == 1


def test_the_largest_of_what_each_process_measures_for_the_node_counts(tmp_path: Path, counters: Counters) -> None:
    other = Counters(tmp_path)
    for each, size in ((counters, 10), (other, 30)):
        each.set(metrics.CACHE_BYTES, "memory", size)
        each.set(metrics.CACHE_BYTES, "disk", size)
    values = samples(counters.text())
    other.close()
    assert values['image_repo_cache_bytes{tier="memory"}'] == 40
    assert values['image_repo_cache_bytes{tier="disk"}'] == 30


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/images/a", "pictures"), ("HEAD", "/images/a/", "pictures"), ("PUT", "/images/a", "writes"),
        ("GET", "/images", "collection"), ("POST", "/images", "writes"), ("GET", "/imagesque", "other"),
        ("GET", "/search", "search"), ("POST", "/artifacts", "artifacts"), ("GET", "/temp/a/b", "temp"),
        ("GET", "/metrics", "probes"), ("GET", "/", "other"), ("OPTIONS", "*", "other"),
    ],
)  # fmt: skip
def test_the_route_of_a_request(method: str, path: str, route: str) -> None:
    assert metrics.route_of(path, method, "/images/") == route


@pytest.mark.servers
def test_a_server_shows_what_an_operator_watches(tmp_path: Path) -> None:
    config = configure(tmp_path, server={"processes": 2})
    base = f"http://{listens_on(config)}"
    picture = pictures.jpeg(pictures.photo(300, 200))

    def current_samples() -> dict[str, float]:
        return samples(requests.get(f"{base}/metrics", timeout=30).text)

    with serving_command(config):
        assert requests.put(f"{base}/images/a", data=picture, timeout=30).status_code == 201
        for _ in range(10):
            assert requests.get(f"{base}/images/a?xsize=40", timeout=30).status_code == 200
        assert requests.get(f"{base}/images/none", timeout=30).status_code == 404
        until(
            lambda: current_samples()['image_repo_request_seconds_count{route="pictures",status="4xx"}'] == 1,
            "it is counted",
        )
        until(lambda: current_samples()["image_repo_catalogue_complete"] == 1, "the catalogue is complete")
        until(lambda: current_samples()["image_repo_catalogue_outbox"] == 0, "nothing waits")
        values = current_samples()
    assert values['image_repo_request_seconds_count{route="pictures",status="2xx"}'] == 10
    assert values['image_repo_request_seconds_bucket{route="writes",status="2xx",le="+Inf"}'] == 1
    assert 0 < values['image_repo_request_seconds_sum{route="writes",status="2xx"}'] < 30
    assert values["image_repo_bytes_received_total"] == len(picture)
    for tier in ("memory", "disk"):
        assert values[f'image_repo_cache_bytes{{tier="{tier}"}}'] > 500
        assert values[f'image_repo_cache_entries{{tier="{tier}"}}'] >= 1
    for folder in ("originals", "uploads", "cache"):
        assert values[f'image_repo_free_bytes{{folder="{folder}"}}'] == pytest.approx(
            shutil.disk_usage(tmp_path).free, rel=0.2
        )
    assert time.time() - values["image_repo_catalogue_last_sweep_timestamp_seconds"] < 120
    assert values['image_repo_open_circuits{store="originals"}'] == 0


@pytest.mark.servers
def test_all_workers_are_counted_together_also_after_one_was_killed(tmp_path: Path) -> None:
    config = configure(tmp_path, server={"processes": 2, "threads": 4})
    base = f"http://{listens_on(config)}"
    with serving_command(config) as process:
        requests.put(f"{base}/images/a", data=pictures.jpeg(pictures.photo(300, 200)), timeout=30)

        def value_of(name: str) -> float:
            return samples(requests.get(f"{base}/metrics", timeout=30).text)[name]

        def ask(side: int) -> int:
            return requests.get(f"{base}/images/a?xsize={side}", timeout=30).status_code

        for side in range(20, 40):
            assert ask(side) == 200
        before = value_of('image_repo_requests_total{status="2xx"}')
        sent = value_of("image_repo_bytes_sent_total")
        assert value_of("image_repo_renders_total") == 20
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), 9)
        for side in range(20, 40):
            assert ask(side) == 200
        assert value_of("image_repo_renders_total") == 20
        # 20 pictures, and the four looks at the counters since
        assert value_of('image_repo_requests_total{status="2xx"}') == before + 24
        assert value_of("image_repo_bytes_sent_total") > sent + 20 * 500
