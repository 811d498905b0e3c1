"""Share links of a query: ``GET /images?FILTER&share=True``, and the page that anybody may read with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from flask import request

from image_repo.access.shared_queries import signed_text, visible_conditions
from image_repo.catalogue.base import Page
from image_repo.catalogue.grammar import Words
from image_repo.config import Config
from image_repo.model.names import path_of
from image_repo.model.parameters import integer, is_boolean, read_boolean
from image_repo.model.record import timestamp
from image_repo.repository.repository import Repository
from image_repo.web import responses
from image_repo.web.identity import principal
from image_repo.web.paths import server_root
from image_repo.web.responses import Reply

#: parameters of these links; elsewhere they are keys of the data as any other
SHARING: Words = {
    "share": ({"type": "string"}, "True: a link by which anybody may read what matches: {url, expires}"),
    "lifetime": ({"type": "integer", "minimum": 1}, "with share=True: lifetime of that link in seconds"),
}


class SharedQueries:
    """Makes links of queries, and gives the pictures of their pages links of their own."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._public_url = config.public_url
        self._base = f"/{config.repository_base_pathname}"
        self._shares = repo.authenticator.shares

    def is_wanted(self) -> bool:
        """Return whether this request asks for a link."""
        text = request.args.get("share", "false")
        return is_boolean(text) and read_boolean("share", text)

    def make(self) -> Reply:
        """Return a link by which anybody may read what matches the query of this request.

        :raises Problem: when the caller may not share it
        """
        narrowed = visible_conditions(self._repo.access, principal())
        policy = self._repo.policy
        lifetime = request.args.get("lifetime", str(policy.url_lifetime))
        seconds = integer(1, policy.url_lifetime_most)("lifetime", lifetime)
        pairs = [(name, value) for name, value in request.args.items(multi=True) if name not in SHARING]
        pairs += [pair for pair in narrowed if pair not in pairs]
        token, expires = self._shares.sign_query(signed_text(pairs), seconds, principal().owner)
        query = urlencode([*pairs, ("share", token)], quote_via=quote)
        return responses.send_json(
            {"url": f"{server_root(self._public_url)}{self._base}?{query}", "expires": timestamp(expires)}
        )

    def with_urls(self, page: Page) -> Page:
        """Return the page of a shared query, each record with the URL by which its picture may be read as long."""
        expires = int(request.args["share"].partition(".")[0])
        return replace(page, documents=[self._with_url(document, expires) for document in page.documents])

    def _with_url(self, document: Mapping[str, Any], expires: int) -> dict[str, Any]:
        name = document.get("name")
        if not isinstance(name, str):  # it is not selected
            return dict(document)
        caller = principal()
        whole_name = caller.namespace + name
        token = self._shares.sign_until(whole_name, expires, caller.owner)
        return {
            **document,
            "url": f"{server_root(self._public_url)}{self._base}/{quote(path_of(whole_name))}?share={token}",
        }
