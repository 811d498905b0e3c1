"""Tokens of a real OpenID provider: its algorithms, roles, outage, and a change of its keys."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pictures
import pytest
import requests
from access_site import running_site
from servers.launch import running_oidc_provider
from servers.ports import free_port

from image_repo.access.provider import ProviderKeys, fetch_keys
from image_repo.access.tokens import TokenPolicy, TokenVerifier
from image_repo.config import AccessConfiguration, OidcConfiguration, load
from image_repo.errors import InvalidToken, ProviderUnavailable

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("node") is None, reason="needs node: make test installs it where there is root"),
]


@pytest.fixture(scope="module")
def provider() -> Iterator[dict[str, Any]]:
    with running_oidc_provider() as provider:
        yield provider


def _token(provider: dict[str, Any], client: str = "writer", resource: str = "urn:images") -> str:
    form = {"grant_type": "client_credentials", "scope": "images:read", "resource": resource}
    answer = requests.post(provider["token"], form, auth=(client, f"{client}-secret"), timeout=30)
    assert answer.ok, answer.text
    return str(answer.json()["access_token"])


@pytest.mark.parametrize("resource", ["urn:images", "urn:images:es256", "urn:images:eddsa"])
def test_its_tokens_are_accepted_whichever_way_they_are_signed(provider: dict[str, Any], resource: str) -> None:
    keys = ProviderKeys(partial(fetch_keys, provider["issuer"], None))
    verifier = TokenVerifier(TokenPolicy(provider["issuer"], resource), keys)
    principal, expires = verifier.verify(_token(provider, resource=resource))
    assert principal.name == "writer"
    assert 0 < expires - time.time() <= 601
    with pytest.raises(InvalidToken):
        TokenVerifier(TokenPolicy(provider["issuer"], "urn:other"), keys).verify(_token(provider, resource=resource))


def test_its_roles_decide_over_http(provider: dict[str, Any], tmp_path: Path) -> None:
    oidc = OidcConfiguration(
        issuer=provider["issuer"], audience="urn:images", roles_claim="realm_access.roles", roles={}
    )
    with running_site(tmp_path, AccessConfiguration(oidc=oidc)) as site:
        statuses = {}
        for client in ("guest", "reader", "writer", "admin"):
            bearer = {"Authorization": f"Bearer {_token(provider, client)}"}
            statuses[client] = (
                site.client.put(f"/images/{client}", pictures.jpeg(), **bearer).status,
                site.client.get("/images", **bearer).status,
                site.client.get("/access/keys", **bearer).status,
            )
        assert statuses == {
            "guest": (403, 403, 403),
            "reader": (403, 200, 403),
            "writer": (201, 200, 403),
            "admin": (201, 200, 200),
        }


def test_known_keys_outlive_an_outage_and_new_ones_are_found_after_it(tmp_path: Path) -> None:
    port, now = free_port(), [1_000_000.0]

    def process() -> TokenVerifier:
        fetch = partial(fetch_keys, f"http://127.0.0.1:{port}", None)
        keys = ProviderKeys(fetch, tmp_path / "oidc.json", clock=lambda: now[0])
        return TokenVerifier(TokenPolicy(f"http://127.0.0.1:{port}", "urn:images"), keys)

    processes = [process(), process()]
    with running_oidc_provider(port) as provider:
        old = _token(provider)
        assert all(each.verify(old)[0].name == "writer" for each in processes)
    now[0] += 600
    assert all(each.verify(old)[0].name == "writer" for each in (*processes, process()))
    with running_oidc_provider(port) as provider:
        new = _token(provider)
        with pytest.raises(ProviderUnavailable):  # it was asked in vain just now
            processes[0].verify(new)
        now[0] += 45
        assert all(each.verify(new)[0].name == "writer" for each in processes)
        with pytest.raises(InvalidToken):
            processes[0].verify(old)


def test_the_set_up_of_the_docs_gives_every_user_their_own(provider: dict[str, Any], tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/access.md").read_text()
    documented = re.search(r"## Every user their own\n\n```yaml\n(.*?)```", text, re.DOTALL)
    assert documented
    yaml = documented[1].replace("https://id.example.org/realms/museum", provider["issuer"])
    (tmp_path / "config.yml").write_text(yaml.replace("audience: images", "audience: urn:images"))
    access = load(tmp_path / "config.yml", {}).access
    with running_site(tmp_path, access) as site:
        users = {
            name: {"Authorization": f"Bearer {_token(provider, name)}"}
            for name in ("writer", "reader", "guest", "admin")
        }
        made = site.client.put("/images/a", pictures.jpeg(), **users["writer"])
        assert (made.status, made.json()["owner"]) == (201, "writer")
        assert site.client.get("/images/a", **users["writer"]).status == 200
        assert site.client.get("/images/a", **users["reader"]).status == 404
        assert site.client.get("/images/writer/a", **users["reader"]).status == 404
        assert site.client.put("/images/a", pictures.jpeg(), **users["reader"]).status == 403
        assert site.client.get("/images/a", **users["guest"]).status == 403
        assert site.client.get("/images/writer/a", **users["admin"]).status == 200
        assert site.client.get("/images/a").status == 401
