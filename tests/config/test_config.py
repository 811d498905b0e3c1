"""The settings: read from files and environment, checked, dumped, and never told aloud where they are secret."""

# ruff: noqa: E501, the tables hold messages as they are told

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_repo.config import (
    GIB,
    MIB,
    AccessConfiguration,
    AccessRule,
    Config,
    OidcConfiguration,
    ServerConfiguration,
    dump,
    load,
)
from image_repo.config.renamed import MOVED, MOVED_HERE
from image_repo.config.tree import leaves
from image_repo.errors import ConfigurationError

STORE = "persistent_store_configuration"
PASSWORD = "correct-horse-battery-staple"
SWIFT = {"OS_AUTH_URL": "https://id.example.org/v3", "OS_USERNAME": "ada", "OS_PASSWORD": PASSWORD}


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
    path = tmp_path / "config.yml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ or {}, overrides=overrides)


def mistakes(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text, environ)
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.mistakes]


def test_nothing_said_is_the_defaults() -> None:
    assert load(None, {}) == Config()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n") == Config()


def test_the_defaults_of_the_first_image_repo_stand() -> None:
    config = Config()
    store = config.persistent_store_configuration
    assert config.listen == "127.0.0.1:5000"
    assert (store.container, config.swift_cache_configuration.container) == ("test_image_repo", "test_image_repo_cache")
    assert (store.url_lifetime, store.url_lifetime_slack) == (172_800, 86_400)
    assert config.thumbnail_default_size == (50, 50)
    assert config.local_cache_configuration.cache_path == "/var/tmp/image_server"
    assert config.local_cache_configuration.max_size == GIB
    assert config.local_file_cache_path == "/var/tmp/image_repo"
    assert config.pid_file == "/var/tmp/image_repo_pid"


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("thumbnail_sharpen: off", "thumbnail_sharpen", False),
        ("thumbnail_sharpen: 'no'", "thumbnail_sharpen", False),
        (f"{STORE}: {{container: 012}}", f"{STORE}.container", "012"),
        (f"{STORE}: {{container: on}}", f"{STORE}.container", "on"),
        (f"{STORE}: {{container: 12:30:45}}", f"{STORE}.container", "12:30:45"),
        (f"{STORE}: {{credentials: {{tenant: 2024-01-01}}}}", f"{STORE}.credentials.tenant", "2024-01-01"),
        ("server: {threads: 012}", "server.threads", 12),
        ("freshness: 1", "freshness", 1.0),
        ("local_cache_configuration: {max_size: 64 MiB}", "local_cache_configuration.max_size", 64 * MIB),
        ("local_cache_configuration: {max_size: 2g}", "local_cache_configuration.max_size", 2 * GIB),
        ("local_cache_configuration: {max_size: 0}", "local_cache_configuration.max_size", 0),
        ("thumbnail_default_size: [60, 40]", "thumbnail_default_size", (60, 40)),
        ("thumbnail_default_size: 60x40", "thumbnail_default_size", (60, 40)),
        ("thumbnail_default_size: 60", "thumbnail_default_size", (60, 60)),
        ("image_auto_formats: [webp, jpg]", "image_auto_formats", ("webp", "jpg")),
        ("image_auto_formats: webp, jpg", "image_auto_formats", ("webp", "jpg")),
        ("public_url: null", "public_url", None),
        ("public_url:", "public_url", None),
        ("server:", "server", ServerConfiguration()),
        ("presets: {hero: {xsize: 300, thumbnail: yes}}", "presets", {"hero": {"xsize": "300", "thumbnail": "yes"}}),
        ("repository_base_pathname: api/images", "repository_base_pathname", "api/images"),
        ("listen: '[::1]:80'", "listen", "[::1]:80"),
        (f"{STORE}: {{credentials: {{auth_version: 3}}}}", f"{STORE}.credentials.auth_version", "3"),
        (f"{STORE}: {{credentials: {{auth_version: v2.0}}}}", f"{STORE}.credentials.auth_version", "2"),
        (f"{STORE}: {{credentials: {{interface: internalURL}}}}", f"{STORE}.credentials.interface", "internal"),
    ],
)
def test_a_value_means_what_its_setting_says(tmp_path: Path, text: str, setting: str, value: object) -> None:
    assert part(read(tmp_path, text), setting) == value


