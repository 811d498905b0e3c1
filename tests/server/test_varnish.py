"""Varnish in front, with the shipped configuration: it keeps pictures for a day, and drops what changes at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pictures
import pytest
from access_site import Site, running_site
from commands import until
from identity_provider import running_provider
from servers import varnish
from servers.ports import free_port
from webserver import Answer, Client

from image_repo.access.api_keys import new_key
from image_repo.access.request_rules import RequestSigner
from image_repo.config import AccessConfiguration, OidcConfiguration, PurgeConfiguration, RequestsConfiguration

VCL = Path(__file__).parents[2] / "docker" / "varnish.vcl"

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not varnish.is_installed(), reason="needs varnish: make test installs it where there is root"),
]


def _folder(above: Path, name: str) -> Path:
    (above / name).mkdir()
    return above / name


@dataclass(frozen=True)
class Fronted:
    """A server and Varnish in front of it."""

    site: Site
    front: Client

    def hit(self, path: str, **headers: str) -> Answer:
        """Read twice; return the second answer, which has to be Varnish's own."""
        self.front.get(path, **headers)
        before = len(self.site.passed)
        answer = self.front.get(path, **headers)
        assert len(self.site.passed) == before
        assert "Age" in answer.headers
        return answer


@pytest.fixture
def fronted(tmp_path: Path) -> Iterator[Fronted]:
    port = free_port()
    purge = PurgeConfiguration(url=f"http://127.0.0.1:{port}/", headers=("xkey-purge: {key}",))
    access = AccessConfiguration(anonymous="write")
    with running_site(_folder(tmp_path, "site"), access, surrogate_header="xkey", purge=purge) as site:
        vcl = tmp_path / "varnish.vcl"
        shipped = VCL.read_text()
        assert '.port = "5000"' in shipped
        vcl.write_text(shipped.replace('.port = "5000"', f'.port = "{site.client.port}"'))
        with varnish.running(vcl, tmp_path, port):
            site.put("a/b", pictures.jpeg(pictures.photo(60, 40)))
            site.put("c", pictures.jpeg(pictures.photo(60, 40)))
            yield Fronted(site, Client("127.0.0.1", port))


def test_a_picture_is_answered_by_varnish_and_no_key_leaves_it(fronted: Fronted) -> None:
    answer = fronted.hit("/images/a/b?xsize=30")
    assert answer.image().size == (30, 20)
    assert "xkey" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/images/a/b", "/images/a/b?xsize=30&kind=png", "/iiif/3/a%2Fb/full/30,/0/default.jpg"]
)
def test_every_variant_of_a_replaced_image_is_dropped_and_no_other_image(fronted: Fronted, path: str) -> None:
    old, other = fronted.hit(path), fronted.hit("/images/c")
    fronted.site.client.put("/images/a/b", pictures.jpeg(pictures.photo(40, 60, seed=2)))
    until(lambda: fronted.front.get(path).headers["ETag"] != old.headers["ETag"], "the new one is served")
    before = len(fronted.site.passed)
    assert fronted.front.get("/images/c").headers["ETag"] == other.headers["ETag"]
    assert len(fronted.site.passed) == before


def test_a_deleted_image_is_gone_under_its_version_too(fronted: Fronted) -> None:
    version = fronted.site.client.get("/images/a/b?meta=True").json()["version"]
    path = f"/images/a/b?xsize=30&v={version}"
    assert "immutable" in fronted.hit(path).headers["Cache-Control"]
    assert fronted.site.client.delete("/images/a/b").status == 200
    until(lambda: fronted.front.get(path).status == 404, "it is gone")


def test_a_purge_of_renditions_reaches_varnish(fronted: Fronted) -> None:
    fronted.hit("/images/a/b?xsize=30")
    before = len(fronted.site.passed)
    fronted.site.client.delete("/images/a/b?derived=True")
    assert len(fronted.site.passed) == before + 1
    until(
        lambda: bool(fronted.front.get("/images/a/b?xsize=30")) and len(fronted.site.passed) > before + 1, "it is read"
    )


