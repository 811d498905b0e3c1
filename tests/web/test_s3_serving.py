"""The application over S3: moto, and Swift's ``s3api``."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import commands
import pytest
import requests
from conftest import QUICK, opened_bucket, s3_settings
from pictures import photo, save
from servers.faults import FaultProxy
from webserver import Client, Served, embedded, serving

from image_repo.config.settings import MemoryCacheConfiguration, SwiftCacheConfiguration
from image_repo.server import address

pytestmark = pytest.mark.servers
#: seconds that a request may take while the store is silent, with some for a busy machine
SILENCE_S = 3.5


def picture(kind: str, size: tuple[int, int]) -> bytes:
    return save(photo(*size), {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))


@contextmanager
def node(
    folder: Path, url: str, bucket: str, timeouts: Mapping[str, float] = MappingProxyType({}), **changes: object
) -> Iterator[Served]:
    folder.mkdir(exist_ok=True)
    config = replace(
        embedded(folder),
        persistent_store_configuration=s3_settings(url, container=bucket, **timeouts),
        swift_cache_configuration=SwiftCacheConfiguration(container=f"{bucket}-cache"),
        create_new=True,
        freshness=0.2,
        **changes,
    )
    with serving(config, folder) as served:
        yield served


@pytest.fixture(params=["moto", "swift"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """The URL of each server in turn."""
    server = request.getfixturevalue(request.param)
    return server if isinstance(server, str) else server.url


@pytest.mark.parametrize("request_", ["an unknown picture", "an upload", "a variant of a known picture"])
def test_what_needs_a_silent_bucket_is_503_in_time_from_the_first_request_on(moto, container, tmp_path, request_):
    with FaultProxy(int(moto.rpartition(":")[2])) as proxy:
        credentials = {"access_key_id": "a", "secret_access_key": "b", "endpoint": f"http://127.0.0.1:{proxy.port}"}
        config = commands.configure(
            tmp_path,
            persistent_store_configuration={"kind": "s3", "container": container, "credentials": credentials},
            swift_cache_configuration={"enabled": False},
            create_new=True,
            server={"processes": 1},
        )
        client = Client(*address.host_and_port(commands.listens_on(config)))
        with commands.serving(config):
            assert client.put("/images/a", picture("jpg", (400, 300))).status == 201
            proxy.fail("blackhole")
            began = time.monotonic()
            if request_ == "an upload":
                answer = client.put("/images/b", picture("jpg", (400, 300)))
            else:
                answer = client.get("/images/b" if request_ == "an unknown picture" else "/images/a?w=61")
            assert time.monotonic() - began < SILENCE_S
            assert answer.status == 503 or (answer.status == 200 and request_ == "a variant of a known picture")
            assert answer.status == 200 or answer.headers["Retry-After"]
            proxy.heal()


def test_a_commit_to_a_bucket_that_is_not_answered_says_so_and_can_be_repeated(moto, container, tmp_path):
    with (
        FaultProxy(int(moto.rpartition(":")[2])) as proxy,
        node(tmp_path / "one", f"http://127.0.0.1:{proxy.port}", container, QUICK) as served,
    ):
        assert served.client.put("/images/warm", picture("jpg", (40, 30))).status == 201
        proxy.fail("stall", match=f"PUT /{container}/b.jpg".encode())
        answer = served.client.put("/images/b", picture("jpg", (40, 30)))
        assert (answer.status, "outcome is unknown" in answer.json()["detail"]) == (503, True)
        assert answer.headers["Retry-After"]
        proxy.heal()
        assert served.client.put("/images/b", picture("jpg", (40, 30))).status in (200, 201)


def test_a_picture_is_stored_served_linked_listed_and_deleted(endpoint, container, tmp_path):
    with node(tmp_path / "one", endpoint, container) as served:
        client = served.client
        assert client.put("/images/a/b", picture("jpg", (400, 300))).status == 201
        assert client.get("/images/a/b?xsize=200").image().size == (200, 150)
        link = client.get("/images/a/b?xsize=200&url=True").json()
        answer = requests.get(link["url"], timeout=10)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.content == client.get("/images/a/b?xsize=200").body
        assert [image["name"] for image in client.get("/images").json()["images"]] == ["a/b"]
        assert client.get("/images/a/b?meta=True").json()["width"] == 400
    with opened_bucket(s3_settings(endpoint), container) as store:
        assert [(entry.key) for entry in store.keys(after="/")] == ["a/b.jpg", "a/b.json"]
    # Another node, with nothing of its own, serves it from the cache bucket.
    with node(tmp_path / "two", endpoint, container) as served:
        assert "cache" in served.client.get("/images/a/b?xsize=200").layer
        deleted = served.client.delete("/images/a/b").json()["deleted"]
        assert (deleted["original"], deleted["record"]) == (1, 1)
        assert served.client.get("/images/a/b").status == 404
    assert requests.get(link["url"], timeout=10).status_code in (403, 404)  # as Amazon: 403 without the right to list


def test_a_replacement_in_another_format_within_a_second_is_what_is_served(moto, container, tmp_path):
    with node(tmp_path / "one", moto, container) as served:
        for turn, format_ in enumerate(("png", "jpg", "png", "jpg", "tif", "jpg")):
            answer = served.client.put("/images/a", picture(format_, (100 + turn, 50)))
            assert answer.status in (200, 201)
            assert served.client.get("/images/a?meta=True").json()["width"] == 100 + turn
    with node(tmp_path / "two", moto, container) as served:
        assert served.client.get("/images/a?meta=True").json()["width"] == 105
    with opened_bucket(s3_settings(moto), container) as store:
        assert [entry.key for entry in store.keys(after="/")] == ["a.jpg", "a.json"]


def test_pictures_of_another_tool_are_served(endpoint, container, tmp_path):
    with opened_bucket(s3_settings(endpoint), container) as store:
        put = partial(store._client.call, "put_object", Bucket=container)
        put(Key="x/y.PNG", Body=picture("png", (80, 60)))
        put(Key="x/bare", Body=picture("png", (70, 60)), ContentType="image/png")
    with node(tmp_path / "one", endpoint, container) as served:
        assert served.client.get("/images/x/y").image().size == (80, 60)
        assert served.client.get("/images/x/bare").image().size == (70, 60)


def test_pictures_that_are_known_are_served_while_the_store_cannot_be_reached(moto, container, tmp_path):
    with FaultProxy(int(moto.rpartition(":")[2])) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        no_memory = {"memory_cache_configuration": MemoryCacheConfiguration(max_size=0)}
        with node(tmp_path / "one", url, container, QUICK, **no_memory) as served:
            served.client.put("/images/a", picture("jpg", (400, 300)))
            assert served.client.get("/images/a?xsize=100").status == 200
            proxy.fail("blackhole")
            time_of_hit = _timed(served, "/images/a?xsize=100", 200)
            time_of_miss = _timed(served, "/images/unknown", 503)
            assert time_of_hit < 3
            assert time_of_miss < 5
            proxy.heal()


def _timed(served: Served, path: str, status: int) -> float:
    began = time.monotonic()
    assert served.client.get(path).status == status
    return time.monotonic() - began


# -- the command ---------------------------------------------------------------------


def trial(tmp_path: Path, url: str, bucket: str, **more: str) -> subprocess.CompletedProcess[str]:
    config = commands.configure(tmp_path, persistent_store_configuration={})
    secret = {"S3_ACCESS_KEY_ID": "test:tester", "S3_SECRET_ACCESS_KEY": "testing-7f3a"}
    return commands.run("-y", config, "-t", S3_BUCKET=bucket, S3_ENDPOINT=url, **secret, **more)


def test_the_trial_run_says_what_the_store_can_do(moto, container, tmp_path):
    ended = trial(tmp_path, moto, container, IMAGE_REPO_CREATE_NEW="true")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"originals: S3 bucket {container!r} at {moto}; conditional writes are honoured" in ended.stdout
    assert "testing-7f3a" not in ended.stdout + ended.stderr


def test_the_trial_run_names_a_missing_bucket(moto, tmp_path):
    ended = trial(tmp_path, moto, "no-such-bucket")
    assert ended.returncode == 1
    assert "no bucket 'no-such-bucket'" in ended.stdout
    assert all(line.count("S3 bucket") <= 1 for line in ended.stdout.splitlines())
    assert "testing-7f3a" not in ended.stdout + ended.stderr


def test_the_trial_run_names_an_endpoint_that_does_not_answer_within_30_seconds(moto, tmp_path):
    with FaultProxy(int(moto.rpartition(":")[2])) as proxy:
        proxy.fail("blackhole")
        began = time.monotonic()
        ended = trial(tmp_path, f"http://127.0.0.1:{proxy.port}", "photos")
    assert time.monotonic() - began < 30
    assert ended.returncode == 1
    assert f"http://127.0.0.1:{proxy.port}" in ended.stdout
    assert "it does not answer in time" in ended.stdout
    assert "testing-7f3a" not in ended.stdout + ended.stderr


def test_a_bucket_and_a_sign_in_to_swift_ask_for_the_kind(tmp_path):
    ended = trial(tmp_path, "http://127.0.0.1:1", "photos", OS_AUTH_URL="http://127.0.0.1:1/v3")
    assert ended.returncode != 0
    assert "persistent_store_configuration.kind: expected s3 or swift" in ended.stdout + ended.stderr


def test_the_command_sets_a_lifecycle_rule_and_leaves_those_of_others(moto, container, tmp_path):
    with opened_bucket(s3_settings(moto), container) as store:
        other = {"ID": "other", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 3}}
        store._client.call(
            "put_bucket_lifecycle_configuration", Bucket=container, LifecycleConfiguration={"Rules": [other]}
        )
        config = commands.configure(tmp_path, persistent_store_configuration={})
        s3 = {"S3_BUCKET": container, "S3_ENDPOINT": moto, "S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b"}
        printed = json.loads(commands.run("-y", config, "s3-lifecycle", "--dry-run", **s3).stdout)
        assert printed[0]["Filter"] == {"Prefix": ".renditions/"}
        assert "31 days" in commands.run("-y", config, "s3-lifecycle", **s3).stdout
        assert "as before" in commands.run("-y", config, "s3-lifecycle", **s3).stdout
        rules = store._client.call("get_bucket_lifecycle_configuration", Bucket=container)["Rules"]
    assert {rule["ID"]: rule.get("Expiration") for rule in rules} == {
        "other": {"Days": 3},
        "image_repo renditions": {"Days": 31},
        "image_repo uploads": None,
    }


def test_a_store_without_lifecycle_rules_is_named(swift, container, tmp_path):
    config = commands.configure(tmp_path, persistent_store_configuration={})
    secret = {"S3_ACCESS_KEY_ID": "test:tester", "S3_SECRET_ACCESS_KEY": "testing"}
    with opened_bucket(s3_settings(swift.url), container):
        ended = commands.run("-y", config, "s3-lifecycle", S3_BUCKET=container, S3_ENDPOINT=swift.url, **secret)
    assert ended.returncode == 1
    assert "takes no lifecycle rules" in ended.stderr


def test_the_servers_own_processes_serve_from_s3(moto, container, tmp_path):
    config = commands.configure(tmp_path, persistent_store_configuration={}, create_new=True)
    s3 = {"S3_BUCKET": container, "S3_ENDPOINT": moto, "S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "secret-7f3a"}
    base = f"http://{commands.listens_on(config)}"
    with commands.serving(config, **s3):
        stored = requests.put(f"{base}/images/a", data=picture("jpg", (400, 300)), timeout=30)
        assert stored.status_code == 201
        bodies = {requests.get(f"{base}/images/a?w={80 + turn % 3}", timeout=30).content for turn in range(12)}
        assert len(bodies) == 3
        link = requests.get(f"{base}/images/a?w=80&url=True", timeout=30).json()
        assert requests.get(link["url"], timeout=30).content in bodies
        assert requests.get(f"{base}/readyz", timeout=30).status_code == 200
    log = (tmp_path / "log").read_text()
    assert f"Originals are in S3 bucket {container!r}" in log
    assert "secret-7f3a" not in log