def part(config: Any, setting: str) -> Any:
    for name in setting.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listn: x", "config.yml:1: listn: there is no such setting; did you mean listen?"),
        ("# one\nserver:\n  procesess: 1", "config.yml:3: server.procesess: there is no such setting; did you mean processes?"),
        ("zzz: 1", "config.yml:1: zzz: there is no such setting"),
        ("server: 5", "config.yml:1: server: expected a group of settings, each as NAME: VALUE"),
        ("server: {threads: x}", "config.yml:1: server.threads: expected a whole number of at least 1 but received 'x'"),
        ("server: {threads: 0}", "config.yml:1: server.threads: expected a whole number of at least 1 but received '0'"),
        ("server: {threads: [1]}", "config.yml:1: server.threads: expected a whole number of at least 1 but received ['1']"),
        ("overwrite: maybe", "config.yml:1: overwrite: expected true or false but received 'maybe'"),
        ("overwrite:", "config.yml:1: overwrite: expected true or false but received nothing"),
        ("freshness: 5000", "config.yml:1: freshness: expected a number from 0 to 3600 but received '5000'"),
        ("freshness: .nan", "config.yml:1: freshness: expected a number from 0 to 3600 but received '.nan'"),
        ("image_default_format: bmp", "config.yml:1: image_default_format: expected one of jpg, png, webp, avif, tif, gif, jp2, auto, source but received 'bmp'"),
        ("image_auto_formats: []", "config.yml:1: image_auto_formats: expected at least one format, and none of them twice"),
        ("image_auto_formats: [jpg, jpg]", "config.yml:1: image_auto_formats: expected at least one format, and none of them twice"),
        ("image_default_background: blu", "config.yml:1: image_default_background: expected a colour such as white, fff or 1e90ff for image_default_background but received 'blu'"),
        ("overwrite: true\noverwrite: false", "config.yml:2: overwrite: given twice; the first is in line 1"),
        ("- a\n- b", "config.yml:1: expected settings, each as NAME: VALUE"),
        ("a: [b", "config.yml:2: this is not YAML: did not find expected ',' or ']'"),
        ("[a]: b", "config.yml:1: expected the name of a setting"),
        ("listen: !!python/object:os.system x", "config.yml:1: listen: expected a value without the tag tag:yaml.org,2002:python/object:os.system"),
        ("listen: nonsense", "config.yml:1: listen: expected HOST:PORT such as 127.0.0.1:5000 but received 'nonsense'"),
        ("listen: a:70000", "config.yml:1: listen: expected HOST:PORT such as 127.0.0.1:5000 but received 'a:70000'"),
        ("repository_base_pathname: /images/", "config.yml:1: repository_base_pathname: expected a path such as images or api/images, without '/' at its ends"),
        ("repository_base_pathname: iiif", "config.yml:1: repository_base_pathname: 'iiif' is taken: other addresses begin with it"),
        ("repository_base_pathname: uploads", "config.yml:1: repository_base_pathname: 'uploads' is taken: other addresses begin with it"),
        ("repository_base_pathname: a/../b", "config.yml:1: repository_base_pathname: expected a path such as images or api/images, without '/' at its ends"),
        ("public_url: example.org", "config.yml:1: public_url: expected scheme://host[/path] without '/' at its end but received 'example.org'"),
        (f"{STORE}: {{public_endpoint: 'https://a/b'}}", f"config.yml:1: {STORE}.public_endpoint: expected scheme://host without a path but received 'https://a/b'"),
        ('cors_origin: "a\\r\\nb"', "config.yml:1: cors_origin: expected text without control characters"),
        (f"{STORE}: {{url_key: '123456789'}}", f"config.yml:1: {STORE}.url_key: expected a key other than the public default; image_repo link-key creates one"),
        (f"{STORE}: {{url_key_2: fifteen-letters}}", f"config.yml:1: {STORE}.url_key_2: expected a key of at least 16 characters"),
        (f"{STORE}: {{url_key: 'env:NOT_THERE'}}", f"config.yml:1: {STORE}.url_key: the environment has no NOT_THERE"),
        (f"{STORE}: {{url_key: 'file:/not/there'}}", f"config.yml:1: {STORE}.url_key: /not/there cannot be read: No such file or directory"),
        (f"{STORE}: {{url_lifetime: 700000}}", f"config.yml:1: {STORE}.url_lifetime: expected at most url_lifetime_most, which is 604800"),
        (f"{STORE}: {{container: a/b}}", f"config.yml:1: {STORE}.container: expected a name of 1 to 256 bytes without '/'"),
        ("local_file_cache_path: ./image_repo_data/tmp", "config.yml:1: local_file_cache_path: expected a folder apart from that of the originals (./image_repo_data)"),
        ("render: {wait: 700}", "config.yml:1: render.wait: expected at most server.request_timeout, which is 600"),
        ("access: {anonymous: all}", "config.yml:1: access.anonymous: expected one of write, read, none, or null but received 'all'"),
        ("access: {oidc: {issuer: id.example}}", "config.yml:1: access.oidc.issuer: expected an address such as https://id.example.org/realms/lab but received 'id.example'"),
        ("access: {oidc: {jwks_uri: 'file:/not/there'}}", "config.yml:1: access.oidc.jwks_uri: /not/there cannot be read: No such file or directory"),
        ("access: {oidc: {client_id: web, jwks_uri: 'https://a'}, secret: a secret of the tests}", "config.yml:1: access.oidc.client_id: expected issuer beside it, which names where people log in"),
        ("access: {oidc: {issuer: 'https://a', client_id: web}}", "config.yml:1: access.secret: expected a secret of at least 16 characters, which signs the sessions of people"),
        ("access: {oidc: {issuer: 'https://a', client_secret: x}}", "config.yml:1: access.oidc.client_secret: expected client_id beside it"),
        ("access: {oidc: {issuer: 'https://a', client_secret: 'env:NOT_SET'}}", "config.yml:1: access.oidc.client_secret: the environment has no NOT_SET"),
        ("access: {oidc: {issuer: 'https://a', client_id: web, scope: email}, secret: a secret of the tests}", "config.yml:1: access.oidc.scope: expected openid among them but received 'email'"),
        ("purge: {url: 'varnish:80'}", "config.yml:1: purge.url: expected an address such as http://varnish:6081/ but received 'varnish:80'"),
        ("purge: {url: 'http://varnish/', method: P U}", "config.yml:1: purge.method: expected a method such as PURGE or POST but received 'P U'"),
        ("purge: {url: 'http://varnish/', headers: [x]}", "config.yml:1: purge.headers: expected headers such as 'xkey-purge: {key}' but received 'x'"),
        ("purge: {url: 'http://varnish/', secret_header: x}", "config.yml:1: purge.secret_header: expected a header such as 'Fastly-Key: …'"),
        ("purge: {url: 'http://varnish/{key}'}", "surrogate_header: expected a header, because purge uses {key}, which it tells the cache in front"),
        ("access: {anonymous_limits: {watermark: {picture: /not/there}}}", "config.yml:1: access.anonymous_limits.watermark.picture: expected a file, but there is no /not/there"),
        ("access: {anonymous_limits: {watermark: {text: a, picture: /etc/passwd}}}", "config.yml:1: access.anonymous_limits.watermark.picture: expected either text or picture, not both"),
        ("access: {anonymous_limits: {watermark: {text: ' '}}}", "config.yml:1: access.anonymous_limits.watermark.text: expected one line of at most 100 characters"),
        ("access: {iiif_info: true}", "config.yml:1: access.iiif_info: expected access.oidc.client_id beside it: people log in there"),
        ("access: {oidc: {audience: images}}", "config.yml:1: access.oidc.audience: expected issuer or jwks_uri beside it"),
        ("access: {oidc: {issuer: 'https://a', roles: {x: reader}}}", "config.yml:1: access.oidc.roles: expected roles_claim beside it"),
        ("access: {oidc: {issuer: 'https://a', roles_claim: r, roles: {x: owner}}}", "config.yml:1: access.oidc.roles: expected values of the claim, each with reader, writer or admin but received {'x': 'owner'}"),
        ("access: {rules: [{prefix: ../x}]}", "config.yml:1: access.rules: rule 1: prefix: No part of a name may begin with a dot, as '..' does."),
        ("access: {rules: [{prefix: a}, {prefix: b, until: soon}]}", "config.yml:1: access.rules: rule 2: expected a date such as 2030-01-31 for until"),
        ("access: {rules: [{prefx: a}]}", "config.yml:1: access.rules: expected a list of rules, each with prefix, who, may and until but received [{'prefx': 'a'}]"),
        ("presets: {a: {xsiz: 1}}", "config.yml:1: presets.a.xsiz: there is no parameter 'xsiz'. Did you mean xsize?"),
        ("presets: {a: {preset: b}}", "config.yml:1: presets.a.preset: expected parameters without preset: a preset cannot include another"),
        ("presets: {a: {w: 1, xsize: 2}}", "config.yml:1: presets.a: the parameter xsize is given more than once"),
        ("presets: {a: {crop: [1, 2]}}", "config.yml:1: presets: expected names, each with parameters and their values but received {'a': {'crop': ['1', '2']}}"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == [message]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "server: {threads: x}\nlisten: 5\nowner: me\nfreshness: -1\nzebra: 1\n"
    messages = mistakes(tmp_path, text, {"IMAGE_REPO_LISTN": "1"})
    assert [line.split(": ")[0] for line in messages] == [f"config.yml:{line}" for line in range(1, 6)] + [
        "environment"
    ]


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.yml: cannot be read: No such file"):
        load(tmp_path / "no.yml", {})


def test_anchors_cannot_multiply_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 8)]
    assert any("fewer or less nested values" in line for line in mistakes(tmp_path, "\n".join(lines)))


