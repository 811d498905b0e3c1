"""A real OpenStack Keystone (Identity API v3 over SQLite) on loopback, with users and a catalogue for the tests.

Everything in one folder; runs until it is ended, or its parent ends.
"""

# The servers are imported when they are configured.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

CONF = """
[DEFAULT]
use_stderr = true
default_log_levels = alembic=WARNING,keystone=WARNING,py.warnings=CRITICAL
[database]
connection = sqlite:///{dir}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {dir}/fernet
[fernet_receipts]
key_repository = {dir}/receipts
[credential]
key_repository = {dir}/credential
[identity]
password_hash_rounds = 4
[cache]
enabled = false
[oslo_policy]
policy_file = {dir}/policy.yaml
policy_dirs = {dir}/policy.d
"""
ADMIN = "adminpass"


def in_child(work: Callable[..., object], *arguments: object) -> None:
    """Does something in a forked child, so that Keystone's modules are imported just once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(*arguments)
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{arguments!r} failed")


def manage(conf: Path, *arguments: str) -> None:
    from keystone.cmd import cli

    cli.main(argv=["keystone-manage", "--config-file", str(conf), *arguments])


class Api:
    """Keystone's own interface, as somebody who signed in."""

    def __init__(self, url: str, user: str, password: str, project: str) -> None:
        import requests

        self.session, self.url = requests.Session(), url
        domain = {"id": "default"}
        who = {"name": user, "password": password, "domain": domain}
        options = {
            "identity": {"methods": ["password"], "password": {"user": who}},
            "scope": {"project": {"name": project, "domain": domain}},
        }
        answer = self.session.post(url + "/auth/tokens", json={"auth": options})
        answer.raise_for_status()
        self.session.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]

    def __call__(self, method: str, path: str, **body: Any) -> Any:
        answer = self.session.request(method, self.url + path, json=body or None)
        if not answer.ok:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.text else None

    def make(self, kind: str, **body: Any) -> str:
        return str(self("POST", f"/{kind}s", **{kind: body})[kind]["id"])


def populate(url: str, swift: str) -> dict[str, str]:
    """Projects, users, and the object store's place in the catalogue; what a client needs to know."""
    api = Api(url, "admin", ADMIN, "admin")
    roles = {role["name"]: role["id"] for role in api("GET", "/roles")["roles"]}
    projects = {name: api.make("project", name=name, domain_id="default") for name in ("service", "demo", "other")}
    users = {}
    for name, project, names in (
        ("swift", "service", ("admin", "service")),
        ("demo", "demo", ("member",)),
        ("viewer", "demo", ("reader",)),
        ("other", "other", ("member",)),
    ):
        own = {"default_project_id": projects[project]}
        users[name] = api.make("user", name=name, password=name + "pass", domain_id="default", **own)
        for role in names:
            api("PUT", f"/projects/{projects[project]}/users/{users[name]}/roles/{roles[role]}")
    service = api.make("service", type="object-store", name="swift")
    for interface in ("public", "internal"):
        api.make(
            "endpoint",
            service_id=service,
            interface=interface,
            region_id="RegionOne",
            url=swift + "/v1/AUTH_%(project_id)s",
        )
    mine = Api(url, "demo", "demopass", "demo")
    made = mine(
        "POST",
        f"/users/{users['demo']}/application_credentials",
        application_credential={"name": "image_repo", "roles": [{"name": "member"}]},
    )["application_credential"]
    return {
        "url": url,
        "swift": swift,
        "project_id": projects["demo"],
        "application_credential_id": made["id"],
        "application_credential_secret": made["secret"],
    }


def set_up(root: Path, url: str) -> Path:
    """Configuration, database and keys."""
    conf = root / "keystone.conf"
    conf.write_text(CONF.format(dir=root))
    (root / "policy.d").mkdir()
    (root / "policy.yaml").write_text("{}\n")
    import keystone.cmd.cli  # noqa: F401  before the forks

    me = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    places = [f"--bootstrap-{interface}-url={url}" for interface in ("public", "internal", "admin")]
    in_child(manage, conf, "db_sync")
    in_child(manage, conf, "fernet_setup", *me)
    in_child(manage, conf, "credential_setup", *me)
    in_child(manage, conf, "bootstrap", "--bootstrap-password", ADMIN, "--bootstrap-region-id", "RegionOne", *places)
    return conf


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--swift", required=True, help="what the catalogue says: the proxy, without /v1")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    url = f"http://127.0.0.1:{options.port}/v3"
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = str(set_up(options.dir, url))
    sys.argv = ["keystone"]
    from keystone.server.wsgi import initialize_public_application
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            pass

    server = make_server(
        "127.0.0.1", options.port, initialize_public_application(), threaded=True, request_handler=Quiet
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("READY " + json.dumps(populate(url, options.swift)), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
