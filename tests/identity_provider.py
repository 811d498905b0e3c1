"""An OpenID provider on loopback whose keys and tokens a test chooses, also those that no real one would issue."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

_MAKE = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass
class SigningKey:
    """A key of the provider, and as it is published."""

    kid: str
    algorithm: str
    private: Any

    @property
    def jwk(self) -> dict[str, Any]:
        algorithm = get_default_algorithms()[self.algorithm]
        public = json.loads(algorithm.to_jwk(self.private.public_key()))
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm}


@dataclass
class IdentityProvider:
    """A running provider.

    :param fetches: paths that were fetched
    :param status: of every answer
    :param tokens: what the token endpoint answers
    :param claims: what it says of the person who has logged in
    :param endpoints: that its discovery document names beside the keys
    """

    port: int = 0
    keys: list[SigningKey] = field(default_factory=list)
    fetches: list[str] = field(default_factory=list)
    status: int = 200
    tokens: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    endpoints: tuple[str, ...] = ("authorization", "token", "userinfo")

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def jwks_uri(self) -> str:
        return f"{self.issuer}/jwks"

    def add_key(self, kid: str, algorithm: str = "RS256") -> SigningKey:
        key = SigningKey(kid, algorithm, _MAKE[algorithm]())
        self.keys.append(key)
        return key

    def document(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            paths = {
                "jwks_uri": "jwks",
                **{f"{name}_endpoint": name for name in self.endpoints},
            }
            return {"issuer": self.issuer, **{name: f"{self.issuer}/{path}" for name, path in paths.items()}}
        if path == "/jwks":
            return {"keys": [key.jwk for key in self.keys]}
        return {"/token": self.tokens, "/userinfo": self.claims}.get(path)

    def token(self, key: SigningKey | None = None, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that is valid but for what the arguments say; a claim that is None is left out."""
        key = key or self.keys[0]
        valid = {"iss": self.issuer, "aud": "images", "sub": "ann", "exp": int(time.time()) + 600, **claims}
        payload = {name: value for name, value in valid.items() if value is not None}
        header = {"kid": key.kid, **(headers or {})}
        return jwt.PyJWS().encode(json.dumps(payload).encode(), key.private, key.algorithm, header)


@contextmanager
def running_provider() -> Iterator[IdentityProvider]:
    """Start a provider with one RSA key."""
    provider = IdentityProvider()
    provider.add_key("first")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.fetches.append(self.path)
            body = json.dumps(provider.document(self.path)).encode()
            self.send_response(provider.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