def test_a_value_that_holds_itself_ends(tmp_path: Path) -> None:
    assert any("fewer or less nested values" in line for line in mistakes(tmp_path, "presets: &a {b: *a}"))


# -- the first image_repo's files ---------------------------------------------------------


def test_a_file_of_the_first_image_repo_is_read(tmp_path: Path) -> None:
    text = f"""\
!Main_Image_Repo_Configuration
create_new: false
image_default_format: jpg
local_cache_configuration: !Cache_Configuration
  cache_path: {tmp_path}/cache
  evict_free_threshold: 0.2
  max_elements: 1048576
  max_size: 1073741824
  priority: newest
{STORE}: !Swift_Storage_Configuration
  container: museum
  credentials: !Nectre_Credentials
    authurl: [env, OS_AUTH_URL]
    password: !!python/tuple [env, OS_PASSWORD]
    tenant: [explicit, collection]
    tenant_id: [env, null]
    username: ("env", "OS_USERNAME")
thumbnail_default_size: [50, 50]
"""
    store = read(tmp_path, text, SWIFT).persistent_store_configuration
    assert store.container == "museum"
    assert (store.credentials.authurl, store.credentials.username) == (SWIFT["OS_AUTH_URL"], "ada")
    assert (store.credentials.password, store.credentials.tenant) == (PASSWORD, "collection")
    assert store.credentials.tenant_id is None


