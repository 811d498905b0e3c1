"""Files and environment to a settings tree, or every mistake in them at once.

Every value is text until its setting gives it a type. So the surprises of YAML 1.1 (``on``, ``012``, ``12:30:45``) do
not arise: a container may be named ``012``.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from image_repo.config import rules
from image_repo.config.places import own_places
from image_repo.config.readers import Sourced
from image_repo.config.renamed import OBEYED, advice
from image_repo.config.settings import Config, Credentials
from image_repo.config.tree import Path, Setting, leaves, settings_of
from image_repo.errors import ConfigurationError

PREFIX = "IMAGE_REPO_"
#: variables with that prefix that are not settings
NOT_SETTINGS = re.compile(r"IMAGE_REPO_(CONFIG|LAUNCH|TEST_\w*)")
#: bounds of a configuration file, because anchors can multiply its values
_MAX_NODES, _MAX_LEVELS, _MAX_BYTES = 10_000, 10, 1 << 20
#: in place of a value whose mistake is noted
_REFUSED = object()
_MAX_EXCERPT_CHARS = 60
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_PAIR = re.compile(r"""\(\s*u?["'](env|file|explicit)["']\s*,\s*u?["'](.*)["']\s*\)""")
#: the first image_repo tagged its sections; the tags repeat what the place of a section says
_TAGS = re.compile(r"tag:yaml\.org,2002:(map|seq|str|null|bool|int|float|timestamp|python/tuple|merge|value)|![\w-]+")

#: credential → the OpenStack variables that are its default
OPENSTACK: dict[str, tuple[str, ...]] = {
    "authurl": ("OS_AUTH_URL", "ST_AUTH"),
    "auth_version": ("OS_IDENTITY_API_VERSION", "OS_AUTH_VERSION", "ST_AUTH_VERSION"),
    "username": ("OS_USERNAME", "ST_USER"), "password": ("OS_PASSWORD", "ST_KEY"),
    "tenant": ("OS_PROJECT_NAME", "OS_TENANT_NAME"), "tenant_id": ("OS_PROJECT_ID", "OS_TENANT_ID"),
    "user_domain_name": ("OS_USER_DOMAIN_NAME",), "user_domain_id": ("OS_USER_DOMAIN_ID",),
    "project_domain_name": ("OS_PROJECT_DOMAIN_NAME",), "project_domain_id": ("OS_PROJECT_DOMAIN_ID",),
    "application_credential_id": ("OS_APPLICATION_CREDENTIAL_ID",),
    "application_credential_secret": ("OS_APPLICATION_CREDENTIAL_SECRET",),
    "region": ("OS_REGION_NAME",), "interface": ("OS_INTERFACE", "OS_ENDPOINT_TYPE"), "cacert": ("OS_CACERT",),
}  # fmt: skip
#: variable of the image storage microservice → the setting that it is a default of
IMAGE_STORAGE: dict[str, Path] = {"OIDC_JWKS_URI": ("access", "oidc", "jwks_uri")}
#: credential → the variable that is its default with S3
S3: dict[str, tuple[str, ...]] = {
    name: (f"S3_{name.upper()}",)
    for name in ("access_key_id", "secret_access_key", "session_token", "region", "endpoint")
}
S3_BUCKET = "S3_BUCKET"
_STORE, _CREDENTIALS = "persistent_store_configuration", "credentials"
_PASSWORD = ("username", "password")
_APPLICATION_CREDENTIAL = ("application_credential_id", "application_credential_secret")
_KEYS = ("access_key_id", "secret_access_key")
_IDENTITY = (*_PASSWORD, "tenant", "tenant_id", *_APPLICATION_CREDENTIAL)


def load(path: File | None, environ: Mapping[str, str], *, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration.

    :param path: the YAML file, None for none
    :param environ: the environment: ``IMAGE_REPO_…``, ``OS_…``, and the variables that ``env:NAME`` names
    :param overrides: dotted name → value, from the command line
    :raises ConfigurationError: with every mistake and its place
    """
    draft = Draft()
    if path is not None:
        read_file(draft, path)
    _read_environment(draft, environ)
    for name, value in (overrides or {}).items():
        draft.set(tuple(name.split(".")), value, "command line")
    draft.values = only_known(draft, draft.values, Config, ())
    _choose_kind(draft, environ)
    _fill_credentials(draft, environ)
    _fill_from_image_storage(draft, environ)
    config = validate(draft, environ)
    for setting, message in rules.first_violations(config).items():
        draft.mistake(setting, message)
    if draft.mistakes:
        raise ConfigurationError(sorted(dict.fromkeys(draft.mistakes), key=line_of))
    return own_places(config)


def line_of(mistake: str) -> int:
    """Return the line of the file; a mistake outside of the file sorts last."""
    match = re.search(r":([0-9]+): ", mistake)
    return int(match[1]) if match else sys.maxsize


@dataclass
class Draft:
    """Values that are not validated yet, the place of each, and the mistakes."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def mistake(self, path: Path, message: str, place: str | None = None) -> None:
        """Note a mistake at the place of a setting, or of the nearest section around it."""
        around = (path[:length] for length in range(len(path), 0, -1))
        place = place or next((self.places[p] for p in around if p in self.places), "")
        self.mistakes.append(": ".join(part for part in (place, ".".join(path), message) if part))

    def set(self, path: Path, value: Any, place: str) -> None:
        """Set a value, over an earlier one."""
        section = self.values
        for name in path[:-1]:
            if not isinstance(section.get(name), dict):
                section[name] = {}
            section = section[name]
        section[path[-1]] = value
        self.places[path] = place


# -- YAML ------------------------------------------------------------------------------


def read_file(draft: Draft, path: File) -> None:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
        node = yaml.compose(text.decode("utf-8-sig"), Loader=yaml.CSafeLoader)
    except OSError as error:
        draft.mistakes.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        draft.mistakes.append(f"{path}: cannot be read: it is not UTF-8 text")
    except yaml.YAMLError as error:
        draft.mistakes.append(_syntax(path, error))
    else:
        _read_document(draft, str(path), node)


def _syntax(path: File, error: yaml.YAMLError) -> str:
    line = f":{mark.line + 1}" if (mark := getattr(error, "problem_mark", None)) else ""
    return f"{path}{line}: this is not YAML: {getattr(error, 'problem', None) or error}"


def _read_document(draft: Draft, file: str, node: yaml.Node | None) -> None:
    if node is None:
        return
    value = _YamlReader(draft, file).value(node, (), 0)
    if isinstance(value, dict):
        draft.values = value
    elif value is not None and value is not _REFUSED:
        draft.mistake((), "expected settings, each as NAME: VALUE", f"{file}:{node.start_mark.line + 1}")


class _YamlReader:
    """YAML nodes to text, lists and dicts, with the place of each value."""

    def __init__(self, draft: Draft, file: str) -> None:
        self._draft = draft
        self._file = file
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path, level: int) -> Any:
        self._draft.places[path] = self._place(node)
        self._nodes += 1
        if self._nodes > _MAX_NODES or level > _MAX_LEVELS:
            return self._refuse(node, path, "expected a configuration with fewer or less nested values")
        if not _TAGS.fullmatch(node.tag):
            return self._refuse(node, path, f"expected a value without the tag {node.tag}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, level)
        if isinstance(node, yaml.SequenceNode):
            values = [self.value(child, (*path, str(place)), level + 1) for place, child in enumerate(node.value)]
            return [value for value in values if value is not _REFUSED]
        text: str = node.value
        is_plain = isinstance(node, yaml.ScalarNode) and not node.style  # None, or empty from libyaml
        return None if is_plain and text in _NULLS else text

    def _mapping(self, node: yaml.MappingNode, path: Path, level: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, child in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None:
                self._refuse(key, path, "expected the name of a setting")
            elif name in values:
                first = f"given twice; the first is in line {lines[name]}"
                self._draft.mistake((*path, name), first, self._place(key))
            else:
                lines[name] = key.start_mark.line + 1
                values[name] = self.value(child, (*path, name), level + 1)
                self._draft.places[(*path, name)] = self._place(key)
        return {name: value for name, value in values.items() if value is not _REFUSED}

    def _place(self, node: yaml.Node) -> str:
        return f"{self._file}:{node.start_mark.line + 1}"

    def _refuse(self, node: yaml.Node, path: Path, message: str) -> object:
        if self._nodes <= _MAX_NODES + 1:
            self._draft.mistake(path, message, self._place(node))
        return _REFUSED


# -- environment -----------------------------------------------------------------------


def _read_environment(draft: Draft, environ: Mapping[str, str]) -> None:
    """Set what the environment sets; an empty variable counts as unset."""
    known = {variable_of(path): (path, setting) for path, setting in leaves(Config)}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or NOT_SETTINGS.fullmatch(variable) or not text:
            continue
        place = f"environment: {variable}"
        if variable not in known:
            draft.mistakes.append(f"{place}: there is no such setting{_nearest(variable, known)}")
            continue
        path, setting = known[variable]
        draft.set(path, _from_text(draft, setting, path, text, variable), place)


def _from_text(draft: Draft, setting: Setting, path: Path, text: str, variable: str) -> Any:
    if setting.sourced and text != "null" and not text.startswith(("env:", "file:")):
        return setting.sourced.text(text, f"env:{variable}")
    if not setting.is_structured:
        return None if text == "null" else text
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return text
    parsed = Draft()
    value = _YamlReader(parsed, variable).value(node, path, 0) if node else {}
    draft.mistakes += parsed.mistakes
    return value


def variable_of(path: Path) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + "__".join(path).upper()


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


# -- the tree --------------------------------------------------------------------------


def only_known(draft: Draft, values: dict[str, Any], section: type, above: Path) -> dict[str, Any]:
    """Return the values that have a place in the tree; note the others as mistakes."""
    settings = settings_of(section)
    known: dict[str, Any] = {}
    for name, value in values.items():
        path = (*above, name)
        setting = settings.get(name)
        if setting is None:
            draft.mistake(path, advice(".".join(path)) or f"there is no such setting{_nearest(name, settings)}")
        elif setting.section is None:
            known[name] = _unpaired(value) if setting.sourced else value
        elif isinstance(value, dict):
            known[name] = only_known(draft, value, setting.section, path)
        elif value is not None:
            draft.mistake(path, "expected a group of settings, each as NAME: VALUE")
    return known


def _unpaired(value: Any) -> Any:
    """Return ``env:OS_PASSWORD`` for the first image_repo's ``["env", "OS_PASSWORD"]``, also in round brackets."""
    if isinstance(value, str) and (pair := _PAIR.fullmatch(value)):
        value = [pair[1], pair[2]]
    if isinstance(value, list) and len(value) == 2 and value[0] in ("env", "file", "explicit"):
        return value[1] if value[0] == "explicit" or value[1] is None else f"{value[0]}:{value[1]}"
    return value


def _choose_kind(draft: Draft, environ: Mapping[str, str]) -> None:
    """Take S3 where ``auto`` may stand for it, and its bucket from the environment."""
    store = draft.values.setdefault(_STORE, {})
    credentials = store.setdefault(_CREDENTIALS, {})
    bucket = environ.get(S3_BUCKET)
    if not bucket or store.get("kind") not in (None, "auto", "s3"):
        return
    if store.get("kind") != "s3":
        if credentials.get("authurl") or any(environ.get(variable) for variable in OPENSTACK["authurl"]):
            draft.mistake((_STORE, "kind"), f"expected s3 or swift: both {S3_BUCKET} and OS_AUTH_URL are set")
            return
        draft.set((_STORE, "kind"), "s3", f"environment: {S3_BUCKET}")
    if store.get("container") is None:
        draft.set((_STORE, "container"), bucket, f"environment: {S3_BUCKET}")


def _fill_credentials(draft: Draft, environ: Mapping[str, str]) -> None:
    """Fill credentials that the configuration leaves out from the variables of S3 or OpenStack.

    Two kinds of sign-in are never mixed: where the configuration has one, the environment does not add the other.
    """
    store = draft.values[_STORE]
    credentials = store[_CREDENTIALS]
    if store.get("kind") == "disk":
        return
    settings = settings_of(Credentials)
    table = S3 if store.get("kind") == "s3" else OPENSTACK
    excluded = excluded_credentials(credentials)
    for name, variables in table.items():
        variable = next((variable for variable in variables if environ.get(variable)), None)
        sourced = settings[name].sourced
        if variable and sourced and name not in excluded and credentials.get(name) is None:
            credentials[name] = sourced.text(environ[variable], f"env:{variable}")
            draft.places[(_STORE, _CREDENTIALS, name)] = f"environment: {variable}"


def excluded_credentials(credentials: Mapping[str, Any]) -> set[str]:
    """Return the credentials that do not go with those of the configuration."""
    configured = {name for name, value in credentials.items() if value is not None}
    excluded = set(_IDENTITY) - configured if configured & set(_APPLICATION_CREDENTIAL) else set()
    if configured & set(_PASSWORD):
        excluded |= set(_APPLICATION_CREDENTIAL)
    return excluded | {"session_token"} if configured & set(_KEYS) else excluded


def _fill_from_image_storage(draft: Draft, environ: Mapping[str, str]) -> None:
    """Fill settings that the configuration leaves out from the variables of the image storage microservice."""
    for variable, path in IMAGE_STORAGE.items():
        section = draft.values
        for name in path[:-1]:
            section = section.setdefault(name, {})
        if environ.get(variable) and section.get(path[-1]) is None:
            section[path[-1]] = Sourced().text(environ[variable], f"env:{variable}")
            draft.places[path] = f"environment: {variable}"
    for variable, (path, form) in OBEYED.items():
        if environ.get(variable) and path not in draft.places:
            draft.set(path, form.format(environ[variable]), f"environment: {variable}")


def validate(draft: Draft, environ: Mapping[str, str]) -> Config:
    """Return the tree, without values of the wrong type, so that the rules are checked as well."""
    adapter = TypeAdapter(Config)
    try:
        return adapter.validate_python(draft.values, context={"environ": environ})
    except ValidationError as error:
        for path in dict.fromkeys(_setting_at(problem["loc"]) for problem in error.errors(include_url=False)):
            draft.mistake(path, _expectation(draft, path))
            remove(draft.values, path)
    return adapter.validate_python(draft.values, context={"environ": environ})


def _setting_at(location: tuple[int | str, ...]) -> Path:
    """Return the setting of a location of pydantic's, which goes on into members and unions."""
    section: type | None = Config
    path: Path = ()
    for part in location:
        if section is None:
            break
        path = (*path, str(part))
        section = settings_of(section)[str(part)].section
    return path


def _expectation(draft: Draft, path: Path) -> str:
    setting = dict(leaves(Config))[path]
    value: Any = draft.values
    for name in path:
        value = value[name]
    received = "" if setting.sourced and setting.sourced.secret else f" but received {_excerpt(value)}"
    return f"expected {setting.expected}{received}"


def _excerpt(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= _MAX_EXCERPT_CHARS else text[: _MAX_EXCERPT_CHARS - 1] + "…"


def remove(values: dict[str, Any], path: Path) -> None:
    for name in path[:-1]:
        values = values[name]
    del values[path[-1]]
