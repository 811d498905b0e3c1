"""The interface as independent judges see it: validators of IIIF, thumbor's client, schemathesis."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, DialectsConfiguration
from image_repo.web import manifests

pytestmark = pytest.mark.servers

HERE = Path(__file__).parents[1]
#: the picture that the validator knows
IDENTIFIER = "67352ccc-d1b0-11e1-89ae-279075081939"
KEY = "a key of thumbor's"


def judges() -> Path:
    """Return the interpreter of the judges: in an environment of its own, because they pin Pillow."""
    default = HERE.parent / ".tests" / "judges" / "bin" / "python"
    python = Path(os.environ.get("IMAGE_REPO_TEST_JUDGES", str(default)))
    assert python.exists(), (
        f"The judges are not installed ({python} is missing): run `make test`, or set IMAGE_REPO_TEST_JUDGES "
        "to a Python that has iiif-validator, iiif-prezi3, libthumbor and schemathesis."
    )
    return python


def judge(*arguments: str, document: Any = None) -> Any:
    """Return what a judge says."""
    command = [str(judges()), str(HERE / "servers" / "iiif_check.py"), *arguments]
    done = subprocess.run(command, input=json.dumps(document), text=True, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("judged")
    dialects = DialectsConfiguration(thumbor=True, thumbor_key=KEY)
    with running_site(folder, AccessConfiguration(), metadata_location=True, dialects=dialects) as site:
        judge("picture", str(folder / "known.png"))
        site.put(IDENTIFIER, (folder / "known.png").read_bytes())
        for number in range(3):
            site.put(f"m/{number} ö", pictures.jpeg(pictures.photo(90 + number, 60), camera=True, gps=True))
        data = {"species": '"fox" <b>', "n": 3, "rights": "https://creativecommons.org/licenses/by/4.0/"}
        done = site.client("PATCH", "/images?name__regex=^m/", json.dumps(data).encode(),
                           **{"Content-Type": "application/json"})  # fmt: skip
        assert done.json()["modified"] == 3
        yield site


@pytest.mark.parametrize(
    ("version", "ran", "failed"),
    [
        # size_noup wants an error for !2000,3000, where the text (4.2) wants the size of the region
        ("3.0", 33, {"size_noup"}),
        ("2.0", 30, set()),
    ],
)
def test_the_validator_accepts_level_2(site: Site, version: str, ran: int, failed: set[str]) -> None:
    outcome = judge("image", f"127.0.0.1:{site.client.port}", version, IDENTIFIER)
    assert (outcome["ran"], set(outcome["failed"])) == (ran, failed), outcome["failed"]


def test_the_library_of_the_editors_accepts_manifests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = site.client("POST", "/snapshots?name__regex=^m/").json()["id"]
    paths = ("m%2F1%20%C3%B6", "collection/m", "query", f"snapshot/{snapshot}")
    documents = [site.client.get(f"/iiif/3/{path}/manifest.json").json() for path in paths]
    monkeypatch.setattr(manifests, "MAX_CANVASES", 2)
    documents.append(site.client.get("/iiif/3/collection/m/manifest.json").json())
    assert judge("presentation", document=documents) == [
        ["Manifest", 1], ["Manifest", 3], ["Manifest", 4], ["Manifest", 3], ["Collection", 2],
    ]  # fmt: skip
    assert documents[0]["items"][0]["rights"] == "http://creativecommons.org/licenses/by/4.0/"


def test_urls_that_thumbors_client_has_signed_are_served(site: Site) -> None:
    options = [
        {"width": 30, "height": 20, "smart": True, "image_url": "m/1%20%C3%B6.jpg"},
        {"width": 50, "fit_in": True, "filters": ["quality(80)", "format(webp)"], "image_url": "m/1%20%C3%B6"},
        {"crop": ((10, 10), (40, 30)), "flip": True, "image_url": "m/1%20%C3%B6"},
    ]
    sizes = [site.client.get(f"/thumbor{url}").image().size for url in judge("thumbor", KEY, document=options)]
    assert sizes == [(30, 20), (50, 33), (30, 20)]


@pytest.mark.timeout(240)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="none")) as site:
        key = site.repo.authenticator.keys.add(new_key("judge", "admin"))
        site.put("lake", pictures.jpeg(pictures.photo(60, 40)))
        document = f"http://127.0.0.1:{site.client.port}/openapi.json"
        command = [
            str(judges().parent / "st"), "run", document, "--header", f"Authorization: Bearer {key}", "--seed", "1",
            "--max-examples", "8", "--phases", "examples,fuzzing,stateful", "--no-color",
            # Names and filters have a grammar that no schema tells.
            "--exclude-checks", "positive_data_acceptance,negative_data_rejection",
            # 501, because nothing of it is configured
            "--exclude-path", "/login",
        ]  # fmt: skip
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "servers" / "schemathesis_hooks.py")}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stdout[-6000:]