@pytest.mark.parametrize("name", [*MOVED, *MOVED_HERE])
def test_what_is_gone_or_renamed_says_what_to_do(tmp_path: Path, name: str) -> None:
    parts = name.split(".")
    text = "".join(f"{'  ' * depth}{key}:\n" for depth, key in enumerate(parts)).rstrip("\n") + " 1\n"
    (message,) = mistakes(tmp_path, text)
    assert message.startswith(f"config.yml:{len(parts)}: {name}: ")
    assert "there is no such setting" not in message
    assert (MOVED | MOVED_HERE)[name] in message


def test_new_names_in_the_advice_are_settings() -> None:
    known = {name for path, _ in leaves(Config) for name in path}
    renamed = [
        advice.split()[-1] for advice in MOVED.values() if advice.startswith(("is now spelled", "is now called"))
    ]
    assert renamed
    assert set(renamed) <= known


def test_no_setting_of_ours_is_in_the_table_of_what_is_gone() -> None:
    ours = {".".join(path) for path, _ in leaves(Config)}
    assert not ours & set(MOVED_HERE)
    assert not {name.rpartition(".")[2] for name in ours} & set(MOVED)


# -- environment --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "setting", "value"),
    [
        ("IMAGE_REPO_LISTEN", "0.0.0.0:80", "listen", "0.0.0.0:80"),
        ("IMAGE_REPO_SERVER__PROCESSES", "4", "server.processes", 4),
        ("IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CONTAINER", "photos", f"{STORE}.container", "photos"),
        ("IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CREDENTIALS__TENANT", "t", f"{STORE}.credentials.tenant", "t"),
        ("IMAGE_REPO_CORS_ORIGIN", "null", "cors_origin", None),
        ("IMAGE_REPO_CORS_ORIGIN", "", "cors_origin", "*"),
        ("IMAGE_REPO_IMAGE_AUTO_FORMATS", "webp,jpg", "image_auto_formats", ("webp", "jpg")),
        ("IMAGE_REPO_PRESETS", "{hero: {w: 3}}", "presets", {"hero": {"w": "3"}}),
        ("IMAGE_REPO_CONFIG", "elsewhere.yml", "listen", "127.0.0.1:5000"),
        ("IMAGE_REPO_TEST_ANYTHING", "1", "listen", "127.0.0.1:5000"),
    ],
)
def test_the_environment_sets_what_the_file_does_not(variable: str, text: str, setting: str, value: object) -> None:
    assert part(load(None, {variable: text}), setting) == value


