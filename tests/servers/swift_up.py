"""A real OpenStack Swift on loopback: proxy, account, container and object server in this one process.

One replica, everything in one folder, no root, nothing in /etc. Runs until it is ended, or its
parent ends. Users of its own sign-in (tempauth): ``test:tester`` / ``testing``, who owns the
account AUTH_test, and ``test:reader`` / ``reading``, who may do nothing there.
"""

# The servers are imported when they are configured.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import ctypes
import getpass
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ports import free_port

KINDS = ("account", "container", "object", "proxy")

#: in place of memcached, enough for one proxy
CACHE = """
import json
import time as clock


class Cache:
    def __init__(self):
        self.kept = {}

    def get(self, key, raise_on_error=False):
        value, until = self.kept.get(key, (None, 0))
        if until and until < clock.time():
            del self.kept[key]
            return None
        return json.loads(value) if isinstance(value, str) else value

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        kept = value if isinstance(value, bytes) else json.dumps(value)
        self.kept[key] = (kept, clock.time() + time if time else 0)

    def incr(self, key, delta=1, time=0):
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key, delta=1, time=0):
        return self.incr(key, -delta, time)

    def delete(self, key, server_key=None):
        self.kept.pop(key, None)

    def set_multi(self, mapping, server_key, serialize=True, time=0, min_compress_len=0):
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys, server_key):
        return [self.get(key) for key in keys]


def filter_factory(global_conf, **local_conf):
    cache = Cache()

    def make(app):
        def middleware(env, start_response):
            env["swift.cache"] = cache
            return app(env, start_response)
        return middleware
    return make
"""

COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_address = {log}
log_level = ERROR

[filter:healthcheck]
use = egg:swift#healthcheck
"""

BACKEND = """
[pipeline:main]
pipeline = healthcheck {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}

[{kind}-replicator]
[{kind}-auditor]
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl {auth} copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
# The one node there is on a busy machine: half a second, the default, may be too short, and the answer is 503 then.
conn_timeout = 10

[filter:cache]
paste.filter_factory = image_repo_test_cache:filter_factory

[filter:s3api]
use = egg:swift#s3api
s3_acl = false
# the smallest part of an object in parts that Amazon takes, too
min_segment_size = 5242880

[filter:tempurl]
use = egg:swift#tempurl
{digests}

[filter:tempauth]
use = egg:swift#tempauth
token_life = {token_life}
user_test_tester = testing .admin
user_test_reader = reading

[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = swift
password = swiftpass
delay_auth_decision = true
service_token_roles_required = true
cache = swift.cache
include_service_catalog = false

[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
"""
FILTERS = ("catch_errors", "gatekeeper", "listing_formats", "bulk", "copy", "slo", "dlo")

SWIFT = """
[swift-hash]
swift_hash_path_prefix = p
swift_hash_path_suffix = s

[storage-policy:0]
name = Policy-0
default = yes

[swift-constraints]
max_meta_overall_size = {meta}
"""


def configure(root: Path, options: argparse.Namespace) -> dict[str, int]:
    """Writes configurations and rings; the ports by kind of server."""
    etc, devices = root / "etc", root / "devices"
    etc.mkdir()
    (devices / "d1").mkdir(parents=True)
    ports = {kind: free_port() for kind in KINDS} | ({"proxy": options.port} if options.port else {})
    (etc / "swift.conf").write_text(SWIFT.format(meta=room_for_metadata(devices)))
    (etc / "image_repo_test_cache.py").write_text(CACHE)
    values = {
        "user": getpass.getuser(),
        "etc": etc,
        "devices": devices,
        "log": root / "log.sock",
        "auth": "authtoken keystoneauth" if options.keystone else "s3api tempauth",
        "keystone": options.keystone,
        "digests": f"allowed_digests = {options.digests}" if options.digests else "",
        "token_life": options.token_life,
    }
    for kind, port in ports.items():
        text = COMMON + (PROXY if kind == "proxy" else BACKEND)
        filters = "".join(f"\n[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS if kind == "proxy")
        (etc / f"{kind}-server.conf").write_text(text.format(kind=kind, port=port, **values) + filters)
    make_rings(etc, ports)
    return ports


def room_for_metadata(folder: Path) -> int:
    """Swift's own limit, or what a file of ext4 holds: beyond it, the disk would count as full."""
    path = folder / "probe"
    path.touch()
    try:
        os.setxattr(path, "user.swift.metadata", b"x" * 5000)
    except OSError:
        return 2048
    finally:
        path.unlink()
    return 4096


def make_rings(etc: Path, ports: dict[str, int]) -> None:
    from swift.common.ring import RingBuilder

    for kind in KINDS[:3]:
        builder = RingBuilder(4, 1, 0)
        place = {"ip": "127.0.0.1", "port": ports[kind]}
        builder.add_dev(
            {"id": 0, "region": 1, "zone": 1, "weight": 100.0, "device": "d1", "meta": "", **place}
            | {f"replication_{name}": value for name, value in place.items()}
        )
        builder.rebalance()
        builder.get_ring().save(str(etc / f"{kind}.ring.gz"))


def use_configuration(etc: Path) -> Any:
    """swift.conf is read when Swift is imported, from /etc/swift unless it is told."""
    from swift.common import constraints, utils

    utils.SWIFT_CONF_FILE = str(etc / "swift.conf")
    utils.validate_configuration()
    constraints.reload_constraints()
    return utils


def log_to(path: Path) -> None:
    """What the servers send to their system log goes to our standard error."""
    import eventlet
    from eventlet.green import socket as green

    log = green.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(path))

    def pump() -> None:
        while True:
            sys.stderr.write(log.recv(65536).rstrip(b"\0").decode(errors="replace") + "\n")

    eventlet.spawn(pump)


def serve(root: Path, ports: dict[str, int]) -> None:
    """All four, each on its own socket."""
    etc = root / "etc"
    utils = use_configuration(etc)
    utils.monkey_patch()
    import eventlet
    from swift.common import wsgi
    from swift.obj.server import global_conf_callback

    # Each server chooses the hub anew, which would drop what the ones before it have started.
    # Only threads of the pool have none yet.
    choose = eventlet.hubs.use_hub
    choose(utils.get_hub())
    eventlet.hubs.use_hub = lambda *given: None if hasattr(eventlet.hubs._threadlocal, "hub") else choose(*given)
    log_to(root / "log.sock")
    for kind in KINDS:
        conf, logger, _ = wsgi._initrp(str(etc / f"{kind}-server.conf"), f"{kind}-server")
        shared = {"log_name": f"{kind}-server"}
        if kind == "object":
            utils.FALLOCATE_RESERVE, utils.FALLOCATE_IS_PERCENT = utils.config_fallocate_value("0")
            global_conf_callback(conf, shared)
        eventlet.spawn(wsgi.run_server, conf, logger, wsgi.get_socket(conf), shared)
    base = f"http://127.0.0.1:{ports['proxy']}"
    eventlet.sleep(0)
    print("READY " + json.dumps({"url": base, "auth": base + "/auth/v1.0", "port": ports["proxy"]}), flush=True)
    while True:
        eventlet.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--keystone", default="")
    parser.add_argument("--digests", default="")
    parser.add_argument("--token-life", type=int, default=86400)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    sys.path.insert(0, str(options.dir / "etc"))
    serve(options.dir, configure(options.dir, options))


if __name__ == "__main__":
    main()
