"""A whole OpenStack Swift (proxy, account, container and object server, one replica) in one process, for trying out.

    python serve.py FOLDER PORT

User ``test:tester``, password ``testing`` (tempauth, auth v1).
"""

from __future__ import annotations

import getpass
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

BACKENDS = {"account": 6202, "container": 6201, "object": 6200}
SWIFT = """\
[swift-hash]
swift_hash_path_suffix = only for trying out
[storage-policy:0]
name = Policy-0
default = yes
[swift-constraints]
# ext4 holds about 3.9 kB of attributes for a file; Swift's own limit is 4 kB for the user's alone
max_meta_overall_size = 2048
"""
COMMON = """\
[DEFAULT]
bind_ip = {ip}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = WARNING
"""
BACKEND = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk", "tempurl", "tempauth")
FILTERS_BEHIND = ("copy", "slo", "dlo")
PROXY = """\
[pipeline:main]
pipeline = {pipeline}
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_interval = 0
[filter:cache]
paste.filter_factory = serve:cache_factory
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""


class Cache:
    """What Swift would keep in memcached: tokens, for a single process."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str | bytes, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, until = self._kept.get(key, (None, 0))
        if value is None or until < time.time():
            return None
        return json.loads(value) if isinstance(value, str) else value

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        self._kept[key] = (value if isinstance(value, bytes) else json.dumps(value), self._until(time))

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._kept.pop(key, None)

    @staticmethod
    def _until(seconds: float) -> float:
        return time.time() + seconds if seconds else float("inf")


def cache_factory(_: dict[str, str], **__: str) -> Any:
    """The filter that hands the cache to the others (PasteDeploy)."""
    cache = Cache()

    def around(app: Any) -> Any:
        def middleware(env: dict[str, Any], start_response: Any) -> Any:
            env["swift.cache"] = cache
            return app(env, start_response)

        return middleware

    return around


def configure(folder: Path, port: int) -> Path:
    """Writes configurations and rings; their folder."""
    etc, devices = folder / "etc", folder / "devices"
    etc.mkdir(parents=True, exist_ok=True)
    (devices / "d1").mkdir(parents=True, exist_ok=True)
    (etc / "swift.conf").write_text(SWIFT)
    where = {"user": getpass.getuser(), "etc": etc, "devices": devices}
    for kind, own in BACKENDS.items():
        text = COMMON.format(ip="127.0.0.1", port=own, **where) + BACKEND.format(kind=kind)
        (etc / f"{kind}-server.conf").write_text(text)
        _ring(etc / f"{kind}.ring.gz", own)
    plain = (*FILTERS, *FILTERS_BEHIND)
    text = COMMON.format(ip="0.0.0.0", port=port, **where)  # noqa: S104, in a container of its own
    text += PROXY.format(pipeline=" ".join((*plain, "proxy-server")))
    text += "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in plain if name not in ("cache", "tempauth"))
    (etc / "proxy-server.conf").write_text(text)
    return etc


def _ring(path: Path, port: int) -> None:
    from swift.common.ring import RingBuilder  # noqa: PLC0415, after the configuration

    builder = RingBuilder(4, 1, 0)
    here = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 100.0, "device": "d1", "meta": "", **here})
    builder.rebalance()
    builder.get_ring().save(str(path))


def serve(etc: Path) -> None:
    """All four servers in this process, each on a socket of its own, for ever."""
    # swift.conf is read from /etc/swift when Swift is imported, unless told otherwise
    from swift.common import utils  # noqa: PLC0415

    utils.SWIFT_CONF_FILE = str(etc / "swift.conf")
    utils.validate_configuration()
    from swift.common import constraints  # noqa: PLC0415

    constraints.reload_constraints()
    utils.monkey_patch()
    import eventlet  # noqa: PLC0415
    from swift.common import wsgi  # noqa: PLC0415
    from swift.obj.server import global_conf_callback  # noqa: PLC0415

    # each server picks the hub anew, which would drop the green threads of those before it
    use_hub = eventlet.hubs.use_hub
    use_hub(utils.get_hub())
    eventlet.hubs.use_hub = lambda *_: None if hasattr(eventlet.hubs._threadlocal, "hub") else use_hub(*_)
    for kind in (*BACKENDS, "proxy"):
        conf, logger, _ = wsgi._initrp(str(etc / f"{kind}-server.conf"), f"{kind}-server")
        shared = {"log_name": f"{kind}-server"}
        if kind == "object":
            global_conf_callback(conf, shared)
        eventlet.spawn(wsgi.run_server, conf, logger, wsgi.get_socket(conf), shared)
    while True:
        eventlet.sleep(3600)


if __name__ == "__main__":
    # process 1 of a container has no default handlers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    serve(configure(Path(sys.argv[1]).resolve(), int(sys.argv[2])))