def test_the_environment_is_stronger_than_the_file_and_the_command_line_than_both(tmp_path: Path) -> None:
    environ = {"IMAGE_REPO_LISTEN": "b:2", "IMAGE_REPO_PID_FILE": "/two"}
    config = read(tmp_path, "listen: a:1\npid_file: /one\ncreate_new: true\n", environ, listen="c:3")
    assert (config.listen, config.pid_file, config.create_new) == ("c:3", "/two", True)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"IMAGE_REPO_LISTN": "x"}, "environment: IMAGE_REPO_LISTN: there is no such setting; did you mean IMAGE_REPO_LISTEN?"),
        ({"IMAGE_REPO_SERVER": "x"}, "environment: IMAGE_REPO_SERVER: there is no such setting"),
        ({"IMAGE_REPO_SERVER__THREADS": "x"}, "environment: IMAGE_REPO_SERVER__THREADS: server.threads: expected a whole number of at least 1 but received 'x'"),
        ({"IMAGE_REPO_PRESETS": "{a"}, "environment: IMAGE_REPO_PRESETS: presets: expected names, each with parameters and their values but received '{a'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_names_its_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(None, environ)
    assert caught.value.mistakes[0].startswith(message)


# -- credentials and secrets ----------------------------------------------------------------


def test_swift_is_used_when_its_usual_variables_are_there() -> None:
    assert load(None, {}).persistent_store_configuration.resolved_kind == "disk"
    assert load(None, SWIFT).persistent_store_configuration.resolved_kind == "swift"


@pytest.mark.parametrize(
    ("variable", "setting"),
    [
        ("OS_PROJECT_NAME", "tenant"),
        ("OS_TENANT_NAME", "tenant"),
        ("OS_TENANT_ID", "tenant_id"),
        ("OS_USER_DOMAIN_NAME", "user_domain_name"),
        ("OS_PROJECT_DOMAIN_ID", "project_domain_id"),
        ("OS_REGION_NAME", "region"),
        ("OS_CACERT", "cacert"),
    ],
)
def test_the_usual_variables_are_the_default_of_credentials(variable: str, setting: str) -> None:
    credentials = load(None, {**SWIFT, variable: "x"}).persistent_store_configuration.credentials
    assert getattr(credentials, setting) == "x"


def test_what_the_file_says_is_stronger_than_the_usual_variables(tmp_path: Path) -> None:
    config = read(tmp_path, f"{STORE}: {{credentials: {{username: grace}}}}", SWIFT)
    assert config.persistent_store_configuration.credentials.username == "grace"


def test_two_ways_of_signing_in_are_not_mixed(tmp_path: Path) -> None:
    text = f"{STORE}: {{credentials: {{application_credential_id: i, application_credential_secret: 'env:S'}}}}"
    credentials = read(tmp_path, text, {**SWIFT, "S": "x"}).persistent_store_configuration.credentials
    assert (credentials.application_credential_id, credentials.username, credentials.password) == ("i", None, None)


def test_credentials_from_a_file_lose_their_last_line_end(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    text = f"{STORE}: {{credentials: {{password: 'file:{tmp_path}/password'}}}}"
    assert read(tmp_path, text, SWIFT).persistent_store_configuration.credentials.password == PASSWORD


def test_a_missing_credential_matters_only_where_it_is_used(tmp_path: Path) -> None:
    text = f"{STORE}: {{kind: %s, credentials: {{authurl: 'http://a', username: u, password: 'env:NOT_THERE'}}}}"
    assert read(tmp_path, text % "disk").persistent_store_configuration.resolved_kind == "disk"
    message = f"config.yml:1: {STORE}.credentials.password: the environment has no NOT_THERE"
    assert mistakes(tmp_path, text % "swift") == [message]


def test_swift_without_credentials_says_what_is_missing(tmp_path: Path) -> None:
    messages = mistakes(tmp_path, f"{STORE}: {{kind: swift}}")
    assert any("credentials.authurl: expected the address of the identity service" in line for line in messages)
    assert any("credentials: expected username and password" in line for line in messages)


S3 = {"S3_BUCKET": "photos", "S3_ACCESS_KEY_ID": "ada", "S3_SECRET_ACCESS_KEY": PASSWORD, "S3_REGION": "eu-1"}


def test_a_bucket_in_the_environment_means_s3() -> None:
    store = load(None, S3 | {"OS_REGION_NAME": "other"}).persistent_store_configuration
    assert (store.kind, store.container) == ("s3", "photos")
    assert (store.credentials.access_key_id, store.credentials.region) == ("ada", "eu-1")
    assert store.credentials.secret_access_key == PASSWORD


def test_the_secret_of_s3_is_never_shown() -> None:
    config = load(None, S3)
    assert PASSWORD not in repr(config) + dump(config)
    assert "secret_access_key: env:S3_SECRET_ACCESS_KEY" in dump(config)


def test_the_files_bucket_is_stronger_than_the_environments(tmp_path: Path) -> None:
    store = read(tmp_path, f"{STORE}: {{container: theses}}", S3).persistent_store_configuration
    assert (store.kind, store.container) == ("s3", "theses")


def test_keys_of_the_file_never_get_the_session_token_of_the_environment(tmp_path: Path) -> None:
    text = f"{STORE}: {{credentials: {{access_key_id: i, secret_access_key: 'env:S'}}}}"
    store = read(tmp_path, text, S3 | {"S": "x", "S3_SESSION_TOKEN": "t"}).persistent_store_configuration
    assert (store.credentials.access_key_id, store.credentials.session_token) == ("i", None)


def test_a_bucket_beside_a_sign_in_to_swift_asks_for_the_kind(tmp_path: Path) -> None:
    messages = mistakes(tmp_path, "", S3 | SWIFT)
    assert messages == [f"{STORE}.kind: expected s3 or swift: both S3_BUCKET and OS_AUTH_URL are set"]
    assert read(tmp_path, f"{STORE}: {{kind: swift}}", S3 | SWIFT).persistent_store_configuration.container != "photos"
    store = read(tmp_path, f"{STORE}: {{kind: s3}}", S3 | SWIFT).persistent_store_configuration
    assert (store.container, store.credentials.authurl) == ("photos", None)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("credentials: {endpoint: 's3.example.org'}", "credentials.endpoint: expected scheme://host"),
        ("credentials: {access_key_id: a}", "credentials: expected access_key_id and secret_access_key together"),
        ("container: 'my photos'", "container: expected a bucket"),
        ("url_lifetime: 600000", "url_lifetime: expected at most 604800 together with url_lifetime_slack"),
    ],
    ids=["an endpoint without a scheme", "half a key", "no name of a bucket", "links that hold too long"],
)
def test_mistakes_with_s3_are_found_without_asking_it(tmp_path: Path, text: str, mistake: str) -> None:
    messages = mistakes(tmp_path, f"{STORE}: {{kind: s3, {text}}}")
    assert any(mistake in line for line in messages), messages


