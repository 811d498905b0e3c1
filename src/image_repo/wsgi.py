"""The application for a WSGI server: ours, an outside uWSGI, gunicorn.

* ``image_repo`` itself (:mod:`image_repo.server.uwsgi`): the configuration is at hand already;
* ``uwsgi --module image_repo.wsgi:app --pyargv "-y config.yml"``;
* ``IMAGE_REPO_CONFIG=config.yml gunicorn image_repo.wsgi:app``.

The repository is built once for each process, by its first request where the module was imported before the fork: its
threads and connections do not survive one.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from image_repo import wiring
from image_repo.config import Config, load
from image_repo.errors import Busy, ConfigurationError, RequestTimeout
from image_repo.observability import metrics
from image_repo.observability.logging import LogSettings, configure
from image_repo.server import memory, signals, uwsgi
from image_repo.server.http_guard import Guard, render_response
from image_repo.server.idle_connections import IdleConnections
from image_repo.server.keep_alive import KeptConnections
from image_repo.web.access_log import AccessLog
from image_repo.web.app import create_app
from image_repo.web.client_address import TrustedProxies, peer_of
from image_repo.web.fast_path import FastPath
from image_repo.web.identity import by_credentials

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: seconds for which a thread may run Python while another waits to answer a hit; 5 ms by default
_SWITCH_INTERVAL_S = 0.001
#: uWSGI waits on after a head that it cannot read
_TIMEOUT = RequestTimeout(
    "Expected a complete head in time: a path of less than 32 kB, a colon in each header field, CRLF after each line."
)

#: to a request that is not read any more
_ENDING = Busy("The server restarts.")


def _build() -> FastPath | IdleConnections:
    memory.limit_arenas()
    memory.start_trimming()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    api = uwsgi.running_api()
    inherited = uwsgi.inherited_config()
    config = inherited or _load_config(sys.argv[1:] if api else [])
    repo = wiring.build(config)
    atexit.register(wiring.start_daemon(config, repo))
    settings, identify = config.server, by_credentials(repo, config.repository_base_pathname)
    is_behind_proxy = api is not None and not uwsgi.speaks_http(api)
    proxies = TrustedProxies(settings.trusted_proxies)
    reaper = uwsgi.start_reaper(config, proxies.trusts, render_response(_TIMEOUT)) if inherited else None
    kept = KeptConnections(reaper) if reaper and settings.keep_alive else None
    guard: WSGIApplication = Guard(
        create_app(repo, config, identify).wsgi_app,
        settings.max_headers,
        settings.max_upload,
        proxies,
        read_chunk=api and api.chunked_read,
        connection_fd=None if api is None or is_behind_proxy else api.connection_fd,
        is_behind_proxy=is_behind_proxy,
        received=partial(repo.counters.add, metrics.RECEIVED, ""),
        reaper=reaper,
    )
    fast_path = FastPath(
        kept.wrap(guard) if kept else guard,
        repo,
        identify,
        config.freshness,
        kept,
        None if settings.access_log == "none" else AccessLog(settings.access_log),
        f"/{config.repository_base_pathname}/",
        **({"at_work": reaper.at_work} if reaper else {}),
        client_of=proxies.client_of if settings.trusted_proxies else peer_of,
    )
    if reaper is None or kept is None:
        return fast_path
    refusal = render_response(_ENDING)
    return IdleConnections(fast_path, kept, reaper.connection_fd, settings.socket_timeout, refusal)


def _load_config(arguments: list[str]) -> Config:
    """Return the configuration under somebody else's server.

    :param arguments: of uWSGI's ``--pyargv``; none under another server, whose arguments are its own
    :raises ConfigurationError: with every mistake in it
    """
    parser = argparse.ArgumentParser("image_repo.wsgi:app", add_help=False)
    parser.add_argument("-y", "--yaml-config", type=Path, default=os.environ.get("IMAGE_REPO_CONFIG") or None)
    parser.add_argument("-T", "--test-run", action="store_true")
    parser.add_argument("-v", "--verbose", dest="level", action="store_const", const=logging.INFO)
    parser.add_argument("-V", "--debug", dest="level", action="store_const", const=logging.DEBUG)
    parser.add_argument("-l", "--log-file", type=Path)
    parser.add_argument("-c", "--config-log-file", type=Path)
    options = parser.parse_args(arguments)
    if uwsgi.running_api() or options.level or options.log_file or options.config_log_file:
        configure(LogSettings(options.level or logging.WARNING, options.log_file, options.config_log_file))
    overrides = {"persistent_store_configuration.kind": "disk"} if options.test_run else {}
    try:
        return load(options.yaml_config and Path(options.yaml_config), os.environ, overrides=overrides)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            log.critical("%s", mistake)
        raise


#: process → its application
_built: dict[int, FastPath | IdleConnections] = {}
_building = threading.Lock()


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Build the application of this process with its first request, and call it."""
    pid = os.getpid()
    if pid not in _built:
        with _building:
            if pid not in _built:
                _built[pid] = _build()
    return _built[pid](environ, start_response)


if uwsgi.inherited_config():
    signals.end_on_signal()
if uwsgi.is_worker():  # which does not fork: what is wrong shows at once, not at the first request
    app = _build()
