"""The identity of a Swift account: its storage URL, as Swift gives it after signing in.

Credentials do not tell it: they may name no project, and one address has many spellings. What Swift has said is stored
on this node, so that caches are found while Swift cannot be reached.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from image_repo.config import Credentials
from image_repo.errors import StoreUnavailable
from image_repo.stores.swift_auth import auth_version

log = logging.getLogger(__name__)
_PORTS = {"http": 80, "https": 443}
_MAX_BYTES = 4096


def canonical(url: str) -> str:
    """Return a storage URL in one spelling."""
    parts = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    return f"{parts.scheme.lower()}://{(parts.hostname or '').rstrip('.')}:{port}{unquote(parts.path).rstrip('/')}"


def configured(credentials: Credentials) -> str:
    """Return the account as far as the configuration knows it: only for a Swift that was never reached."""
    if auth_version(credentials) == "1":
        who = str(credentials.username).partition(":")[0]
    elif credentials.tenant_id or credentials.tenant:
        domain = credentials.project_domain_id or credentials.project_domain_name or "default"
        who = credentials.tenant_id or f"{domain}/{credentials.tenant}"
    elif credentials.application_credential_id:
        who = credentials.application_credential_id
    else:
        domain = credentials.user_domain_id or credentials.user_domain_name or "default"
        who = f"user {domain}/{credentials.username}"
    return f"{credentials.authurl}|{who}@{credentials.region or ''}"


class Account:
    """The identity of the account that some credentials open.

    :param folder: private to this node; None where there is none
    """

    def __init__(self, credentials: Credentials, folder: Path | None) -> None:
        self._credentials = credentials
        public = replace(credentials, password=None, application_credential_secret=None)
        digest = hashlib.sha256(repr(astuple(public)).encode()).hexdigest()[:32]
        self._path = folder / digest if folder else None

    def identity(self, storage_url: Callable[[], str]) -> str:
        """Return the identity, from Swift, else as it was known last on this node, else as configured.

        :param storage_url: signs in, and raises StoreUnavailable where that fails
        """
        try:
            url = canonical(storage_url())
        except StoreUnavailable as error:
            known = self._read()
            if known is None:
                log.warning("it is not known whose containers these are, until the next start: %s", error.detail)
            return known or configured(self._credentials)
        self._write(url)
        return url

    def _read(self) -> str | None:
        try:
            return self._path.read_text(encoding="utf-8")[:_MAX_BYTES] or None if self._path else None
        except (OSError, ValueError):
            return None

    def _write(self, url: str) -> None:
        if self._path is None or self._read() == url:
            return
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_text(url, encoding="utf-8")
            aside.replace(self._path)
        except OSError as error:
            log.info("the account of the store is not stored on this node: %s", error)
