"""The systems that are compared, each a server that starts on loopback, is ready, and ends with its ``with``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import proc
from bench.load import PATIENCE, Client

HERE = Path(__file__).resolve().parent
#: what image_repo, thumbor and ipx write JPEG with
QUALITY = 82
#: a server that takes less than this share of a core for so many seconds is idle
_IDLE_S, _IDLE_SHARE = 1.0, 0.05


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Server(ABC):
    """A server in a process of its own.

    :param name: what tables call it
    :param folder: for everything that it writes; made anew
    """

    #: what is asked for until it answers, whatever it answers
    ready = "/"

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    @abstractmethod
    def command(self) -> list[str]:
        """What is run in its folder, in the foreground."""

    def environment(self) -> Mapping[str, str]:
        """Variables beside our own."""
        return {}

    def path(self, image: str, width: int) -> str:
        """Where an original stands that wide, as a JPEG."""
        raise TypeError(f"{self.name} makes no pictures: {image} cannot be had {width} pixels wide")

    def forget(self) -> None:  # noqa: B027 (not every system keeps something)
        """Empties what it keeps between runs; it is stopped meanwhile."""

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def start(self) -> None:
        """
        :raises RuntimeError: when it does not come up
        """
        ours = {name: text for name, text in os.environ.items() if not name.startswith(("IMAGE_REPO_", "OS_", "ST_"))}
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, env={**ours, **self.environment()},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        client = Client(self.port)
        try:
            return client.get(self.ready).status > 0
        except (OSError, EOFError):
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Ends it and what it started, by their numbers."""
        process, self._process = self._process, None
        if process is None:
            return
        pids = proc.tree(process.pid)
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in pids[1:]:
            with contextlib.suppress(OSError):  # as a rule it is gone
                if os.getpgid(pid) == process.pid:
                    os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Begins anew, with what it kept on disk."""
        self.stop()
        self.start()

    def cpu(self) -> float:
        """CPU seconds so far."""
        return proc.cpu(self.pid)

    def pss(self) -> int:
        """Bytes of memory now."""
        return proc.pss(self.pid)


class ImageRepo(Server):
    """The command as it ships.

    :param originals: files that another tool put into its container
    :param settings: what differs from the defaults
    """

    ready = "/livez"
    #: of the command line
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path, originals: Mapping[str, Path], name: str = "image_repo", **settings: Any) -> None:
        super().__init__(name, folder)
        for image, path in originals.items():
            self.put(image, path)
        told = {
            "listen": f"127.0.0.1:{self.port}",
            "pid_file": str(folder / "pid"),
            "local_file_cache_path": str(folder / "files"),
            "local_cache_configuration": {"cache_path": str(folder / "cache")},
            "persistent_store_configuration": {"kind": "disk", "path": str(folder / "data")},
            "image_default_quality": {"jpg": QUALITY},
            **settings,
        }
        (folder / "config.yml").write_text(json.dumps(told))  # which is YAML too

    def put(self, image: str, path: Path) -> None:
        """Lays an original into the container, as another tool would."""
        target = self.folder / "data" / f"{image}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "image_repo"), "-y", "config.yml", *self.options]

    def path(self, image: str, width: int) -> str:
        return f"/images/{image}?xsize={width}"

    def forget(self) -> None:
        """Empties its caches; it is stopped meanwhile."""
        for name in ("cache", "files", "data/.image_repo"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def wait_for_catalogue(self) -> None:
        """Wait until all originals are in the catalogue: each is read for its record, whether it is wanted or not."""
        deadline = time.monotonic() + 10 * PATIENCE
        while self.metric("image_repo_catalogue_complete") != 1.0:
            if time.monotonic() > deadline:
                raise RuntimeError("the catalogue does not become complete")
            time.sleep(0.2)

    def wait_until_idle(self) -> float:
        """Wait until nothing is done in the background any more; return the CPU seconds that it took."""
        began = before = self.cpu()
        while True:
            time.sleep(_IDLE_S)
            now = self.cpu()
            if now - before < _IDLE_SHARE * _IDLE_S:
                return now - began
            before = now

    def metric(self, name: str) -> float | None:
        """The sum of a metric over its labels; None where there is none."""
        client = Client(self.port)
        lines = client.get("/metrics").body.decode().splitlines()
        client.close()
        values = [line.rpartition(" ")[2] for line in lines if line.startswith((name + " ", name + "{"))]
        return sum(map(float, values)) if values else None


class Nginx(Server):
    """nginx with a configuration of its own in a folder of its own."""

    conf = "nginx.conf"

    def command(self) -> list[str]:
        user = " user root;" if os.geteuid() == 0 else ""  # its workers are to read what we wrote
        found = shutil.which("nginx") or "/usr/sbin/nginx"
        return [found, "-p", str(self.folder), "-c", self.conf, "-e", "error.log", "-g", f"daemon off;{user}"]


_NGINX = """
pid nginx.pid;
worker_processes 2;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    types {{ image/jpeg jpg; }}
    client_body_temp_path temp/body; proxy_temp_path temp/proxy; fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi; scgi_temp_path temp/scgi;
    proxy_cache_path cache levels=1:2 keys_zone=pictures:16m max_size=1g use_temp_path=off;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        {location}
    }}
}}
"""


class NginxStatic(Nginx):
    """Files of a folder; no access log, which is as fast as it gets."""

    def __init__(self, folder: Path, files: Path) -> None:
        super().__init__("nginx, static file", folder)
        self._write(f"root {files};")

    def _write(self, location: str) -> None:
        (self.folder / "temp").mkdir()
        (self.folder / self.conf).write_text(_NGINX.format(port=self.port, location=location))


class NginxCache(NginxStatic):
    """``proxy_cache`` before another server; no access log."""

    def __init__(self, folder: Path, origin: Server) -> None:
        Nginx.__init__(self, "nginx, proxy_cache", folder)
        self._write(
            f"location / {{ proxy_pass http://127.0.0.1:{origin.port}; "
            "proxy_cache pictures; proxy_cache_valid 200 1h; }"
        )


class ShippedNginx(Nginx):
    """``docker/nginx.conf`` before an image_repo of its own."""

    ready = "/livez"

    def __init__(self, folder: Path, origin: ImageRepo) -> None:
        super().__init__("image_repo behind the shipped nginx", folder)
        self._origin = origin
        (folder / "temp").mkdir()
        shutil.copy(HERE.parent / "docker" / "nginx.conf", folder / self.conf)
        (folder / "place.conf").write_text(
            f"listen 127.0.0.1:{self.port} backlog=1024;\nset $origin 127.0.0.1:{origin.port};\n"
            "client_max_body_size 258m;\n"
        )

    def path(self, image: str, width: int) -> str:
        return self._origin.path(image, width)

    def start(self) -> None:
        self._origin.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self._origin.stop()

    def cpu(self) -> float:
        return super().cpu() + self._origin.cpu()

    def pss(self) -> int:
        return super().pss() + self._origin.pss()


_THUMBOR = """
LOADER = 'thumbor.loaders.file_loader'
FILE_LOADER_ROOT_PATH = '{files}'
STORAGE = 'thumbor.storages.file_storage'
FILE_STORAGE_ROOT_PATH = '{folder}/storage'
RESULT_STORAGE = 'thumbor.result_storages.file_storage'
RESULT_STORAGE_FILE_STORAGE_ROOT_PATH = '{folder}/results'
RESULT_STORAGE_STORES_UNSAFE = True
ALLOW_UNSAFE_URL = True
QUALITY = {quality}
"""


class Thumbor(Server):
    """thumbor in two processes, originals and results kept in files.

    :param originals: the folder of the originals
    """

    ready = "/healthcheck"

    def __init__(self, folder: Path, program: Path, originals: Path) -> None:
        super().__init__("thumbor", folder)
        self._program = program
        self._originals = originals
        (folder / "thumbor.conf").write_text(_THUMBOR.format(files=originals, folder=folder, quality=QUALITY))

    def command(self) -> list[str]:
        where = ["-i", "127.0.0.1", "-p", str(self.port)]
        return [str(self._program), *where, "-c", "thumbor.conf", "-l", "warning", "--processes", "2"]

    def path(self, image: str, width: int) -> str:
        # WIDTHx0 would often cut off a line of pixels, for which thumbor decodes a JPEG at its full size
        return f"/unsafe/fit-in/{width}x{10 * width}/filters:format(jpeg)/{_file(self._originals, image)}"

    def forget(self) -> None:
        """Empties what it keeps."""
        for name in ("storage", "results"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


class Ipx(Server):
    """ipx, which keeps nothing.

    :param program: bench/ipx.mjs beside its packages
    :param originals: the folder of the originals
    """

    def __init__(self, folder: Path, program: Path, originals: Path) -> None:
        super().__init__("ipx", folder)
        self._program = program
        self._originals = originals

    def command(self) -> list[str]:
        return ["node", str(self._program), str(self.port), str(self._originals)]

    def path(self, image: str, width: int) -> str:
        return f"/w_{width},q_{QUALITY},f_jpeg/{_file(self._originals, image)}"


def _file(folder: Path, image: str) -> str:
    """An original's name with its ending."""
    return next(folder.glob(f"{image}.*")).name
