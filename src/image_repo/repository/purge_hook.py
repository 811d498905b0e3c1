"""Purges of caches in front: a request to them for each image that has changed.

An image is purged at once, and again after a while: until then another node may have given the cache what it knew
before. What a cache does not take is repeated until it does. The requests of a process wait in its memory: those of a
process that is killed are lost.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.parse import quote

from image_repo.concurrency.backoff import Backoff
from image_repo.model.names import ImageName
from image_repo.model.surrogate_keys import surrogate_key
from image_repo.stores.no_redirect import NoRedirect

log = logging.getLogger(__name__)

#: images that may wait for their purge
_MAX_WAITING = 10_000
#: there is nothing to purge
_GONE = (404, 410)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """The request that purges an image. In its texts ``{key}`` is the surrogate key, ``{name}`` the name in a URL.

    :param headers: ``Name: value`` each
    :param timeout: in seconds
    """

    url: str
    method: str = "PURGE"
    headers: Sequence[str] = ()
    body: str | None = None
    timeout: float = 5.0

    def send(self, name: str) -> None:
        """Send it for an image.

        :raises OSError, http.client.HTTPException, ValueError: when it is not accepted
        """
        values = {"{key}": surrogate_key(name), "{name}": quote(name)}
        body = None if self.body is None else _fill(self.body, values).encode()
        request = urllib.request.Request(_fill(self.url, values), body, method=self.method)  # noqa: S310, checked
        for header in self.headers:
            field, _, value = _fill(header, values).partition(":")
            request.add_header(field.strip(), value.strip())
        try:
            with _opener.open(request, timeout=self.timeout):
                pass
        except HTTPError as error:
            error.close()
            if error.code not in _GONE:
                raise


def _fill(template: str, values: dict[str, str]) -> str:
    for word, value in values.items():
        template = template.replace(word, value)
    return template


#: without proxies of the environment: the cache is addressed itself
_opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


class PurgeHook:
    """Sends the purges of a process, in a thread of its own.

    :param send: purges an image by its name, or raises OSError, HTTPException or ValueError
    :param again_after: seconds until an image is purged again
    :param most: images that may wait; of more the oldest are dropped
    :param sent: called after each purge, with whether it was accepted
    """

    def __init__(
        self,
        send: Callable[[str], None],
        again_after: float,
        *,
        most: int = _MAX_WAITING,
        sent: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self._send = send
        self._again_after = again_after
        self._most = most
        self._sent = sent
        self._changed = threading.Condition()
        #: names to purge now, and name → when to purge it again in monotonic seconds, the first one first
        self._now: dict[str, None] = {}
        self._later: dict[str, float] = {}
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def noted(self, name: ImageName) -> None:
        """Purge an image soon."""
        with self._changed:
            self._now[name.text] = None
            if len(self._now) > self._most:
                dropped = next(iter(self._now))
                del self._now[dropped]
                log.warning("the cache in front takes no purges: that of %s is dropped", dropped)
            # A thread does not live on in a forked child.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="purges", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits until one is not accepted, and end the thread.

        :param timeout: seconds to wait for that
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while (name := self._next()) is not None:
            is_accepted = self._purge(name)
            with self._changed:
                if not is_accepted:
                    self._now = {name: None, **self._now}
                self._changed.notify_all()
                if not is_accepted and self._is_closing:
                    return

    def _next(self) -> str | None:
        """Return the next image to purge when it is due; None at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                name = next(iter(self._now), None) or next(iter(self._later), None)
                due = 0.0 if name is None or name in self._now else self._later[name] - now
                wait = 0.0 if self._is_closing else max(due, self._backoff.left())
                if name is not None and wait <= 0:
                    self._take(name, now)
                    return name
                if self._is_closing:
                    return None
                self._changed.wait(None if name is None else wait)

    def _take(self, name: str, now: float) -> None:
        self._later.pop(name, None)
        if name in self._now:
            del self._now[name]
            if not self._is_closing:
                self._later[name] = now + self._again_after
        if len(self._later) > self._most:
            del self._later[next(iter(self._later))]

    def _purge(self, name: str) -> bool:
        """Purge an image; return whether that was accepted."""
        try:
            self._send(name)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._backoff.is_failing:
                log.warning("the cache in front does not accept purges: %s; they are repeated", error)
            self._backoff.fail()
            self._sent(False)
            return False
        if self._backoff.is_failing:
            log.warning("the cache in front accepts purges again")
        self._backoff.reset()
        self._sent(True)
        return True
