"""A browser in so far as login needs one: cookies, redirects, and the forms of oidc-provider's own pages."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

from webserver import Answer, Client

_FORM = re.compile(r'action="([^"]+)"')
_MAX_STEPS = 20


class Browser:
    """Sends what a browser would; it has the cookies of each server by its port."""

    def __init__(self) -> None:
        self.cookies: dict[int, dict[str, tuple[str, str]]] = {}

    def cookie(self, port: int, path: str = "/") -> str:
        """Return the Cookie header for a path of a server."""
        jar = self.cookies.get(port, {})
        return "; ".join(f"{name}={value}" for name, (value, at) in jar.items() if path.startswith(at))

    def __call__(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request."""
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        cookie = self.cookie(parts.port, parts.path)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {**({"Cookie": cookie} if cookie else {}), **headers}
        answer = Client(parts.hostname, parts.port)(method, path, body, **sent)
        jar = self.cookies.setdefault(parts.port, {})
        for text in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(text).items():
                if morsel.value and morsel["max-age"] != "0" and not morsel["expires"].startswith("Thu, 01 Jan 1970"):
                    jar[name] = morsel.value, morsel["path"] or "/"
                else:
                    jar.pop(name, None)
        return answer

    def follow(self, url: str, until: int | None = None) -> tuple[str, Answer]:
        """Follow redirects; return the last address and what it answers.

        :param until: a port whose addresses are returned, not fetched
        """
        for _ in range(_MAX_STEPS):
            answer = self("GET", url)
            if answer.status not in (302, 303):
                return url, answer
            url = urljoin(url, answer.headers["Location"])
            if urlsplit(url).port == until:
                return url, answer
        raise AssertionError("too many redirects")

    def submit(self, url: str, page: Answer, until: int | None = None, **fields: str) -> tuple[str, Answer]:
        """Send the form of a page, and follow from there."""
        match = _FORM.search(page.body.decode())
        assert match, page.body
        action = urljoin(url, match[1])
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        answer = self("POST", action, urlencode(fields).encode(), **form)
        assert answer.status in (302, 303), answer.body
        target = urljoin(action, answer.headers["Location"])
        return (target, answer) if urlsplit(target).port == until else self.follow(target, until)

    def sign_in(self, server: int, name: str, path: str = "/login") -> str:
        """Log in at oidc-provider's pages; return the address with which it sends the browser back.

        :param server: the port of image_repo
        """
        url, page = self.follow(f"http://127.0.0.1:{server}{path}")
        url, page = self.submit(url, page, server, prompt="login", login=name, password="any")
        if urlsplit(url).port != server:
            url, page = self.submit(url, page, server, prompt="consent")
        assert urlsplit(url).path == "/login/callback", url
        return url