def test_strangers_purge_nothing(fronted: Fronted, tmp_path: Path) -> None:
    shipped = VCL.read_text()
    assert '"127.0.0.1";' in shipped
    vcl = tmp_path / "closed.vcl"
    vcl.write_text(shipped.replace('"127.0.0.1";', '"192.0.2.1";'))
    port = free_port()
    with varnish.running(vcl, _folder(tmp_path, "closed"), port):
        assert Client("127.0.0.1", port)("PURGE", "/", xkey_purge="x").status == 405


def test_what_one_caller_may_see_is_not_for_the_next(tmp_path: Path) -> None:
    port, access = free_port(), AccessConfiguration(anonymous="none")
    with running_site(_folder(tmp_path, "site"), access, surrogate_header="xkey") as site:
        vcl = tmp_path / "varnish.vcl"
        vcl.write_text(VCL.read_text().replace('.port = "5000"', f'.port = "{site.client.port}"'))
        with varnish.running(vcl, tmp_path, port):
            site.put("a", pictures.jpeg())
            front = Client("127.0.0.1", port)
            bearer = {"Authorization": f"Bearer {site.repo.authenticator.keys.add(new_key('ann', 'reader'))}"}
            for _ in range(2):
                assert front.get("/images/a", **bearer).status == 200
                assert front.get("/images/a").status == 401


@pytest.mark.parametrize("cookie", ["image_repo_login=x.y", "other=1; image_repo_session=x.y"])
def test_a_request_of_a_login_or_a_session_goes_through_as_it_is(fronted: Fronted, cookie: str) -> None:
    path = "/images/c?xsize=20"
    assert len(fronted.hit(path, Cookie="other=1").headers["X-Varnish"].split()) == 2
    # Varnish names the request that filled its cache as well, where it answers from there.
    assert len(fronted.front.get(path, Cookie=cookie).headers["X-Varnish"].split()) == 1


def test_what_a_signature_with_an_end_is_for_is_not_kept_for_a_day(tmp_path: Path) -> None:
    port, key = free_port(), "k" * 16
    requests = RequestsConfiguration(mode="signed", key=key)
    access = AccessConfiguration(anonymous="write")
    with running_site(_folder(tmp_path, "site"), access, surrogate_header="xkey", requests=requests) as site:
        vcl = tmp_path / "varnish.vcl"
        vcl.write_text(VCL.read_text().replace('.port = "5000"', f'.port = "{site.client.port}"'))
        with varnish.running(vcl, tmp_path, port):
            site.put("a", pictures.jpeg())
            signature = RequestSigner([key]).sign("a", [], 4)
            front, path = Client("127.0.0.1", port), f"/images/a?signature={signature}"
            assert front.get(path).status == 200
            until(lambda: front.get(path).status == 410, "it has ended")


def test_people_log_in_through_it(tmp_path: Path) -> None:
    port = free_port()
    with running_provider() as provider:
        oidc = OidcConfiguration(issuer=provider.issuer, client_id="web")
        access = AccessConfiguration(oidc=oidc, secret="a secret of the tests")
        with running_site(_folder(tmp_path, "site"), access, surrogate_header="xkey") as site:
            vcl = tmp_path / "varnish.vcl"
            vcl.write_text(VCL.read_text().replace('.port = "5000"', f'.port = "{site.client.port}"'))
            with varnish.running(vcl, tmp_path, port):
                front = Client("127.0.0.1", port)
                begun = front.get("/login")
                cookie = begun.headers["Set-Cookie"].partition(";")[0]
                state = begun.headers["Location"].partition("&state=")[2].partition("&")[0]
                path = f"/login/callback?error=no_such_person&state={state}"
                # The answer is that of a login that has begun in this browser.
                assert "no_such_person" in front.get(path, Cookie=f"a=b; {cookie}").json()["detail"]
                assert "no_such_person" not in front.get(path).json()["detail"]
