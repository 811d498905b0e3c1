"""The manifests for Kubernetes: valid by its own schemas, and of settings, paths and ports that there are."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from image_repo.config import GIB, load

ROOT = Path(__file__).parents[2]
MANIFESTS = [part for part in yaml.safe_load_all((ROOT / "docker/kubernetes/image_repo.yml").read_text()) if part]


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return dict(found)


POD = of_kind("Deployment")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_each_manifest_is_valid_for_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    broken = copy.deepcopy(of_kind("Deployment"))
    broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_the_settings_are_ours_and_make_a_repository_on_s3_with_a_shared_catalogue() -> None:
    text = (ROOT / "docker/kubernetes/image_repo.yml").read_text()
    secret = dict(re.findall(r"--from-literal=(\w+)=(\S+)", text))
    assert set(secret) == {"S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "IMAGE_REPO_CATALOGUE__URL"}
    config = load(None, of_kind("ConfigMap")["data"] | secret)
    store = config.persistent_store_configuration
    assert (store.resolved_kind, store.container) == ("s3", "pictures")
    assert str(config.catalogue.url).startswith("postgresql://")
    assert config.access.anonymous == "read"


def test_the_root_is_read_only_and_what_is_written_has_a_bounded_volume() -> None:
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert POD["securityContext"]["runAsNonRoot"] is True
    dockerfile = (ROOT / "Dockerfile").read_text()
    written = {path.split("/")[1] for path in re.findall(r"IMAGE_REPO_\w+=(/\S+)", dockerfile)}
    assert {mount["mountPath"] for mount in CONTAINER["volumeMounts"]} == {f"/{name}" for name in written}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in POD["volumes"])
    (cache,) = (volume["emptyDir"]["sizeLimit"] for volume in POD["volumes"] if volume["name"] == "cache")
    config = load(None, of_kind("ConfigMap")["data"])
    caches = config.local_cache_configuration.max_size + config.render.pixel_cache
    assert config.uploads.max_size + caches < int(cache.removesuffix("Gi")) * GIB
    assert f"--uid {POD['securityContext']['runAsUser']}" in dockerfile


def test_probes_ask_what_the_server_answers() -> None:
    probes = {name: CONTAINER[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert f"EXPOSE {CONTAINER['ports'][0]['containerPort']}" in (ROOT / "Dockerfile").read_text()


def test_one_node_stays_while_others_are_drained() -> None:
    budget = of_kind("PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] < of_kind("Deployment")["spec"]["replicas"]
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"] == of_kind("Service")["spec"]["selector"] == labels
