"""The audit log: a line for each request that changes something or gives something away, and no secret in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pictures
import pytest
from access_site import running_site

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration

JSON = {"Content_Type": "application/json"}


def test_each_action_is_a_line_with_its_caller_and_status(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    access = AccessConfiguration(anonymous="read", secret="a secret of the tests", audit=str(file))
    with running_site(tmp_path, access) as site:
        key = site.repo.authenticator.keys.add(new_key("boss", "admin"))
        boss = {"Authorization": f"Bearer {key}"}
        client = site.client
        client.put("/images/a", pictures.jpeg(), **boss)
        client("PATCH", "/images/a", b'{"x": 1}', X_Request_ID="mine", **boss, **JSON)
        client.get("/images/a?xsize=9")
        client.get("/images/a?url=False")
        client.get("/images/a?url=True", **boss)
        shared = client.get("/images/a?share=1", **boss).json()["url"]
        client.get("/" + shared.split("/", 3)[3])
        client.get("/export?name=a", **boss)
        client("POST", "/snapshots", **boss)
        client("POST", "/import", b"x", **boss)
        made = client("POST", "/access/keys", b'{"name": "n", "role": "reader"}', **boss, **JSON).json()["key"]
        client.delete("/images/a")
        client.delete("/images/a", Authorization="Bearer ir_unknown")
        client("DELETE", "/images?name=a&all=True", **boss)
    text = file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["action"], line["who"], line["status"]) for line in lines] == [
        ("write", "key:boss", 201),
        ("change", "key:boss", 200),
        ("link", "key:boss", lines[2]["status"]),
        ("share", "key:boss", 200),
        ("export", "key:boss", 200),
        ("freeze", "key:boss", 201),
        ("import", "key:boss", lines[6]["status"]),
        ("keys", "key:boss", 201),
        ("delete", None, 401),
        ("delete", "(invalid-token)", 401),
        ("delete", "key:boss", 200),
    ]
    assert lines[1]["id"] == "mine"
    assert (lines[0]["path"], lines[0]["client"], lines[-1]["query"]) == ("/images/a", "127.0.0.1", "name=a&all=True")
    for secret in (key, made, shared.rpartition(".")[2], "a secret of the tests"):
        assert secret not in text
    assert file.stat().st_mode & 0o077 == 0


def test_a_line_cannot_be_forged(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with running_site(tmp_path, AccessConfiguration(audit=str(file))) as site:
        site.client.delete("/images/a%0A%7B%22who%22%3A%22ann%22%7D")
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["path"].startswith("/images/a\\x0a")


def test_a_log_that_cannot_be_written_refuses_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access: dict[str, Any] = {"audit": str(tmp_path / "none" / "audit.jsonl")}
    with running_site(tmp_path, AccessConfiguration(**access)) as site:
        assert site.client.put("/images/a", pictures.jpeg()).status == 201
    assert any("the audit log cannot be written" in record.getMessage() for record in caplog.records)


def test_the_log_can_hold_the_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_site(tmp_path, AccessConfiguration(audit="log")) as site:
        site.client.put("/images/a", pictures.jpeg())
    assert any('"action": "write"' in record.getMessage() for record in caplog.records)


def test_a_line_names_the_user_whose_names_its_path_holds(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with running_site(tmp_path, AccessConfiguration(image_scope="user", audit=str(file))) as site:
        key = site.repo.authenticator.keys.add(new_key("robot", "writer", "ann"))
        assert site.client.put("/images/a", pictures.jpeg(), Authorization=f"Bearer {key}").status == 201
        assert site.client.put("/images/a", pictures.jpeg()).status == 401
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["who"], first["owner"], first["path"]) == ("key:robot", "ann", "/images/a")
    assert "owner" not in second


def test_administrators_read_the_newest_lines(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    with running_site(tmp_path, AccessConfiguration(anonymous="read", audit=str(file))) as site:
        keys = site.repo.authenticator.keys
        boss, writer = ({"Authorization": f"Bearer {keys.add(new_key(role, role))}"} for role in ("admin", "writer"))
        assert site.client.get("/access/audit", **boss).json() == {"target": str(file), "lines": []}
        file.write_text(
            "no JSON of ours\n"
            + '{"action": "old"}\n' * 3_000
            + '{"path": "'
            + "x" * 250_000
            + '"}\n' * 3
            + "[" * 9_000
            + "\n"
        )
        for number in range(3):
            site.client.put(f"/images/a{number}", pictures.jpeg(), **writer)
        lines = site.client.get("/access/audit", **boss).json()["lines"]
        assert [line["path"] for line in lines[:3]] == ["/images/a2", "/images/a1", "/images/a0"]
        assert len(lines) <= 100
        assert site.client.get("/access/audit", **writer).status == 403
        assert site.client.get("/access/audit").status == 401


@pytest.mark.parametrize("target", [None, "log"])
def test_without_a_file_there_are_no_lines_to_read(tmp_path: Path, target: str | None) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read", audit=target)) as site:
        key = site.repo.authenticator.keys.add(new_key("boss", "admin"))
        answer = site.client.get("/access/audit", Authorization=f"Bearer {key}")
        assert answer.json() == {"target": target, "lines": []}


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read", audit=str(tmp_path))) as site:
        key = site.repo.authenticator.keys.add(new_key("boss", "admin"))
        answer = site.client.get("/access/audit", Authorization=f"Bearer {key}")
        assert answer.json()["detail"] == "The file cannot be read: Is a directory."


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "audit"
    os.mkfifo(pipe)
    with running_site(tmp_path, AccessConfiguration(anonymous="read", audit=str(pipe))) as site:
        key = site.repo.authenticator.keys.add(new_key("boss", "admin"))
        answer = site.client.get("/access/audit", Authorization=f"Bearer {key}")
        assert answer.json()["detail"] == "The file cannot be read: it is a pipe."
