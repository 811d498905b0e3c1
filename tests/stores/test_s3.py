"""S3 beyond the contract of all stores: large objects, presigned URLs, other tools' objects, mistakes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import time
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from conftest import opened_bucket, s3_settings

from image_repo.config import Credentials, PersistentStoreConfiguration
from image_repo.errors import OriginalDamaged, PreconditionFailed, StoreUnavailable
from image_repo.model.record import MEDIA_TYPE
from image_repo.stores.base import Entry, NoContainer
from image_repo.stores.s3 import S3Store
from image_repo.stores.s3_client import S3Client, addressing
from image_repo.stores.s3_multipart import PART_BYTES
from image_repo.stores.s3_presign import Signer, presigned_url

JPEG = "image/jpeg"


def read(store: S3Store, key: str) -> bytes:
    with store.get(key) as body:
        return b"".join(body)


def listed(store: S3Store) -> list[Entry]:
    return list(store.keys())


@pytest.fixture(params=["moto", "swift"])
def endpoint(request: pytest.FixtureRequest) -> str:
    """The URL of each server in turn."""
    server = request.getfixturevalue(request.param)
    return server if isinstance(server, str) else server.url


def store_of(url: str = "http://127.0.0.1:1", bucket: str = "photos", **credentials: object) -> S3Store:
    settings = s3_settings(url)
    return S3Store(S3Client(replace(settings, credentials=replace(settings.credentials, **credentials))), bucket)


# -- large objects -------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_large_object_is_sent_in_parts_and_verified(endpoint, container, overwrite):
    data = os.urandom(PART_BYTES + 1000)
    with opened_bucket(s3_settings(endpoint), container, multipart=5 << 20) as store:
        put = store.put("a.jpg", io.BytesIO(data), media_type=JPEG, metadata={"x": "ü"}, overwrite=overwrite)
        head = store.head("a.jpg")
        assert (head.size, head.etag, head.media_type, head.metadata) == (len(data), put.etag, JPEG, {"x": "ü"})
        assert put.etag.endswith("-2")
        assert hashlib.sha256(read(store, "a.jpg")).digest() == hashlib.sha256(data).digest()
        (entry,) = listed(store)
        assert (entry.etag, entry.size) == (head.etag, head.size)
        with pytest.raises(PreconditionFailed):
            store.put("a.jpg", io.BytesIO(data), media_type=JPEG, overwrite=False)
        assert store._client.call("list_multipart_uploads", Bucket=container).get("Uploads", []) == []


@pytest.mark.servers
def test_a_large_object_whose_file_became_shorter_is_not_stored(moto, container):
    class Shrinking(io.BytesIO):
        def seek(self, *where: int) -> int:
            self.truncate(6 << 20)
            return super().seek(*where)

    with opened_bucket(s3_settings(moto), container, multipart=5 << 20) as store:
        with pytest.raises(StoreUnavailable, match="became shorter"):
            store.put("a.jpg", Shrinking(os.urandom(8 << 20)), media_type=JPEG)
        assert store.head("a.jpg") is None
        assert store._client.call("list_multipart_uploads", Bucket=container).get("Uploads", []) == []


@pytest.mark.servers
def test_damage_of_a_large_object_is_found_by_the_digest_in_its_metadata(moto, container):
    with opened_bucket(s3_settings(moto), container, multipart=5 << 20) as store:
        store.put("a.jpg", os.urandom(6 << 20), media_type=JPEG)
        metadata = store._client.call("head_object", Bucket=container, Key="a.jpg")["Metadata"]
        parts = {"Bucket": container, "Key": "a.jpg"}
        upload = store._client.call("create_multipart_upload", **parts, Metadata=metadata)["UploadId"]
        part = store._client.call("upload_part", **parts, UploadId=upload, PartNumber=1, Body=b"other")
        done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        store._client.call("complete_multipart_upload", **parts, UploadId=upload, MultipartUpload=done)
        with pytest.raises(OriginalDamaged):
            read(store, "a.jpg")


@pytest.mark.servers
def test_an_object_in_parts_of_another_tool_says_that_nothing_verifies_it(endpoint, container):
    with opened_bucket(s3_settings(endpoint), container) as store:
        parts = {"Bucket": container, "Key": "a.jpg"}
        upload = store._client.call("create_multipart_upload", **parts)["UploadId"]
        part = store._client.call("upload_part", **parts, UploadId=upload, PartNumber=1, Body=b"picture")
        done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        store._client.call("complete_multipart_upload", **parts, UploadId=upload, MultipartUpload=done)
        assert store.head("a.jpg").metadata["segmented"] == "true"
        assert read(store, "a.jpg") == b"picture"


# -- listing -------------------------------------------------------------------------


@pytest.mark.servers
def test_the_media_types_of_a_listing_are_those_that_decide_what_an_object_is(endpoint, container):
    types = {
        "a.jpg": JPEG,
        "a.json": MEDIA_TYPE,
        "b.json": "application/json",
        "c": "image/png",
        "d.7": "image/tiff",
        "notes.txt": "application/octet-stream",
    }
    with opened_bucket(s3_settings(endpoint), container) as writer:
        for key, media_type in types.items():
            writer.put(key, key.encode(), media_type=media_type)
    with opened_bucket(s3_settings(endpoint), container) as store:
        for _ in range(2):
            assert {entry.key: entry.media_type for entry in listed(store)} == types
        store.put("b.json", b"2", media_type=MEDIA_TYPE)
        assert {entry.key: entry.media_type for entry in listed(store)} == types | {"b.json": MEDIA_TYPE}


@pytest.mark.servers
def test_what_has_expired_is_not_there(moto, container):
    with opened_bucket(s3_settings(moto), container) as store:
        store.put("a.jpg", b"1", media_type=JPEG, expires=time.time() - 2)
        assert store.head("a.jpg") is None
        assert store.get("a.jpg") is None
        assert store.delete("a.jpg") is True


# -- presigned URLs ------------------------------------------------------------------


@pytest.mark.servers
def test_a_presigned_url_is_the_same_until_it_expires_and_no_other_object_takes_it(swift, container):
    with opened_bucket(s3_settings(swift.url), container) as store:
        store.put("a/ü b.jpg", b"picture", media_type=JPEG)
        expires = int(time.time()) + 3600
        url = store.presign("a/ü b.jpg", expires, "x.jpg")
        assert url == store.presign("a/ü b.jpg", expires, "x.jpg")
        assert requests.get(url, timeout=10).content == b"picture"
        changed = [url.replace("X-Amz-Expires=604800", "X-Amz-Expires=604799"), url.replace("x.jpg", "y.jpg")]
        changed.append(store.presign("a/ü b.jpg", int(time.time()) - 2, "x.jpg"))
        assert [requests.get(each, timeout=10).status_code for each in changed] == [403, 403, 403]
        assert requests.put(url, data=b"other", timeout=10).status_code == 403
        assert read(store, "a/ü b.jpg") == b"picture"


def test_our_signature_is_that_of_the_library():
    store = store_of(session_token="a token/+")
    client, credentials = store._client.signer()
    params = {"Bucket": "photos", "Key": "a/ü b+c.jpg", "ResponseContentDisposition": "inline; filename*=UTF-8''x"}
    theirs = client.generate_presigned_url("get_object", Params=params, ExpiresIn=600)
    query = parse_qs(urlsplit(theirs).query)
    signed = time.strptime(query["X-Amz-Date"][0] + " UTC", "%Y%m%dT%H%M%SZ %Z")
    ours = presigned_url(
        theirs.partition("?")[0],
        Signer(credentials.access_key, credentials.secret_key, "us-east-1", credentials.token),
        int(time.mktime(signed) - time.timezone),
        600,
        {"response-content-disposition": params["ResponseContentDisposition"]},
    )
    assert parse_qs(urlsplit(ours).query) == query


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "https://photos.s3.eu-central-1.amazonaws.com/a.jpg"),
        ({"endpoint": "https://s3.example.org"}, "https://s3.example.org/photos/a.jpg"),
        ({"endpoint": "https://s3.example.org", "addressing": "virtual"}, "https://photos.s3.example.org/a.jpg"),
        ({"addressing": "path"}, "https://s3.eu-central-1.amazonaws.com/photos/a.jpg"),
    ],
    ids=["Amazon", "an endpoint", "an endpoint with names of buckets", "Amazon by path"],
)
def test_the_bucket_is_in_the_host_name_or_in_the_path(settings, address):
    store = store_of(**{"endpoint": None, "region": "eu-central-1", **settings})
    assert store.presign("a.jpg", int(time.time()) + 60, "x.jpg").partition("?")[0] == address


def test_a_public_endpoint_is_that_of_presigned_urls():
    settings = s3_settings("http://10.0.0.1:9000", public_endpoint="https://pictures.example.org")
    url = S3Store(S3Client(settings), "photos").presign("a.jpg", int(time.time()) + 60, "x.jpg")
    assert url.startswith("https://pictures.example.org/photos/a.jpg?")


# -- what is wrong -------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        ({"secret_access_key": "wrong-secret"}, "The secret access key does not belong to this access key"),
        ({"access_key_id": "nobody:here"}, "The secret access key does not belong|does not know this access key"),
        ({"endpoint": "http://127.0.0.1:9"}, "nobody listens at its address"),
        ({"endpoint": "http://no-such-host.invalid"}, "the name of its host is not known"),
        ({"access_key_id": "test:reader", "secret_access_key": "reading"}, "have no right"),
        ({"secret_access_key": "line\nbreak"}, "does not belong"),
    ],
    ids=["secret", "key", "port", "host", "right", "a secret with a line break"],
)
def test_what_is_wrong_is_said_in_plain_words(swift, credentials, words, caplog):
    store = store_of(swift.url, "photos-of-nobody", **credentials)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable, match=words) as raised:
        store.check(create=True)
    store.close()
    assert store.description in raised.value.detail
    printed = caplog.text + raised.value.detail + str(raised.value.__cause__)
    assert credentials.get("secret_access_key", "testing") not in printed


def test_missing_credentials_name_the_settings(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = store_of(access_key_id=None, secret_access_key=None)
    with pytest.raises(StoreUnavailable, match="S3_ACCESS_KEY_ID"):
        store.check()


@pytest.mark.servers
def test_the_sdks_own_chain_signs_in(swift, container, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        "[museum]\naws_access_key_id = test:tester\naws_secret_access_key = testing\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "museum")
    settings = PersistentStoreConfiguration(kind="s3", credentials=Credentials(endpoint=swift.url))
    with opened_bucket(settings, container) as store:
        store.put("a.jpg", b"1", media_type=JPEG)
        assert read(store, "a.jpg") == b"1"


@pytest.mark.servers
def test_a_missing_bucket_is_named(endpoint):
    store = store_of(endpoint, "no-such-bucket")
    with pytest.raises(StoreUnavailable, match="no bucket 'no-such-bucket'; create_new: true makes it"):
        store.check()
    for call in (lambda: store.get("a.jpg"), lambda: list(store.keys()), lambda: store.put("a", b"", media_type=JPEG)):
        with pytest.raises(NoContainer):
            call()


@pytest.mark.servers
def test_a_check_says_what_the_store_can_do_and_leaves_nothing(endpoint, container, moto):
    with opened_bucket(s3_settings(endpoint), container) as store:
        assert "conditional writes are honoured" in store.capabilities.probed
        digests = "not verified by the store" if endpoint == moto else "verified by the store"
        assert f"digests of uploads are {digests}" in store.capabilities.probed
        assert list(store.keys()) == []


# -- settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"endpoint": None, "access_key_id": "a"}, {"endpoint": None, "access_key_id": "b"}, True),
        ({"endpoint": "http://s"}, {"endpoint": "http://s/"}, True),
        ({"endpoint": "http://s", "access_key_id": "a"}, {"endpoint": "http://s", "access_key_id": "b"}, False),
        ({"endpoint": "http://s"}, {"endpoint": "http://t"}, False),
        ({"endpoint": None}, {"endpoint": "http://s"}, False),
    ],
    ids=["keys at Amazon", "a slash", "accounts of an endpoint", "endpoints", "Amazon and an endpoint"],
)
def test_what_is_one_bucket_has_one_identity(one, other, same):
    stores = store_of(**one), store_of(**other)
    assert (stores[0].identity == stores[1].identity) is same
    assert stores[0].identity != store_of(bucket="others", **one).identity


def test_an_endpoint_has_the_bucket_in_its_path_unless_it_is_set():
    assert addressing(Credentials(endpoint="http://s")) == "path"
    assert addressing(Credentials()) == "virtual"
    assert addressing(Credentials(endpoint="http://s", addressing="virtual")) == "virtual"


def test_nothing_is_contacted_before_the_first_call():
    store = store_of("http://127.0.0.1:1")
    assert store._client._client is None
