"""Uploads in parts (tus 1.0) over HTTP: the protocol, its bounds, its callers, and the ordinary upload at the end."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pictures
import pytest
from access_site import Site, running_site
from webserver import Answer, Client

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, ServerConfiguration, UploadsConfiguration

PICTURE = pictures.jpeg(pictures.photo(320, 240))
PART = "application/offset+octet-stream"
APP = "https://app.example.org"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = ServerConfiguration(max_upload=1 << 20)
    with running_site(
        tmp_path_factory.mktemp("uploads"),
        AccessConfiguration(),
        server=server,
        uploads=UploadsConfiguration(max_size=4 << 20, max_open=8),
        cors_write_origins=(APP,),
    ) as site:
        yield site


@pytest.fixture
def client(site: Site) -> Client:
    return site.client


def metadata(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def create(client: Client, length: int = len(PICTURE), body: bytes | None = None, **headers: str) -> Answer:
    named = {"Tus_Resumable": "1.0.0", "Upload_Length": str(length), **headers}
    return client("POST", "/uploads", body, **named)


def patch(client: Client, path: str, offset: int, body: bytes, **headers: str) -> Answer:
    named = {"Tus_Resumable": "1.0.0", "Upload_Offset": str(offset), "Content_Type": PART, **headers}
    return client("PATCH", path, body, **named)


def head(client: Client, path: str, **headers: str) -> Answer:
    return client("HEAD", path, **{"Tus_Resumable": "1.0.0", **headers})


def delete(client: Client, path: str, **headers: str) -> Answer:
    return client("DELETE", path, **{"Tus_Resumable": "1.0.0", **headers})


def begun(client: Client, **headers: str) -> str:
    answer = create(client, **headers)
    assert answer.status == 201, answer.body
    return answer.headers["Location"]


# -- the protocol --------------------------------------------------------------------------


def test_options_says_what_is_spoken(client: Client) -> None:
    for path in ("/uploads", "/uploads/" + "0" * 32):
        answer = client("OPTIONS", path)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == str(1 << 20)
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            "creation", "creation-with-upload", "expiration", "termination", "checksum",
        }  # fmt: skip
        assert "sha1" in answer.headers["Tus-Checksum-Algorithm"].split(",")


def test_an_upload_in_parts_ends_as_the_ordinary_one(client: Client) -> None:
    data = {"site": "plot 12"}
    made = create(client, Upload_Metadata=metadata(name="parts/a", filename="IMG 1.JPG", data=json.dumps(data)))
    assert (made.status, made.headers["Tus-Resumable"], made.headers["Upload-Offset"]) == (201, "1.0.0", "0")
    path, half = made.headers["Location"], len(PICTURE) // 2
    first = patch(client, path, 0, PICTURE[:half])
    assert (first.status, first.headers["Upload-Offset"], first.body) == (204, str(half), b"")
    assert first.headers["Upload-Expires"]
    state = head(client, path)
    assert (state.status, state.headers["Upload-Offset"]) == (200, str(half))
    assert (state.headers["Upload-Length"], state.headers["Cache-Control"]) == (str(len(PICTURE)), "no-store")
    assert "filename" in state.headers["Upload-Metadata"]
    assert client.get("/images/parts/a").status == 404
    last = patch(client, path, half, PICTURE[half:])
    assert (last.status, last.headers["Upload-Offset"]) == (204, str(len(PICTURE)))
    assert last.headers["Location"] == "/images/parts/a"
    record = client.get(last.headers["Content-Location"])
    assert record.headers["ETag"] == last.headers["ETag"]
    facts = record.json()
    assert (facts["filename"], facts["data"]) == ("IMG 1.JPG", data)
    assert facts["sha256"] == hashlib.sha256(PICTURE).hexdigest()


def test_a_client_that_missed_the_last_answer_learns_how_it_ended(client: Client) -> None:
    path = begun(client, Upload_Metadata=metadata(name="missed"))
    last = patch(client, path, 0, PICTURE)
    state = head(client, path)
    assert state.headers["Upload-Offset"] == state.headers["Upload-Length"] == str(len(PICTURE))
    assert (state.headers["Location"], state.headers["ETag"]) == ("/images/missed", last.headers["ETag"])
    again = patch(client, path, len(PICTURE) - 1, PICTURE[-1:])
    assert (again.status, again.slug, again.json()["offset"]) == (409, "offset-conflict", len(PICTURE))
    assert delete(client, path).status == 204
    assert head(client, path).status == 404


def test_the_first_bytes_can_come_with_the_creation(client: Client) -> None:
    named = metadata(name="with-creation")
    made = create(client, body=PICTURE[:100], Content_Type=PART, Upload_Metadata=named)
    assert (made.status, made.headers["Upload-Offset"]) == (201, "100")
    assert patch(client, made.headers["Location"], 100, PICTURE[100:]).status == 204
    whole = create(client, body=PICTURE, Content_Type=PART, Upload_Metadata=named)
    assert (whole.status, whole.headers["Upload-Offset"]) == (201, str(len(PICTURE)))
    assert whole.headers["Location"].startswith("/uploads/")
    assert whole.headers["Content-Location"] == "/images/with-creation?meta=True"
    assert head(client, whole.headers["Location"]).headers["Upload-Offset"] == str(len(PICTURE))


def test_without_a_name_the_content_names_it(client: Client) -> None:
    path = begun(client)
    done = patch(client, path, 0, PICTURE)
    assert done.headers["Location"] == f"/images/sha256:{hashlib.sha256(PICTURE).hexdigest()}"


def test_below_a_folder_the_file_names_it(client: Client) -> None:
    path = begun(client, Upload_Metadata=metadata(name="cams/3/", filename="IMG_7.JPG"))
    assert patch(client, path, 0, PICTURE).headers["Location"] == "/images/cams/3/IMG_7"


def test_other_metadata_is_data_but_what_clients_send_of_themselves(client: Client) -> None:
    named = metadata(name="data-of", filetype="image/jpeg", type="image/jpeg", relativePath="null", site="plot 12")
    assert patch(client, begun(client, Upload_Metadata=named), 0, PICTURE).status == 204
    assert client.get("/images/data-of?meta=True").json()["data"] == {"site": "plot 12"}


@pytest.mark.parametrize("offset", [0, 5, len(PICTURE)])
def test_a_part_at_another_offset_is_409_and_changes_nothing(client: Client, offset: int) -> None:
    path = begun(client)
    assert patch(client, path, 0, PICTURE[:10]).status == 204
    answer = patch(client, path, offset, PICTURE[offset : offset + 20] or b"x")
    assert (answer.status, answer.slug, answer.json()["offset"]) == (409, "offset-conflict", 10)
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert head(client, path).headers["Upload-Offset"] == "10"
    delete(client, path)


def test_more_bytes_than_announced_are_refused(client: Client) -> None:
    path = begun(client)
    answer = patch(client, path, 0, PICTURE + b"x")
    assert (answer.status, answer.slug) == (413, "too-large")
    delete(client, path)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5"])
def test_a_checksum_is_verified(client: Client, algorithm: str) -> None:
    path, part = begun(client), PICTURE[:1000]
    wrong, right = (base64.b64encode(hashlib.new(algorithm, text).digest()).decode() for text in (b"other", part))
    refused = patch(client, path, 0, part, Upload_Checksum=f"{algorithm} {wrong}")
    assert (refused.status, refused.slug) == (460, "checksum-mismatch")
    assert head(client, path).headers["Upload-Offset"] == "0"
    assert patch(client, path, 0, part, Upload_Checksum=f"{algorithm} {right}").headers["Upload-Offset"] == "1000"
    delete(client, path)


def test_a_deleted_upload_is_gone(client: Client) -> None:
    path = begun(client)
    assert delete(client, path).status == 204
    assert head(client, path).status == 404
    assert patch(client, path, 0, PICTURE).slug == "upload-not-found"
    assert delete(client, path).status == 404


@pytest.mark.parametrize("version", [{}, {"Tus_Resumable": "0.2.2"}], ids=["without", "another"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version_is_412_with_ours(client: Client, method: str, version: dict[str, str]) -> None:
    path = "/uploads" if method == "POST" else "/uploads/" + "0" * 32
    answer = client(method, path, **version)
    assert (answer.status, answer.headers["Tus-Version"]) == (412, "1.0.0")


def test_a_client_that_cannot_patch_posts_with_an_override(client: Client) -> None:
    path = begun(client)
    named = {"Tus_Resumable": "1.0.0", "Upload_Offset": "0", "Content_Type": PART}
    assert client("POST", path, PICTURE[:7], X_HTTP_Method_Override="PATCH", **named).headers["Upload-Offset"] == "7"
    assert client("POST", path, **named).status == 405
    assert client("POST", path, X_HTTP_Method_Override="DELETE", **named).status == 204


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({"Upload_Length": "0"}, 400, "empty"),
        ({"Upload_Length": "x"}, 400, "Upload-Length"),
        ({"Upload_Length": "-1"}, 400, "Upload-Length"),
        ({"Upload_Length": str((1 << 20) + 1)}, 413, str(1 << 20)),
        ({"Upload_Defer_Length": "1"}, 400, "Upload-Length"),
        ({"Upload_Metadata": "name !"}, 400, "base64"),
        ({"Upload_Metadata": "name bGFrZQ==,name bGFrZQ=="}, 400, "each once"),
        ({"Upload_Metadata": metadata(name="a//b")}, 400, "name"),
        ({"Upload_Metadata": metadata(name="a/")}, 400, "name"),
        ({"Upload_Metadata": metadata(name="a", data="{")}, 400, "JSON"),
    ],
    ids=["empty", "no number", "negative", "too large", "deferred", "no base64", "twice", "bad name", "no file name",
         "bad data"],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_at_once(
    client: Client, headers: dict[str, str], status: int, word: str
) -> None:
    answer = create(client, **headers)
    assert answer.status == status
    assert word in answer.json()["detail"]


def test_a_part_of_another_type_is_415(client: Client) -> None:
    path = begun(client)
    assert patch(client, path, 0, PICTURE, Content_Type="image/jpeg").status == 415
    assert create(client, body=PICTURE, Content_Type="image/jpeg").status == 415
    delete(client, path)


# -- the end ---------------------------------------------------------------------------------


def test_what_the_upload_refuses_is_refused_and_deleted(client: Client) -> None:
    text = b"this is no picture" * 100
    path = begun(client, Upload_Length=str(len(text)), Upload_Metadata=metadata(name="text"))
    answer = patch(client, path, 0, text)
    assert (answer.status, answer.slug) == (415, "not-a-picture")
    assert head(client, path).status == 404
    assert client.get("/images/text").status == 404


def test_conditions_hold_at_the_beginning_and_at_the_end(client: Client) -> None:
    named = {"Upload_Metadata": metadata(name="condition"), "If_None_Match": "*"}
    one, two = begun(client, **named), begun(client, **named)
    assert patch(client, one, 0, PICTURE).status == 204
    late = patch(client, two, 0, PICTURE)
    assert (late.status, late.slug) == (412, "precondition-failed")
    early = create(client, **named)
    assert (early.status, early.slug) == (412, "precondition-failed")
    version = client.get("/images/condition?meta=True").json()["version"]
    match = {"Upload_Metadata": metadata(name="condition"), "If_Match": f'"{version}"'}
    assert patch(client, begun(client, **match), 0, PICTURE).status == 204
    assert create(client, **match, **{"If-Match": '"another"'}).status == 412


def test_the_digest_of_the_whole_is_verified(client: Client) -> None:
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in (b"other", PICTURE)]
    refused, accepted = (
        patch(client, begun(client, Repr_Digest=f"sha-256=:{digest}:"), 0, PICTURE) for digest in digests
    )
    assert (refused.status, refused.slug) == (400, "digest-mismatch")
    assert accepted.status == 204


# -- bounds ----------------------------------------------------------------------------------


def test_a_caller_has_a_bounded_number_of_unfinished_uploads(client: Client) -> None:
    paths = [begun(client) for _ in range(8)]
    try:
        answer = create(client)
        assert (answer.status, answer.slug) == (429, "too-many-uploads")
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        for path in paths:
            delete(client, path)
    delete(client, begun(client))


def test_all_unfinished_uploads_together_are_bounded(client: Client) -> None:
    paths = [begun(client, Upload_Length=str(1 << 20)) for _ in range(5)]
    try:
        for path in paths[:4]:
            assert patch(client, path, 0, bytes((1 << 20) - 1)).status == 204
        for answer in (create(client), patch(client, paths[4], 0, bytes(100))):
            assert (answer.status, answer.slug) == (507, "insufficient-storage")
        assert delete(client, paths[0]).status == 204
        assert patch(client, paths[4], 0, bytes(100)).status == 204
    finally:
        for path in paths:
            delete(client, path)


def test_an_upload_expires_after_its_last_byte(client: Client, site: Site) -> None:
    path = begun(client)
    assert patch(client, path, 0, PICTURE[:10]).status == 204
    (file,) = Path(site.config.local_file_cache_path).glob(f"*/uploads/open/{path.rpartition('/')[2]}/bytes")
    os.utime(file, (0, 0))
    assert head(client, path).status == 404
    delete(client, begun(client))
    assert not file.exists()


# -- callers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scoped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, dict[str, dict[str, str]]]]:
    access = AccessConfiguration(image_scope="user", secret="sixteen letters!", owner_quota=3 * len(PICTURE) // 2)
    with running_site(tmp_path_factory.mktemp("scoped-uploads"), access) as site:
        keys = site.repo.authenticator.keys
        roles = {"owner": "writer", "another": "writer", "reader": "reader"}
        yield (
            site,
            {
                name: {"Authorization": f"Bearer {keys.add(new_key(name, role))}", "X_Forwarded_For": "192.0.2.1"}
                for name, role in roles.items()
            },
        )


def test_an_upload_is_its_creators_alone(scoped: tuple[Site, dict[str, dict[str, str]]]) -> None:
    site, callers = scoped
    path = begun(site.client, Upload_Metadata=metadata(name="mine"), **callers["owner"])
    for caller, status in (("another", 404), ("reader", 403)):
        assert head(site.client, path, **callers[caller]).status == status
        assert patch(site.client, path, 0, PICTURE, **callers[caller]).status == status
        assert delete(site.client, path, **callers[caller]).status == status
    assert head(site.client, path).status == 401
    assert create(site.client).status == 401
    assert create(site.client, **callers["reader"]).status == 403
    done = patch(site.client, path, 0, PICTURE, **callers["owner"])
    assert (done.status, done.headers["Location"]) == (204, "/images/mine")
    assert site.client.get("/images/mine", **callers["owner"]).status == 200
    assert site.client.get("/images/mine", **callers["another"]).status == 404


def test_a_key_of_another_folder_creates_nothing_here(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="read")) as site:
        key = site.repo.authenticator.keys.add(new_key("other", "writer", "other"))
        caller = {"Authorization": f"Bearer {key}"}
        for name, status in (("a/b", 403), ("a/", 403), ("other/b", 201)):
            named = metadata(name=name, filename="b.jpg")
            assert create(site.client, Upload_Metadata=named, **caller).status == status
        path = begun(site.client, **caller)
        assert patch(site.client, path, 0, PICTURE, **caller).status == 403
        assert head(site.client, path, **caller).status == 404


def test_the_quota_counts_at_the_end(scoped: tuple[Site, dict[str, dict[str, str]]]) -> None:
    site, callers = scoped
    answers = []
    for name in ("one", "two"):
        path = begun(site.client, Upload_Metadata=metadata(name=name), **callers["another"])
        answers.append(patch(site.client, path, 0, PICTURE, **callers["another"]))
    assert [answer.status for answer in answers] == [204, 413]
    assert answers[1].slug == "quota-exceeded"


def test_the_audit_log_tells_of_the_end_as_of_an_upload(tmp_path: Path) -> None:
    access = AccessConfiguration(audit=str(tmp_path / "audit"))
    with running_site(tmp_path, access) as site:
        path = begun(site.client, Upload_Metadata=metadata(name="audited/a"))
        assert patch(site.client, path, 0, PICTURE).status == 204
        lines: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["action"], line["path"]) for line in lines] == [
        ("upload", "/uploads"),
        ("write", "/images/audited/a"),
    ]


def test_scripts_of_configured_origins_read_what_they_need(client: Client) -> None:
    made = create(client, Origin=APP)
    exposed = set(made.headers["Access-Control-Expose-Headers"].split(", "))
    assert {"Location", "Upload-Offset", "Tus-Resumable", "Tus-Version", "Tus-Max-Size", "Tus-Extension"} <= exposed
    assert made.headers.get_all("Access-Control-Allow-Origin") == [APP]
    assert len(made.headers.get_all("Access-Control-Expose-Headers") or ()) == 1
    path = made.headers["Location"]
    state = head(client, path, Origin=APP)
    assert state.headers.get_all("Access-Control-Allow-Origin") == [APP]
    assert state.headers["Vary"] == "Origin"
    assert "Upload-Offset" in state.headers["Access-Control-Expose-Headers"]
    preflight = client("OPTIONS", path, Origin=APP, Access_Control_Request_Method="PATCH")
    allowed = set(preflight.headers["Access-Control-Allow-Headers"].split(", "))
    assert {"Tus-Resumable", "Upload-Length", "Upload-Metadata", "Upload-Offset", "Upload-Checksum"} <= allowed
    assert delete(client, path, Sec_Fetch_Site="cross-site", Origin="https://other.example.org").slug == "cross-origin"
    delete(client, path)
