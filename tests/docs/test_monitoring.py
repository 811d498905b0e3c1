"""The shipped alerts and dashboard ask for metrics that a server has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from webserver import embedded, serving

DOCKER = Path(__file__).parents[2] / "docker"
RULES, DASHBOARD = DOCKER / "prometheus-rules.yml", DOCKER / "grafana-dashboard.json"


def expressions() -> dict[str, str]:
    """The name of each alert and panel → its expressions."""
    alerts = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    by_title = {panel["title"]: " ".join(target["expr"] for target in panel["targets"]) for panel in panels}
    return {**{rule["alert"]: rule["expr"] for rule in alerts}, **by_title}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each family that a server shows → its type."""
    folder = tmp_path_factory.mktemp("monitored")
    with serving(embedded(folder), folder) as server:
        lines = server.client.get("/metrics").body.decode().splitlines()
    return dict(line.split(" ")[2:] for line in lines if line.startswith("# TYPE "))


@pytest.mark.parametrize("name", expressions())
def test_a_server_shows_what_is_asked_for(name: str, families: dict[str, str]) -> None:
    metric_names = set(re.findall(r"image_repo_\w+", expressions()[name]))
    assert metric_names or name == "ImageRepoDown"
    of_histograms = {f"{family}_{part}" for family, kind in families.items() if kind == "histogram"
                     for part in ("bucket", "sum", "count")}  # fmt: skip
    assert metric_names <= families.keys() | of_histograms


def test_every_gauge_and_counter_is_on_the_dashboard(families: dict[str, str]) -> None:
    hidden = {family for family in families if family not in DASHBOARD.read_text()}
    assert hidden == {"image_repo_cache_entries", "image_repo_catalogue_up"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (
        (DOCKER / "image_repo.service")
        .read_text()
        .replace("/opt/image_repo/bin/image_repo", shutil.which("true") or "")
    )
    (tmp_path / "image_repo.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "image_repo.service")],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "image_repo.service:" in done.stderr) == (0, False), done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, timeout=60)