def secrets(tmp_path: Path) -> list[Config]:
    text = f"{STORE}: {{url_key: {PASSWORD}, credentials: {{password: {PASSWORD}}}}}"
    prefix = "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__"
    return [
        load(None, SWIFT),
        load(None, {f"{prefix}URL_KEY": PASSWORD, f"{prefix}CREDENTIALS__PASSWORD": PASSWORD}),
        read(tmp_path, text, {name: value for name, value in SWIFT.items() if value != PASSWORD}),
    ]


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    for config in secrets(tmp_path):
        assert config.persistent_store_configuration.credentials.password == PASSWORD
        for text in (repr(config), str(config), dump(config), f"{config.persistent_store_configuration!r}"):
            assert PASSWORD not in text


def test_a_secret_stays_one_across_processes() -> None:
    copied = pickle.loads(pickle.dumps(load(None, SWIFT)))
    assert PASSWORD not in repr(copied)
    assert copied == load(None, SWIFT)


def test_a_mistaken_secret_is_not_told(tmp_path: Path) -> None:
    assert not any(PASSWORD in line for line in mistakes(tmp_path, f"{STORE}: {{url_key: [{PASSWORD}]}}"))


# -- the dump -------------------------------------------------------------------------------


def test_the_dump_names_where_secrets_come_from(tmp_path: Path) -> None:
    by_usual, by_own, literal = map(dump, secrets(tmp_path))
    assert "    password: env:OS_PASSWORD\n" in by_usual
    own = "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__CREDENTIALS__PASSWORD"
    assert f"    password: env:{own}\n" in by_own
    assert f"    password: env:{own}\n" in literal


