"""Calls to S3 by boto3: bounded in number and in time, repeated where that helps.

The library's own retries are off: they know nothing of the deadline of a request.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config as ClientConfig  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from urllib3.util import Timeout

from image_repo.concurrency import deadline
from image_repo.concurrency.backoff import Backoff
from image_repo.concurrency.limiter import aside
from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.errors import StoreUnavailable
from image_repo.stores.http_errors import BROKEN, is_whole
from image_repo.stores.s3_errors import S3Refusal, translated

#: loggers of headers and whole bodies, signatures among them
_LEAKING_LOGGERS = ("boto3", "botocore", "urllib3")
#: pauses between attempts, and the longest time after which another one begins
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _RETRY_WITHIN_S = 0.05, 0.5, 1.0
#: answers that another attempt may change, whatever was sent: nothing has been done
_NOT_DONE = frozenset((409, 429, 503))
#: and those after which something may have been done
_PERHAPS_DONE = frozenset((500, 502, 504))


class _SharedSilence(Timeout):
    """Timeouts of one call: in a request, at most the silence that its other calls have left.

    urllib3 clones the timeout of its pool for each call, in the thread of the caller.

    :param connecting: seconds of connecting, outside of a request
    :param silence: seconds without a byte, outside of a request
    """

    def __init__(self, connecting: float, silence: float) -> None:
        super().__init__(connect=connecting, read=silence)
        self._limits = connecting, silence

    def clone(self) -> Timeout:
        """Return the timeouts of a call that begins now."""
        connecting, silence = (deadline.silence_left(seconds) for seconds in self._limits)
        return Timeout(connect=connecting, read=silence)


class S3Client:
    """The connections to one endpoint, shared by its buckets. May be used from any thread."""

    def __init__(self, settings: PersistentStoreConfiguration) -> None:
        # Their messages would reveal secrets: trouble is reported by our own exceptions.
        for name in _LEAKING_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.settings = settings
        self._slots = threading.Semaphore(settings.connections)
        self._lock = threading.Lock()
        self._session: Any = None
        self._client: Any = None

    def call(self, operation: str, *, again: bool = True, **parameters: Any) -> dict[str, Any]:
        """Call an operation of the library.

        :param again: whether it may be made twice when it is not known whether the first one took effect
        :raises S3Refusal: for an answer that the caller has to judge
        :raises StoreUnavailable: for everything else
        """
        with self.slot():
            return self.call_in_slot(operation, again=again, **parameters)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Count one connection as in use.

        :raises StoreUnavailable: when none is free in time
        """
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        """Count one connection as in use, until :meth:`release`."""
        if not self._slots.acquire(timeout=deadline.left(self.settings.timeout)):
            raise StoreUnavailable("All connections to the store are in use.")

    def release(self) -> None:
        """Count one connection less."""
        self._slots.release()

    def call_in_slot(self, operation: str, *, again: bool = True, **parameters: Any) -> dict[str, Any]:
        """Call an operation, for a caller that has a slot: see :meth:`call`."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter=0.5)
        end = deadline.until(_RETRY_WITHIN_S)
        body = parameters.get("Body")
        rewind = None if body is None or isinstance(body, bytes) else (body, body.tell())
        while True:
            try:
                return self._attempt(operation, parameters)
            except StoreUnavailable as problem:
                pause = backoff.grow()
                if not _may_repeat(problem, again) or deadline.remaining(end) <= pause:
                    raise
            with aside():
                time.sleep(pause)
            if rewind:
                rewind[0].seek(rewind[1])

    def _attempt(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        try:
            with aside():
                answer: dict[str, Any] = getattr(self.library(), operation)(**parameters)
        except ClientError as error:
            raise translated(error) from error
        except (BotoCoreError, *BROKEN) as error:
            deadline.silent_for(time.monotonic() - began)
            raise translated(error) from error
        except ValueError as error:  # a header that cannot be sent: the message might show a secret
            raise StoreUnavailable("The credentials, or an address, hold characters that cannot be sent.") from error
        if not is_whole(answer["ResponseMetadata"]["HTTPHeaders"]):
            raise StoreUnavailable("The answer of the store was cut off.")
        return answer

    def library(self) -> Any:
        """Return the client of boto3. Made late: finding credentials may contact the machine's metadata service."""
        with self._lock:
            if self._client is None:
                self._client = self._connect(self.settings.credentials.endpoint)
            return self._client

    def signer(self) -> tuple[Any, Any]:
        """Return a client for the public address, and the credentials now.

        :raises StoreUnavailable: when there are no credentials
        """
        client = self.library()
        public = self.settings.public_endpoint
        try:
            with self._lock:
                credentials = self._session.get_credentials()
                signing = self._connect(public) if public else client
            return signing, credentials.get_frozen_credentials() if credentials else None
        except BotoCoreError as error:
            raise translated(error) from error

    def _connect(self, endpoint: str | None) -> Any:
        credentials = self.settings.credentials
        if self._session is None:
            self._session = boto3.session.Session(
                aws_access_key_id=_plain(credentials.access_key_id),
                aws_secret_access_key=_plain(credentials.secret_access_key),
                aws_session_token=_plain(credentials.session_token),
                region_name=_plain(credentials.region),
            )
        client = self._session.client(
            "s3",
            endpoint_url=_plain(endpoint),
            verify=False if credentials.insecure else _plain(credentials.cacert),
            config=ClientConfig(
                signature_version="s3v4",
                connect_timeout=self.settings.connect_timeout,
                read_timeout=self.settings.timeout,
                retries={"total_max_attempts": 1},
                max_pool_connections=self.settings.connections,
                s3={"addressing_style": addressing(credentials)},
                # Other stores than Amazon's do not know the newer checksums; MD5 is sent and verified here.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.meta.events.register_last("before-call.s3", _send_at_once)
        _share_silence(client, self.settings)
        return client

    def close(self) -> None:
        """Close idle connections; new ones are made when they are needed."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def addressing(credentials: Credentials) -> str:
    """Return the style of addresses: an endpoint of one's own seldom has a name for each bucket."""
    if credentials.addressing == "auto":
        return "path" if credentials.endpoint else "virtual"
    return credentials.addressing


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    """Do not wait for ``100 Continue``: the library reads for ever where the connection ends in that answer."""
    params["headers"].pop("Expect", None)


def _share_silence(client: Any, settings: PersistentStoreConfiguration) -> None:
    """Let the calls of one request share the seconds for which the store may be silent.

    The library takes one timeout for all calls of a client.
    """
    session = client._endpoint.http_session
    session._timeout = _SharedSilence(settings.connect_timeout, settings.timeout)
    session._manager.connection_pool_kw["timeout"] = session._timeout


def _may_repeat(problem: StoreUnavailable, again: bool) -> bool:
    if not isinstance(problem, S3Refusal):
        return again
    return problem.http_status in _NOT_DONE or (again and problem.http_status in _PERHAPS_DONE)


def _plain(text: str | None) -> str | None:
    """Return text without its source, which the library would not know what to do with."""
    return None if text is None else str(text)
