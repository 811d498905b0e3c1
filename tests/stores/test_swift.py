"""What only Swift has: signing in, tokens, segments, keys of temporary URLs, and a bounded pool."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import commands
import pytest
from conftest import opened

from image_repo.concurrency import deadline
from image_repo.config import Credentials, PersistentStoreConfiguration, load
from image_repo.errors import LinksNotConfigured, StoreUnavailable
from image_repo.stores.swift import SwiftStore
from image_repo.stores.swift_pool import ConnectionPool
from image_repo.stores.tempurl import new_link_key, temporary_url

JPEG = "image/jpeg"


def fetch(url: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Fetches a URL as a browser would, without a token."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def signed_in(swift) -> dict[str, str]:
    """A token and the storage URL, got without our own code."""
    request = urllib.request.Request(
        swift.settings.credentials.authurl, headers={"X-Auth-User": "test:tester", "X-Auth-Key": "testing"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return {"url": answer.headers["X-Storage-Url"], "token": answer.headers["X-Auth-Token"]}


def send(swift, method: str, path: str, body: bytes = b"", **headers: str) -> None:
    """A request of another tool, below the account."""
    known = signed_in(swift)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{known['url']}/{path}"
    request = urllib.request.Request(url, body, {"X-Auth-Token": known["token"], **named}, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def store_of(settings: PersistentStoreConfiguration, container: str = "any") -> SwiftStore:
    return SwiftStore(ConnectionPool(settings, settings.credentials), settings, container)


def changed(swift, **credentials: object) -> PersistentStoreConfiguration:
    return replace(swift.settings, credentials=replace(swift.settings.credentials, **credentials), connect_timeout=1.0)


def credentials_of(environ: dict[str, str], **given: str) -> Credentials:
    """The credentials of a configuration that gives some of them."""
    overrides = {f"persistent_store_configuration.credentials.{name}": text for name, text in given.items()}
    return load(None, environ, overrides=overrides).persistent_store_configuration.credentials


# -- who we are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({}, {}, {}),
        ({}, {"OS_AUTH_URL": "http://k/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p"},
         {"authurl": "http://k/v3", "username": "u", "password": "p"}),
        ({}, {"ST_AUTH": "http://s/auth/v1.0", "ST_USER": "t:u", "ST_KEY": "p"},
         {"authurl": "http://s/auth/v1.0", "username": "t:u", "password": "p"}),
        ({"username": "mine"}, {"OS_USERNAME": "theirs", "OS_PASSWORD": "p"}, {"username": "mine", "password": "p"}),
        ({}, {"OS_TENANT_NAME": "old"}, {"tenant": "old"}),
        ({}, {"OS_TENANT_NAME": "old", "OS_PROJECT_NAME": "new"}, {"tenant": "new"}),
        ({}, {"OS_IDENTITY_API_VERSION": "v3.0"}, {"auth_version": "3"}),
        ({}, {"OS_REGION_NAME": ""}, {}),
        ({"username": "u"}, {"OS_APPLICATION_CREDENTIAL_ID": "i", "OS_APPLICATION_CREDENTIAL_SECRET": "s"},
         {"username": "u"}),
        ({"application_credential_id": "i"}, {"OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_PROJECT_NAME": "q"},
         {"application_credential_id": "i"}),
        ({}, {"OS_USER_DOMAIN_NAME": "d", "OS_PROJECT_DOMAIN_ID": "e", "OS_CACERT": "/c"},
         {"user_domain_name": "d", "project_domain_id": "e", "cacert": "/c"}),
    ],
    ids=[
        "nothing", "the usual variables", "those of Swift's own command", "the configuration is first",
        "the older word for project", "the newer word is first", "the version as others write it",
        "empty is not given", "a user gets no application credential", "an application credential gets no user",
        "domains and certificates",
    ],
)  # fmt: skip
def test_the_environment_fills_what_is_left_open(given, environ, expected):
    assert credentials_of(environ, **given) == Credentials(**expected)


def test_kind_auto_is_swift_where_the_credentials_name_where_to_sign_in():
    def kind(**credentials: str) -> str:
        return PersistentStoreConfiguration(kind="auto", credentials=Credentials(**credentials)).resolved_kind

    assert kind(authurl="http://k/v3") == "swift"
    assert kind(username="u", password="p") == "disk"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"username": "a:u"}, {"username": "a:v"}, True),
        ({"username": "a:u"}, {"username": "b:u"}, False),
        ({"authurl": "http://k/v3", "tenant": "p"}, {"authurl": "http://k/v3", "tenant": "q"}, False),
        ({"authurl": "http://k/v3", "tenant": "p", "username": "u"},
         {"authurl": "http://k/v3", "tenant": "p", "username": "v"}, True),
        ({"authurl": "http://k/v3", "tenant": "p", "region": "r"},
         {"authurl": "http://k/v3", "tenant": "p", "region": "s"}, False),
    ],
    ids=["users of one account", "two accounts", "two projects", "users of one project", "two regions"],
)  # fmt: skip
def test_what_is_one_container_has_one_identity(one, other, same):
    base = {"authurl": "http://s/auth/v1.0"}
    stores = [
        store_of(PersistentStoreConfiguration(credentials=Credentials(**(base | changes))), "c")
        for changes in (one, other)
    ]
    assert (stores[0].identity == stores[1].identity) is same
    assert (
        stores[0].identity != store_of(PersistentStoreConfiguration(credentials=Credentials(**(base | one)))).identity
    )


@pytest.mark.servers
@pytest.mark.parametrize(
    ("credentials", "message"),
    [
        ({"password": "wrong"}, "does not take this user and password"),
        ({"username": "nobody:here"}, "does not take this user and password"),
        ({"authurl": "http://127.0.0.1:9/auth/v1.0"}, "nobody listens at its address"),
        ({"authurl": "http://no-such-host.invalid/auth/v1.0"}, "the name of its host is not known"),
        ({"username": "test:reader", "password": "reading"}, "has no right"),
        ({"password": "line\nbreak"}, "characters that cannot be sent"),
    ],
    ids=["password", "user", "port", "host", "right", "a password that is no header"],
)
def test_what_is_wrong_is_said_in_plain_words(swift, credentials, message, caplog):
    settings = changed(swift, **credentials)
    store = store_of(settings)
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreUnavailable, match=message) as raised:
        store.check(create=True)
    store.close()
    assert store.description in raised.value.detail
    messages = caplog.text + raised.value.detail + str(raised.value.__cause__)
    assert settings.credentials.password not in messages


@pytest.mark.servers
def test_a_server_that_is_no_swift_is_told(swift):
    store = store_of(changed(swift, authurl=f"{swift.url}/healthcheck", auth_version="1"))
    with pytest.raises(StoreUnavailable, match="is no Swift"):
        store.check()
    store.close()


@pytest.mark.servers
def test_a_missing_container_is_told_and_made(swift, container):
    store = store_of(swift.settings, container)
    for call in (
        store.check,
        lambda: store.put("a", b"1", media_type=JPEG),
        lambda: list(store.keys()),
        lambda: store.set_link_key(new_link_key()),
    ):
        with pytest.raises(StoreUnavailable, match="create_new: true"):
            call()
    store.check(create=True)
    store.check()
    assert store.put("a", b"1", media_type=JPEG).size == 1
    store.close()


@pytest.mark.servers
def test_nothing_secret_is_logged(swift_store, caplog):
    with caplog.at_level(logging.DEBUG):
        swift_store.put("a.jpg", b"1", media_type=JPEG, metadata={"mine": "private"})
        secret = new_link_key()
        swift_store.set_link_key(secret)
        assert swift_store.link_secrets() == (secret,)
        swift_store.head("none")
    token = swift_store._pool._login.access().token
    for private in (secret, token, "testing", "private"):
        assert private not in caplog.text + repr(swift_store.link_base()) + repr(swift_store._pool._login.access())


# -- objects -------------------------------------------------------------------------


@pytest.mark.servers
def test_the_entity_tag_is_the_md5(swift_store):
    body = b"picture" * 1000
    put = swift_store.put("a.jpg", io.BytesIO(body), media_type=JPEG)
    assert put.etag == hashlib.md5(body).hexdigest() == swift_store.head("a.jpg").etag


@pytest.mark.servers
def test_an_object_that_expired_is_not_there(swift, swift_store, container):
    swift_store.put("a.jpg", b"1", media_type=JPEG, expires=time.time() + 3600)
    send(swift, "POST", f"{container}/a.jpg", X_Delete_At=str(int(time.time()) + 2))
    commands.until(lambda: swift_store.head("a.jpg") is None, "it has expired")
    assert swift_store.get("a.jpg") is None


@pytest.mark.servers
def test_a_past_expiry_is_soon(swift_store):
    assert swift_store.put("a.jpg", b"1", media_type=JPEG, expires=5.0).expires > time.time()


@pytest.mark.servers
def test_a_large_object_of_segments(swift, swift_store, container):
    parts = [bytes([number]) * 300_000 for number in range(3)]
    for number, part in enumerate(parts):
        swift_store.put(f"parts/{number}", part, media_type="application/octet-stream")
    manifest = [{"path": f"/{container}/parts/{number}"} for number in range(3)]
    path = f"{container}/static.jpg?multipart-manifest=put"
    send(swift, "PUT", path, json.dumps(manifest).encode(), Content_Type=JPEG)
    send(swift, "PUT", f"{container}/dynamic.jpg", X_Object_Manifest=f"{container}/parts/", Content_Type=JPEG)
    for key in ("static.jpg", "dynamic.jpg"):
        with swift_store.get(key) as body:
            assert b"".join(body) == b"".join(parts)
        assert body.entry.metadata["segmented"] == "true"
        assert body.entry.size == 900_000
        assert '"' not in body.entry.etag
    listed = {entry.key: entry for entry in swift_store.keys("static")}
    assert listed["static.jpg"].etag == swift_store.head("static.jpg").etag


@pytest.mark.servers
def test_a_long_listing_is_never_held_whole(swift, container):
    count = 600
    with opened(swift.settings, container, page=100) as store:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: store.put(f"{number:05}", b"", media_type=JPEG), range(count)))
        pages = []
        list_page = store._list
        store._list = lambda *where: pages.append(len(page := list_page(*where))) or page
        listing = store.keys()
        assert next(listing).key == "00000"
        assert pages == [100]  # no more than is looked at is asked for
        assert sum(1 for _ in listing) == count - 1
        assert pages == [100] * 6 + [0]


# -- the pool ------------------------------------------------------------------------


@pytest.mark.servers
def test_sixteen_threads_stream_through_four_connections(swift, container):
    with opened(replace(swift.settings, connections=4), container) as store:
        bodies = {f"{number}.jpg": bytes([number]) * 1_000_000 for number in range(16)}
        for key, body in bodies.items():
            store.put(key, body, media_type=JPEG)
        barrier = threading.Barrier(16)

        def read(key: str) -> bool:
            barrier.wait(10)
            good = True
            for _ in range(3):
                with store.get(key) as body:
                    good = good and b"".join(body) == bodies[key]
            return good

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(read, bodies))
        assert len(store._pool._idle) <= 4


@pytest.mark.servers
def test_a_pool_that_is_used_up_is_told_in_time(swift, container):
    with opened(replace(swift.settings, connections=1), container) as store:
        store.put("a.jpg", bytes(2_000_000), media_type=JPEG)
        with store.get("a.jpg"):
            began = time.monotonic()
            with deadline.limited(0.3), pytest.raises(StoreUnavailable, match="in use"):
                store.head("a.jpg")
            assert 0.2 < time.monotonic() - began < 2
        assert store.head("a.jpg").size == 2_000_000


# -- tokens --------------------------------------------------------------------------


@pytest.mark.servers
def test_a_token_that_ends_is_never_noticed(start_swift, container):
    with start_swift("--token-life", "1") as swift, opened(swift.settings, container) as store:
        tokens = set()
        end = time.monotonic() + 30
        while len(tokens) < 3:
            assert time.monotonic() < end
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(lambda number: store.put(f"{number}", b"1" * 100_000, media_type=JPEG), range(4)))
            assert store.head("0").size == 100_000
            tokens.add(store._pool._login.access().token)


# -- temporary URLs ------------------------------------------------------------------


@pytest.fixture
def linked(swift_store):
    """A store with a key, and an object."""
    swift_store.set_link_key(new_link_key())
    swift_store.put(".renditions/a b/ü%41@1+size(2,3).jpg", b"picture", media_type=JPEG)
    return swift_store


KEY = ".renditions/a b/ü%41@1+size(2,3).jpg"


@pytest.mark.servers
def test_swift_itself_serves_a_temporary_url(linked):
    url = temporary_url(linked.link_base(), KEY, int(time.time()) + 60, 'so "ü".jpg')
    status, headers, body = fetch(url)
    assert (status, body, headers["Content-Type"]) == (200, b"picture", JPEG)
    disposition = headers["Content-Disposition"]
    assert disposition.startswith("inline")
    assert urllib.parse.quote('so "ü".jpg') in disposition
    assert fetch(url, "HEAD")[0] == 200
    assert fetch(url, "DELETE")[0] == 401


@pytest.mark.servers
@pytest.mark.parametrize(
    "change",
    [
        lambda base: (replace(base, secret=new_link_key()), KEY, 60),
        lambda base: (base, KEY, -1),
    ],
    ids=["another key", "after its time"],
)
def test_swift_refuses_what_is_not_signed(linked, change):
    base, key, seconds = change(linked.link_base())
    assert fetch(temporary_url(base, key, int(time.time()) + seconds, "a.jpg"))[0] == 401


@pytest.mark.servers
def test_a_signature_is_good_for_one_object(linked):
    linked.put("other.jpg", b"other", media_type=JPEG)
    url = temporary_url(linked.link_base(), KEY, int(time.time()) + 60, "a.jpg")
    path = urllib.parse.quote(KEY)
    assert path in url
    assert fetch(url.replace(path, "other.jpg"))[0] == 401


@pytest.mark.servers
def test_the_second_key_is_verified_with_too(linked):
    old, new = linked.link_secrets()[0], new_link_key()
    linked.set_link_key(new, second=True)
    assert linked.link_secrets() == (old, new)
    base = replace(linked.link_base(), secret=new)
    assert fetch(temporary_url(base, KEY, int(time.time()) + 60, "a.jpg"))[0] == 200


@pytest.mark.servers
def test_the_key_of_the_account_will_do(swift, swift_store):
    swift_store.put("a.jpg", b"1", media_type=JPEG)
    send(swift, "POST", "", X_Account_Meta_Temp_URL_Key="the-key-of-the-account")
    try:
        assert swift_store.link_base().secret == "the-key-of-the-account"
        assert fetch(temporary_url(swift_store.link_base(), "a.jpg", int(time.time()) + 60, "a.jpg"))[0] == 200
    finally:
        send(swift, "POST", "", X_Account_Meta_Temp_URL_Key="")


@pytest.mark.servers
def test_without_a_key_there_is_advice(swift_store):
    with pytest.raises(LinksNotConfigured, match="link-key"):
        swift_store.link_base()
    swift_store.set_link_key(new_link_key())
    assert swift_store.link_base().secret


@pytest.mark.servers
@pytest.mark.parametrize("secret", ["123456789", "short", ""], ids=["the known default", "too short", "empty"])
def test_a_key_that_can_be_guessed_is_refused(swift_store, secret):
    with pytest.raises(LinksNotConfigured, match="at least 16"):
        swift_store.set_link_key(secret)
    assert swift_store.link_secrets() == ()


@pytest.mark.servers
def test_configured_keys_and_address_are_first(swift, container):
    settings = replace(
        swift.settings, url_key="k" * 20, url_key_2="l" * 20, public_endpoint="https://pictures.example.org"
    )
    with opened(settings, container) as store:
        base = store.link_base()
        assert (base.endpoint, base.path) == ("https://pictures.example.org", f"/v1/AUTH_test/{container}/")
        assert store.link_secrets() == ("k" * 20, "l" * 20)


@pytest.mark.servers
@pytest.mark.parametrize("digest", ["sha512", "sha1"])
def test_the_digest_is_one_that_this_swift_verifies(start_swift, container, digest):
    with start_swift("--digests", digest) as swift, opened(swift.settings, container) as store:
        store.set_link_key(new_link_key())
        store.put("a.jpg", b"1", media_type=JPEG)
        base = store.link_base()
        assert base.digest == digest
        assert fetch(temporary_url(base, "a.jpg", int(time.time()) + 60, "a.jpg"))[0] == 200
        wrong = replace(base, digest="sha256")
        assert fetch(temporary_url(wrong, "a.jpg", int(time.time()) + 60, "a.jpg"))[0] == 401


# -- Keystone ------------------------------------------------------------------------


def of_keystone(keystone, **credentials) -> PersistentStoreConfiguration:
    return PersistentStoreConfiguration(kind="swift", credentials=Credentials(authurl=keystone["url"], **credentials))


WAYS = {
    "password and names": lambda keystone: Credentials(
        authurl=keystone["url"], username="demo", password="demopass", tenant="demo",
        user_domain_name="Default", project_domain_name="Default", region="RegionOne",
    ),
    "password and the project's id": lambda keystone: Credentials(
        authurl=keystone["url"], username="demo", password="demopass", tenant_id=keystone["project_id"],
    ),
    "an address without a version": lambda keystone: Credentials(
        authurl=keystone["url"].removesuffix("/v3"), username="demo", password="demopass", tenant="demo",
    ),
    "the address of the second version": lambda keystone: Credentials(
        authurl=keystone["url"].replace("/v3", "/v2.0/"), username="demo", password="demopass", tenant="demo",
        auth_version="2",
    ),
    "an application credential": lambda keystone: Credentials(
        authurl=keystone["url"], application_credential_id=keystone["application_credential_id"],
        application_credential_secret=keystone["application_credential_secret"],
    ),
    "the environment": lambda keystone: credentials_of({
        "OS_AUTH_URL": keystone["url"], "OS_USERNAME": "demo", "OS_PASSWORD": "demopass",
        "OS_PROJECT_NAME": "demo", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": "RegionOne", "OS_IDENTITY_API_VERSION": "3",
    }),
    "the internal interface": lambda keystone: Credentials(
        authurl=keystone["url"], username="demo", password="demopass", tenant="demo", interface="internal",
    ),
}  # fmt: skip


@pytest.mark.servers
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_signs_in_at_keystone(keystone, container, way):
    settings = PersistentStoreConfiguration(kind="swift", credentials=way(keystone))
    with opened(settings, container) as store:
        store.put("a/b.jpg", b"picture", media_type=JPEG)
        with store.get("a/b.jpg") as body:
            assert b"".join(body) == b"picture"
        assert [entry.key for entry in store.keys("")] == ["a/b.jpg"]


@pytest.mark.servers
def test_temporary_urls_with_keystone(keystone, container):
    with opened(of_keystone(keystone, username="demo", password="demopass", tenant="demo"), container) as store:
        store.set_link_key(new_link_key())
        store.put("a.jpg", b"1", media_type=JPEG)
        base = store.link_base()
        assert base.path == f"/v1/AUTH_{keystone['project_id']}/{container}/"
        assert fetch(temporary_url(base, "a.jpg", int(time.time()) + 60, "a.jpg"))[0] == 200


@pytest.mark.servers
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"username": "demo", "password": "wrong", "tenant": "demo"}, "does not take these credentials"),
        ({"username": "demo", "password": "demopass", "tenant": "other"}, "does not take these credentials"),
        ({"username": "demo", "password": "demopass", "tenant": "demo", "region": "Nowhere"}, "no object store"),
        ({"username": "viewer", "password": "viewerpass", "tenant": "demo"}, "has no right"),
        ({"application_credential_id": "none", "application_credential_secret": "wrong"}, "does not take these"),
    ],
    ids=["password", "project", "region", "a reader", "application credential"],
)
def test_what_keystone_refuses_is_said_in_plain_words(keystone, changes, message):
    store = store_of(of_keystone(keystone, **changes))
    with pytest.raises(StoreUnavailable, match=message):
        store.check()
    store.close()