def test_the_dump_has_every_setting_with_its_help() -> None:
    lines = dump(Config()).splitlines()
    for path, setting in leaves(Config):
        (line,) = (
            at
            for at, text in enumerate(lines)
            if text.startswith("  " * (len(path) - 1) + path[-1] + ":") and _is_at(lines, at, path)
        )
        comment = []
        while lines[line - 1].strip().startswith("#"):
            line -= 1
            comment.insert(0, lines[line].strip().removeprefix("# "))
        assert setting.help in " ".join(comment)


def _is_at(lines: list[str], at: int, path: tuple[str, ...]) -> bool:
    """Whether the line stands in the sections that the path names."""
    for depth in range(len(path) - 2, -1, -1):
        at = next(line for line in range(at, -1, -1) if _depth(lines[line]) == depth)
        if lines[at].strip() != f"{path[depth]}:":
            return False
    return True


def _depth(line: str) -> int:
    return -1 if not line.strip() or line.strip().startswith("#") else (len(line) - len(line.lstrip())) // 2


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)
NUMBER = st.integers(1, 10**6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    container=TEXT.filter(lambda text: "/" not in text and len(text.encode()) <= 256),
    tenant=st.none() | TEXT.filter(lambda text: not text.startswith(("env:", "file:"))),
    threads=NUMBER,
    size=st.integers(0, 1 << 50),
    freshness=st.floats(0, 3600),
    sides=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
    flag=st.booleans(),
    widths=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(1, 9999), max_size=3),
)
def test_the_dump_fed_back_means_the_same(
    tmp_path: Path, container: str, tenant: str | None, threads: int, size: int, freshness: float,
    sides: tuple[int, int], flag: bool, widths: dict[str, int],
) -> None:  # fmt: skip
    base = Config()
    store = base.persistent_store_configuration
    config = replace(
        base,
        persistent_store_configuration=replace(
            store, container=container, credentials=replace(store.credentials, tenant=tenant)
        ),
        local_cache_configuration=replace(base.local_cache_configuration, max_size=size),
        server=replace(base.server, threads=threads),
        freshness=freshness,
        thumbnail_default_size=sides,
        create_new=flag,
        presets={name: {"xsize": str(width)} for name, width in widths.items()},
    )
    again = read(tmp_path, dump(config))
    assert again == config
    assert dump(again) == dump(config)


