"""The CORS protocol of the Fetch standard: preflights, who may read, who may write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pictures
import pytest
from webserver import Answer, Client, embedded, listening, serving

from image_repo.config.rules import first_violations
from image_repo.web.client_address import TrustedProxies
from image_repo.web.cors import Cors
from image_repo.web.responses import Reply

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

APP, OTHER = "https://app.example.org", "https://other.example.org"
PICTURE = pictures.jpeg(pictures.photo(40, 30))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("cors")
    with serving(embedded(folder, cors_write_origins=(APP,)), folder) as server:
        assert server.client.put("/images/a", PICTURE).status == 201
        yield server.client


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Client]:
    """Return a client whose address is that of a trusted proxy."""
    cors, proxies = Cors(Reply(201, []), "*", ()), TrustedProxies(("127.0.0.0/8",))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        proxies.apply(environ)
        return cors(environ, start_response)

    with listening(application) as port:
        yield Client("127.0.0.1", port)


def preflight(client: Client, origin: str, method: str) -> Answer:
    return client("OPTIONS", "/images/a", Origin=origin, Access_Control_Request_Method=method)


def methods(answer: Answer) -> set[str]:
    return set((answer.headers["Access-Control-Allow-Methods"] or "").split(", "))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_preflight_for_reading_is_answered_for_all_by_default(client: Client, method: str) -> None:
    answer = preflight(client, OTHER, method)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert methods(answer) == {"GET", "HEAD"}
    assert {"Range", "If-None-Match", "Authorization"} <= set(
        answer.headers["Access-Control-Allow-Headers"].split(", ")
    )


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_a_preflight_for_writing_is_answered_for_the_configured_origins_alone(client: Client, method: str) -> None:
    allowed = preflight(client, APP, method)
    assert allowed.headers["Access-Control-Allow-Origin"] == APP
    assert allowed.headers["Vary"] == "Origin"
    assert method in methods(allowed)
    refused = preflight(client, OTHER, method)
    assert method not in methods(refused)
    assert "Tus-Resumable" in allowed.headers["Access-Control-Allow-Headers"]
    assert "Tus-Resumable" not in refused.headers["Access-Control-Allow-Headers"]  # POST needs no entry in the methods


def test_a_script_of_a_configured_origin_reads_the_response_to_what_it_wrote(client: Client) -> None:
    written = client.put("/images/b", PICTURE, Origin=APP)
    assert written.headers.get_all("Access-Control-Allow-Origin") == [APP]
    assert "Origin" in written.headers["Vary"]
    assert {"ETag", "Location"} <= set(written.headers["Access-Control-Expose-Headers"].split(", "))
    refused = client.put("/images/b", b"no picture", Origin=APP)
    assert refused.headers.get_all("Access-Control-Allow-Origin") == [APP]
    assert client.put("/images/b", PICTURE, Origin=OTHER).headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("path", ["/images/a?w=20", "/images/a?meta=True", "/images", "/images/none"])
def test_scripts_read_the_headers_that_they_need(client: Client, path: str) -> None:
    answer = client.get(path, Origin=APP)
    assert answer.headers.get_all("Access-Control-Allow-Origin") == ["*"]
    assert {"ETag", "Link", "Cache-Status"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))


def test_options_without_an_origin_tells_what_may_be_done(client: Client) -> None:
    assert "GET" in client("OPTIONS", "/images/a").headers["Allow"]


def test_nothing_is_allowed_where_no_origin_may_read(tmp_path) -> None:
    with serving(embedded(tmp_path, cors_origin=None), tmp_path) as server:
        answer = preflight(server.client, OTHER, "GET")
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "settings",
    [{"cors_write_origins": ("*",)}, {"cors_write_origins": ("app.example.org",)}]
    + [{"cors_write_origins": (APP,), "cors_origin": origin} for origin in (None, OTHER)],
    ids=["any", "no scheme", "who writes may not read", "another reads"],
)
def test_a_mistake_in_the_origins_is_told(tmp_path, settings) -> None:
    assert ("cors_write_origins",) in first_violations(embedded(tmp_path, **settings))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/images/a", "/images", "/images?name=a", "/import", "/artifacts", "/snapshots"])
def test_pages_of_other_sites_change_nothing(client: Client, method: str, path: str) -> None:
    for origin in (OTHER, "null"):
        answer = client(method, path, b"{}", Origin=origin, Sec_Fetch_Site="cross-site", Content_Type="text/plain")
        assert (answer.status, answer.slug) == (403, "cross-origin")
    assert client.get("/images/a", Origin=OTHER, Sec_Fetch_Site="cross-site").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": APP, "Sec_Fetch_Site": "cross-site"},
        {"Origin": OTHER, "Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {},
    ],
)
def test_others_change_what_they_may(client: Client, headers: dict[str, str]) -> None:
    assert client.put("/images/c", PICTURE, **headers).status in (200, 201)


@pytest.mark.parametrize("origin", [OTHER, "null", "http://pictures.test.example.org", "http://[", ""])
@pytest.mark.parametrize("host", ["pictures.test:8080", "192.0.2.7:5000", "[2001:db8::7]:5000", "nas"])
def test_without_tls_pages_of_other_hosts_change_nothing(client: Client, host: str, origin: str) -> None:
    answer = client.form("/images/foreign", ("file", "a.jpg", PICTURE), Host=host, Origin=origin)
    assert (answer.status, answer.slug) == (403, "cross-origin")
    basic = client.delete("/images/a", Host=host, Origin=origin, Authorization="Basic eDp5")
    assert (basic.status, basic.slug) == (403, "cross-origin")
    assert client.get("/images/a", Host=host, Origin=origin).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "pictures.test:8080", "Origin": "http://pictures.test:8080"},
        {"Host": "pictures.test", "Origin": "https://Pictures.test"},
        {"Host": "[2001:db8::7]:5000", "Origin": "http://[2001:db8::7]:5000"},
        {"Host": "pictures.test", "Origin": APP},
        {"Host": "pictures.test", "Origin": OTHER, "Sec_Fetch_Site": "same-site"},
        {"Host": "pictures.test"},
    ],
    ids=["own", "behind TLS", "own by address", "configured", "same site", "no browser"],
)
def test_without_tls_own_pages_and_programs_change_what_they_may(client: Client, headers: dict[str, str]) -> None:
    assert client.put("/images/own", PICTURE, **headers).status in (200, 201)


@pytest.mark.parametrize("host", ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"])
def test_a_proxy_may_put_the_loopback_name_in_place_of_the_host(client: Client, host: str) -> None:
    assert client.put("/images/own", PICTURE, Host=host, Origin="http://pictures.test").status in (200, 201)


def test_a_proxy_that_is_not_trusted_may_replace_the_host(client: Client) -> None:
    headers = {"Host": "upstream.internal", "Origin": "http://pictures.test", "X_Forwarded_For": "192.0.2.9"}
    assert client.put("/images/own", PICTURE, **headers).status in (200, 201)


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        ({"X_Forwarded_For": "192.0.2.9"}, 201),
        ({"X_Forwarded_For": "192.0.2.9", "X_Forwarded_Host": "pictures.test:8080"}, 201),
        ({"X_Forwarded_For": "192.0.2.9", "X_Forwarded_Host": "upstream.internal"}, 403),
        ({}, 403),
    ],
    ids=["no host", "the host of the client", "another host", "no header"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_trusted_proxy_that_forwards_no_host_may_replace_it(
    behind_proxy: Client, forwarded: dict[str, str], status: int, scheme: str
) -> None:
    headers = {"Host": "upstream.internal", "Origin": f"{scheme}://pictures.test", **forwarded}
    assert behind_proxy.put("/images/own", b"x", **headers).status == status


def test_the_refusal_names_what_to_set(client: Client) -> None:
    detail = client.put("/images/own", PICTURE, Host="image_repo:5000", Origin="http://pictures.test").json()["detail"]
    assert "cors_write_origins" in detail
    assert "public_url" in detail


def test_pages_at_the_public_address_change_what_they_may(tmp_path) -> None:
    with serving(embedded(tmp_path, public_url="http://pictures.test/repo"), tmp_path) as server:
        put = server.client.put
        assert put("/images/a", PICTURE, Host="upstream.internal", Origin="http://pictures.test").status == 201
        assert put("/images/a", PICTURE, Host="upstream.internal", Origin=OTHER).status == 403