def test_the_dump_of_roles_fed_back_means_the_same(tmp_path: Path) -> None:
    oidc = OidcConfiguration(issuer="https://id.example", roles_claim="a.b", roles={"the lab": "writer", "x": "reader"})
    rules = (AccessRule("new", until="2030-01-01"), AccessRule("x", "ann: [b", "write"))
    config = replace(Config(), access=AccessConfiguration(anonymous="read", oidc=oidc, rules=rules))
    assert read(tmp_path, dump(config)) == config


def test_rules_stand_in_the_environment_as_yaml() -> None:
    rules = load(None, {"IMAGE_REPO_ACCESS__RULES": "[{prefix: new, until: 2030-01-01}]"}).access.rules
    assert rules == (AccessRule("new", until="2030-01-01"),)


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("{}", True),
        ("access: {anonymous: write}", True),
        ("access: {anonymous: read}", False),
        ("access: {anonymous: none}", False),
        ("access: {rules: [{prefix: a}]}", False),
        ("access: {oidc: {issuer: 'https://a'}}", False),
        ("access: {anonymous: write, oidc: {issuer: 'https://a'}}", False),
    ],
)
def test_access_is_open_until_something_of_it_is_set(tmp_path: Path, text: str, is_open: bool) -> None:
    assert read(tmp_path, text).access.is_open is is_open


def test_the_dump_with_secrets_fed_back_means_the_same(tmp_path: Path) -> None:
    config = load(None, SWIFT)
    assert read(tmp_path, dump(config), SWIFT) == config


def test_sections_are_frozen_and_know_no_other_settings() -> None:
    def sections(value: Any) -> list[Any]:
        below = [getattr(value, name) for name in value.__dataclass_fields__]
        return [value, *(deeper for one in below if is_dataclass(one) for deeper in sections(one))]

    for section in sections(Config()):
        with pytest.raises(AttributeError):
            section.anything = 1
