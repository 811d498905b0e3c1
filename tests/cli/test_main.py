"""The command: options before and behind the verb, exit statuses, and what each verb does to a repository on disk."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import commands
import pictures
import pytest
import requests
from click.testing import CliRunner, Result
from identity_provider import running_provider
from webserver import embedded

from image_repo import __version__
from image_repo.cli import startup
from image_repo.cli.main import VERBS, main
from image_repo.cli.options import print_failures
from image_repo.config import AccessConfiguration, Config, dump
from image_repo.model.record import Record, record_key
from image_repo.observability.logging import CleanRecord, LogSettings, clean, configure


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level, factory = root.handlers[:], root.level, logging.getLogRecordFactory()
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.captureWarnings(False)


class Command:
    """Runs the command in this process, with settings of its own folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.config = commands.configure(folder, **settings)

    def __call__(self, *arguments: str | Path) -> Result:
        return CliRunner(env=_quiet()).invoke(main, ["-y", str(self.config), *map(str, arguments)])

    def puts(self, files: dict[str, bytes], *arguments: str) -> Result:
        tree = self.folder / "tree"
        for name, body in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(body)
        return self("put", tree, *arguments)


def _quiet() -> dict[str, str | None]:
    return {name: None for name in os.environ if name.startswith(("IMAGE_REPO_", "OS_", "ST_"))}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def jpeg(width: int = 120, height: int = 80, **more: Any) -> bytes:
    return pictures.jpeg(pictures.photo(width, height), **more)


# -- options --------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["-Y"], ["-Yt"], ["-tY"], ["-vYt"], ["--dump_yaml"]])
def test_the_defaults_are_dumped_and_nothing_else(arguments: list[str]) -> None:
    outcome = CliRunner(env=_quiet()).invoke(main, arguments)
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, dump(Config()), "")


def test_with_a_file_the_dump_is_what_is_in_force(command: Command) -> None:
    outcome = command("-Y", "--listen", "127.0.0.1:7777")
    assert outcome.exit_code == 0
    assert "listen: 127.0.0.1:7777\n" in outcome.stdout
    assert f"cache_path: {command.folder}/cache\n" in outcome.stdout


def test_the_dump_contacts_nothing(tmp_path: Path) -> None:
    credentials = {"authurl": "http://127.0.0.1:1/v3", "username": "u", "password": "p"}
    command = Command(tmp_path, persistent_store_configuration={"kind": "swift", "credentials": credentials})
    assert command("-Yt").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yml"]


def test_every_mistake_in_the_settings_is_told_and_the_status_is_1(tmp_path: Path) -> None:
    outcome = Command(tmp_path, zebra=1, freshness=-1)("-t")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 2
    assert re.search(r"config\.yml:\d+: zebra: there is no such setting", outcome.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["nonsense"],
        ["get"],
        ["-B", "-S"],
        ["-B", "-a"],
        ["-B", "check"],
        ["link", "a", "xsize"],
        ["put"],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_status_2(command: Command, arguments: list[str]) -> None:
    assert command(*arguments).exit_code == 2


def test_the_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"image_repo, version {__version__}\n"


@pytest.mark.parametrize("verb", [None, *sorted(VERBS)])
def test_everything_has_help(verb: str | None) -> None:
    outcome = CliRunner().invoke(main, [verb, "--help"] if verb else ["--help"])
    assert outcome.exit_code == 0
    if verb is None:
        assert all(name in outcome.stdout for name in VERBS)
        assert "Examples:" in outcome.stdout
        assert "Exit status" in outcome.stdout


def test_options_stand_before_the_verb_or_behind_it(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    for arguments in (["-q", "check"], ["check", "-q"]):
        outcome = command(*arguments)
        assert (outcome.exit_code, outcome.stdout) == (0, "")


def test_a_log_file_and_a_level(command: Command) -> None:
    command.puts({"a.jpg": jpeg()}, "-V", "-l", str(command.folder / "log"))
    logging.getLogger("image_repo.test").debug("a line")
    assert "a line" in (command.folder / "log").read_text()


def test_a_python_logging_configuration(command: Command) -> None:
    log, ini = command.folder / "own.log", command.folder / "log.ini"
    ini.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=file\n[formatters]\nkeys=short\n"
        "[logger_root]\nlevel=INFO\nhandlers=file\n[formatter_short]\nformat=%(levelname)s!%(message)s\n"
        f"[handler_file]\nclass=FileHandler\nformatter=short\nargs=({str(log)!r},)\n"
    )
    assert command("check", "-c", ini).exit_code == 0
    logging.getLogger("image_repo.test").info("two\nlines temp_url_sig=abc123&x=1")
    for handler in logging.getLogger().handlers:
        handler.close()
    assert log.read_text().endswith("INFO!two\\x0alines temp_url_sig=…&x=1\n")


def test_a_logging_configuration_that_is_none_is_told(command: Command) -> None:
    (command.folder / "log.ini").write_text("[nothing]\n")
    outcome = command("check", "-c", command.folder / "log.ini")
    assert (outcome.exit_code, "not a logging configuration" in outcome.stderr) == (1, True)


# -- what is logged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\r\nINFO forged", "a\\x0d\\x0aINFO forged"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("GET /temp/x?temp_url_sig=0f0f&temp_url_expires=1", "GET /temp/x?temp_url_sig=…&temp_url_expires=1"),
        ("X-Auth-Token: gAAAAB", "X-Auth-Token: …"),
        ("{'x-container-meta-temp-url-key': 'k3y'}", "{'x-container-meta-temp-url-key': '…'}"),
    ],
)
def test_a_message_is_one_line_without_secrets(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_secrets_are_taken_out_of_tracebacks(tmp_path: Path) -> None:
    configure(LogSettings(file=tmp_path / "log"))
    try:
        raise ValueError("GET /x?temp_url_sig=geheim")
    except ValueError:
        logging.getLogger("image_repo.test").exception("it failed")
    log_text = (tmp_path / "log").read_text()
    assert "Traceback" in log_text
    assert "geheim" not in log_text


def test_records_are_clean_for_whichever_handler() -> None:
    record = CleanRecord("x", logging.INFO, "f", 1, "%s", ("a\nb",), None)
    assert record.getMessage() == "a\\x0ab"


# -- -t -------------------------------------------------------------------------------------


def test_a_trial_says_that_all_is_well(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    outcome = command("-t")
    assert outcome.exit_code == 0
    assert "WRONG" not in outcome.stdout
    assert str(command.folder / "originals") in outcome.stdout


def test_a_trial_says_what_is_wrong_with_a_folder(command: Command) -> None:
    (command.folder / "cache").write_text("no folder")
    outcome = command("-t")
    assert outcome.exit_code == 1
    assert f"WRONG  disk cache: {command.folder}/cache is not a folder" in outcome.stdout


def test_a_trial_says_that_the_store_cannot_be_reached(tmp_path: Path) -> None:
    credentials = {"authurl": "http://127.0.0.1:1/auth/v1.0", "username": "u", "password": "p"}
    store = {"kind": "swift", "credentials": credentials, "connect_timeout": 1, "timeout": 1}
    outcome = Command(tmp_path, persistent_store_configuration=store)("-t")
    assert outcome.exit_code == 1
    assert "WRONG  originals: " in outcome.stdout
    assert "Traceback" not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("access", "ok", "words"),
    [
        pytest.param({}, True, "everybody may read and write", id="nothing"),
        pytest.param(
            {"anonymous": "read"}, True, "callers without credentials may read; API keys count", id="reading for all"
        ),
        pytest.param(
            {"oidc": {"jwks_uri": "http://127.0.0.1:9/jwks"}},
            False,
            "cannot be fetched",
            id="a provider that is not there",
        ),
    ],
)
def test_a_trial_says_who_may(tmp_path: Path, access: dict[str, Any], ok: bool, words: str) -> None:
    outcome = Command(tmp_path, access=access)("-t")
    assert outcome.exit_code == (0 if ok else 1)
    (line,) = [line for line in outcome.stdout.splitlines() if "access: " in line]
    assert line.startswith("ok" if ok else "WRONG")
    assert words in line


def test_a_trial_says_whether_people_can_log_in(tmp_path: Path) -> None:
    with running_provider() as provider:
        oidc = {"issuer": provider.issuer, "client_id": "web"}
        command = Command(tmp_path, access={"oidc": oidc, "secret": "a secret of the tests"})
        assert "people log in at /login" in command("-t").stdout
        provider.endpoints = ("userinfo",)
        outcome = command("-t")
    assert outcome.exit_code == 1
    assert "nobody can log in: the discovery document names no authorization_endpoint" in outcome.stdout


@pytest.mark.parametrize(("status", "ok"), [(200, True), (404, True), (405, False), (503, False)])
def test_a_trial_says_whether_the_cache_in_front_accepts_purges(tmp_path: Path, status: int, ok: bool) -> None:
    with running_provider() as front:
        front.status = status
        command = Command(tmp_path, purge={"url": front.issuer, "method": "POST", "body": "{name}"})
        outcome = command("-t")
    assert outcome.exit_code == (0 if ok else 1)
    assert ("ok     purges: " if ok else "WRONG  purges: ") in outcome.stdout


@pytest.mark.parametrize(("text", "ok"), [("© Museum", True), ("Musée", False)])
def test_a_trial_says_whether_the_watermark_can_be_drawn(tmp_path: Path, text: str, ok: bool) -> None:
    outcome = Command(tmp_path, access={"anonymous": "read", "anonymous_limits": {"watermark": {"text": text}}})("-t")
    assert outcome.exit_code == (0 if ok else 1)
    assert ("ok     watermark: " if ok else "WRONG  watermark: ") in outcome.stdout


@pytest.mark.parametrize(
    ("listen", "access", "warned"),
    [
        ("127.0.0.1:5000", {}, False),
        ("[::1]:5000", {}, False),
        ("localhost:5000", {}, False),
        ("0.0.0.0:5000", {}, True),
        ("images.example.org:5000", {}, True),
        ("0.0.0.0:5000", {"anonymous": "write"}, False),
        ("0.0.0.0:5000", {"anonymous": "read"}, False),
    ],
)
def test_a_start_beyond_loopback_warns_that_everything_is_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, listen: str, access: dict[str, Any], warned: bool
) -> None:
    config = replace(embedded(tmp_path), listen=listen, access=AccessConfiguration(**access), create_new=True)
    startup.prepare(config)
    assert any("may read, write and delete" in record.getMessage() for record in caplog.records) is warned


def test_a_test_run_leaves_swift_alone(tmp_path: Path) -> None:
    credentials = {"authurl": "http://127.0.0.1:1/auth/v1.0", "username": "u", "password": "p"}
    store = {"kind": "swift", "credentials": credentials, "path": str(tmp_path / "originals")}
    outcome = Command(tmp_path, persistent_store_configuration=store)("-Tt")
    assert (outcome.exit_code, str(tmp_path / "originals") in outcome.stdout) == (0, True)


# -- put ------------------------------------------------------------------------------------


def test_a_tree_is_uploaded_once(command: Command) -> None:
    files = {"a.jpg": jpeg(), "b/c.png": pictures.png(pictures.photo(60, 40)), "b/.hidden.jpg": jpeg()}
    first = command.puts(files, "--prefix", "sites/one")
    assert first.exit_code == 0, first.output
    assert "2 stored, 0 there already, 0 no pictures, 0 failed." in first.stdout
    assert (command.folder / "originals/sites/one/b/c.png").read_bytes() == files["b/c.png"]
    again = command.puts({"d.jpg": jpeg(90, 60)}, "--prefix", "sites/one")
    assert "1 stored, 2 there already" in again.stdout


def test_a_file_that_has_changed_is_uploaded_again(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    assert "1 stored, 0 there already" in command.puts({"a.jpg": jpeg(90, 60)}).stdout


def test_files_that_are_no_pictures_are_named_and_no_failure(command: Command) -> None:
    outcome = command.puts({"a.jpg": jpeg(), "notes.txt": b"not a picture"})
    assert outcome.exit_code == 0
    assert "notes.txt: is no picture" in outcome.stderr
    assert "1 stored, 0 there already, 1 no pictures" in outcome.stdout


def test_what_fails_is_named_and_the_rest_goes_on(command: Command) -> None:
    outcome = command.puts({"a.jpg": jpeg(), "broken.jpg": jpeg()[:-3000], "a.png": pictures.png()})
    assert outcome.exit_code == 1
    assert "broken.jpg: " in outcome.stderr
    assert "has the same name as a." in outcome.stderr
    assert "1 stored, 0 there already, 0 no pictures, 2 failed." in outcome.stdout


# -- get, link, purge -------------------------------------------------------------------------


def test_a_picture_is_got_as_the_parameters_say(command: Command) -> None:
    command.puts({"a.jpg": jpeg(gps=True)})
    out = command.folder / "out.png"
    outcome = command("get", "a", "xsize=30", "kind=png", "-o", out)
    assert outcome.exit_code == 0, outcome.output
    image = pictures.load(out.read_bytes())
    assert (image.format, image.size) == ("PNG", (30, 20))


def test_the_command_line_may_have_the_original(command: Command) -> None:
    body = jpeg(gps=True)
    command.puts({"a.jpg": body})
    assert command("get", "a", "kind=original").stdout_bytes == body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "nothing", "-o", "x"], "There is no such image: There is no image 'nothing'."),
        (["get", "a", "xsiz=3", "-o", "x"], "There is no parameter 'xsiz'. Did you mean xsize?"),
        (["get", "../a", "-o", "x"], "No part of a name may begin with a dot"),
        (["purge", "nothing"], "There is no image 'nothing'."),
    ],
)
def test_what_cannot_be_got_is_told_in_words(command: Command, arguments: list[str], message: str) -> None:
    command.puts({"a.jpg": jpeg()})
    outcome = command(*arguments)
    assert (outcome.exit_code, message in outcome.stderr) == (1, True), outcome.output
    assert "Traceback" not in outcome.output


def test_renditions_are_purged_and_originals_stay(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "b/c.jpg": jpeg()})
    for name in ("a", "b/c"):
        command("get", name, "xsize=30", "-o", command.folder / "out")
    assert re.search(r"^1 looked at; removed: .*1 from disk", command("purge", "b/").stdout)
    assert re.search(r"^1 looked at; removed: .*1 from disk", command("purge", "a").stdout)
    assert command("purge", "a").stdout == "1 looked at; removed: nothing.\n"
    assert command("check").stdout.startswith("2 images, 2 records")


def test_what_will_be_asked_for_is_made_ahead(tmp_path: Path) -> None:
    command = Command(tmp_path, presets={"card": {"xsize": 40}, "dot": {"thumbnail": True}})
    command.puts({"a.jpg": jpeg(), "b/c.jpg": jpeg(), "b/d.jpg": jpeg()})
    outcome = command("warm", "b/", "--preset", "card", "--preset", "dot")
    assert (outcome.exit_code, outcome.stdout) == (0, "4 made, 0 there already, 0 failed.\n")
    assert command("warm", "", "xsize=40").stdout == "1 made, 2 there already, 0 failed.\n"
    (tmp_path / "originals" / "bad.jpg").write_bytes(b"no picture")
    failed = command("warm", "--preset", "card")
    assert failed.exit_code == 1
    assert "bad: " in failed.stderr
    wrong = command("warm", "b/", "--preset", "nope")
    assert (wrong.exit_code, "card, dot" in wrong.stderr) == (1, True)


@pytest.mark.servers
def test_a_link_is_answered_by_the_server(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    url = command("link", "a", "xsize=30", "--lifetime", "100").stdout.strip()
    assert url.startswith(f"http://{commands.listens_on(command.config)}/temp/")
    with commands.serving(command.config):
        assert pictures.load(requests.get(url, timeout=30).content).size == (30, 20)


def test_a_link_may_not_hold_longer_than_the_settings_allow(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    assert command("link", "a", "--lifetime", "700000").exit_code == 2


# -- link-key -----------------------------------------------------------------------------------


def test_a_new_key_is_set_and_shown_only_when_asked(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    before = command("link", "a").stdout
    refused = command("link-key", "--show")
    assert (refused.exit_code, command("link", "a").stdout) == (1, before), "links that are out there go on working"
    outcome = command("link-key", "--show", "--force")
    assert outcome.exit_code == 0
    key = outcome.stdout.splitlines()[-1]
    assert len(key) >= 32
    assert command("link", "a").stdout != before
    silent = command("link-key", "--second", "--force", "-V", "-l", command.folder / "log")
    assert silent.exit_code == 0
    key_texts = [path.read_text() for path in (command.folder / "originals").rglob("url_key*")]
    assert key in key_texts
    assert not any(text in silent.output + (command.folder / "log").read_text() for text in key_texts)


# -- check ----------------------------------------------------------------------------------------


def test_a_sound_repository_is_all_right(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "b.png": pictures.png()})
    outcome = command("check")
    assert (outcome.exit_code, outcome.stdout) == (0, "2 images, 2 records, 0 other objects.\n")


def test_bytes_that_are_not_what_was_uploaded_are_found(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "b.jpg": jpeg()})
    original = command.folder / "originals/a.jpg"
    before = original.stat()
    body = bytearray(original.read_bytes())
    body[len(body) // 2] ^= 1
    original.write_bytes(body)
    os.utime(original, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = command("check")
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("a.jpg: ")
    assert "b.jpg" not in outcome.stdout


def test_two_originals_of_one_name_and_lost_records_are_found(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "gone.jpg": jpeg(90, 60)})
    originals = command.folder / "originals"
    (originals / "a.png").write_bytes(pictures.png())
    (originals / "gone.jpg").unlink()
    outcome = command("check")
    assert outcome.exit_code == 1
    assert "a: has more than one original: a.png is the image, not a.jpg\n" in outcome.stdout
    assert "gone.json: a record without an original\n" in outcome.stdout
    assert Record.load((originals / record_key("gone")).read_bytes()).name == "gone"


def test_pictures_whose_names_nobody_could_ask_for_are_told_escaped(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    originals = command.folder / "originals"
    for key in ("back\\slash.jpg", "red\x1b[31m.png", ".hidden.jpg", "notes\n.txt"):
        (originals / key).write_bytes(jpeg())
    (originals / "new\nline.json").write_bytes(Record.description("new\nline", {}).dump())
    outcome = command("check")
    assert outcome.exit_code == 1
    assert outcome.stdout.splitlines() == [
        f"{escaped}: no name that an image can have"
        for escaped in (r"'back\\slash.jpg'", r"'new\nline.json'", r"'red\x1b[31m.png'")
    ] + ["1 images, 1 records, 1 other objects."]


def test_a_description_whose_picture_is_still_to_come_is_nothing_wrong(command: Command) -> None:
    command.puts({"a.jpg": jpeg()})
    # As another tool would copy it: nothing but the file tells that it is a record.
    (command.folder / "originals/later.json").write_bytes(Record.description("later", {"site": "Bern"}).dump())
    outcome = command("check")
    assert (outcome.exit_code, outcome.stdout) == (0, "1 images, 2 records, 0 other objects.\n")


# -- as a program -----------------------------------------------------------------------------------


def test_the_command_runs_as_a_module_and_imports_neither_flask_nor_swift_before_they_are_needed(
    tmp_path: Path,
) -> None:
    outcome = commands.run("-Yt", cwd=tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, dump(Config()), "")
    look = (
        "import sys, image_repo.cli.exchange, image_repo.cli.main, image_repo.cli.pictures, image_repo.server.uwsgi;"
        "print({'flask', 'uwsgi', 'pyuwsgi', 'image_repo.wsgi', 'swiftclient', 'keystoneauth1'} & {*sys.modules})"
    )
    completed = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert completed.stdout == "set()\n"


def test_a_warning_at_the_start_ends_an_intolerant_server(tmp_path: Path) -> None:
    config = commands.configure(tmp_path, local_cache_configuration={"cache_path": str(tmp_path / "file")})
    (tmp_path / "file").write_text("no folder")
    outcome = commands.run("-i", "-y", config)
    assert outcome.returncode == 1
    assert "-i allows no warnings" in outcome.stderr
    assert "there is no disk cache" in outcome.stderr


def test_a_quiet_verb_reports_no_progress(command: Command) -> None:
    outcome = command.puts({"a.jpg": jpeg()}, "-q")
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "", "")


def test_a_verb_lists_its_own_options_before_the_common_ones() -> None:
    text = CliRunner().invoke(main, ["put", "--help"]).stdout
    assert text.index("--prefix") < text.index("--yaml-config")


# -- files, dry runs, mistakes ------------------------------------------------------------------


def test_files_are_uploaded_under_their_names(command: Command) -> None:
    for name in ("one.jpg", "two.jpg"):
        (command.folder / name).write_bytes(jpeg())
    outcome = command("put", command.folder / "one.jpg", command.folder / "two.jpg", "--prefix", "sites")
    assert (outcome.exit_code, outcome.stdout) == (0, "2 stored, 0 there already, 0 no pictures, 0 failed.\n")
    assert (command.folder / "originals/sites/one.jpg").exists()


def test_a_named_file_that_is_no_picture_is_a_failure(command: Command) -> None:
    (command.folder / "notes.txt").write_text("text")
    outcome = command("put", command.folder / "notes.txt")
    assert (outcome.exit_code, "notes.txt: " in outcome.stderr) == (1, True)


def test_a_dry_run_of_an_upload_stores_nothing_and_names_what_fails(command: Command) -> None:
    outcome = command.puts({"a.jpg": jpeg(), "broken.jpg": jpeg()[:100], "notes.txt": b"text"}, "--dry-run")
    assert "1 to store, 0 there already, 1 no pictures, 1 failed." in outcome.stdout
    assert command("check").stdout == "0 images, 0 records, 0 other objects.\n"


def test_warm_adds_the_hash_to_records_that_lack_it_so_that_near_finds_them(command: Command) -> None:
    command.puts({"a.jpg": jpeg(1500, 1000)})
    (command.folder / "originals" / "b.png").write_bytes(pictures.png(pictures.photo(1500, 1000)))
    assert command("rebuild").exit_code == 0
    assert command("ls", "near=a").stdout.split() == ["a"]
    assert command("warm", "", "xsize=30").exit_code == 0
    assert command("ls", "near=a").stdout.split() == ["a", "b"]


def test_near_takes_a_name_in_each_verb_as_over_http(command: Command) -> None:
    photo = pictures.photo(300, 200)
    two, other = {"a.jpg": pictures.jpeg(photo), "b.jpg": pictures.jpeg(photo, quality=50)}, pictures.corners()
    command.puts({**two, "c.png": pictures.png(other)})
    assert command("ls", "near=a").stdout.split() == ["a", "b"]
    assert json.loads(command("stats", "width", "near=a,3", "--json").stdout)["count"] == 2
    assert command("export", "near=b", "-o", command.folder / "near").exit_code == 0
    assert sorted(path.name for path in (command.folder / "near").glob("*.jpg")) == ["a.jpg", "b.jpg"]
    assert command("set", "/", "a=b", "--where", "near=b", "--dry-run").stdout.startswith("2 ")
    refused = command("ls", "near=nobody")
    assert (refused.exit_code, "nobody" in refused.stderr) == (1, True)


def test_a_dry_run_of_warm_and_purge_changes_nothing(command: Command) -> None:
    command.puts({"b/c.jpg": jpeg(), "b/d.jpg": jpeg()})
    assert command("warm", "b/", "xsize=30", "--dry-run").stdout == "1 renditions of each of 2 images to make.\n"
    assert command("warm", "b/", "xsize=30").stdout == "2 made, 0 there already, 0 failed.\n"
    assert command("purge", "b/", "--dry-run").stdout == "2 images to purge.\n"
    assert command("warm", "b/", "xsize=30").stdout == "0 made, 2 there already, 0 failed.\n"


def test_a_dry_run_of_an_import_reports_what_would_change(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "b.jpg": jpeg(90, 60)})
    folder = command.folder / "more"
    folder.mkdir()
    for name, body in (("a.jpg", jpeg()), ("b.jpg", jpeg(60, 60)), ("c.jpg", jpeg()), ("d.txt", b"text")):
        (folder / name).write_bytes(body)
    (folder / "metadata.jsonl").write_text('{"file_name": "c.jpg", "species": "fox"}\n{"name": "d", "data": {}}\n')
    outcome = command("import", folder, "--dry-run")
    assert outcome.stdout == (
        "Nothing is changed; it would be: 2 stored, 1 replaced, 1 unchanged, 1 skipped, 0 failed.\n"
    )
    assert command("check").stdout.startswith("2 images, 2 records")
    assert command("import", folder).stdout == "2 stored, 1 replaced, 1 unchanged, 1 skipped, 0 failed.\n"


@pytest.mark.parametrize(
    "verb", [["put", "tree"], ["import", "tree"], ["warm", "", "xsize=30"]], ids=lambda one: one[0]
)
def test_a_store_that_cannot_be_reached_is_one_message(tmp_path: Path, verb: list[str]) -> None:
    credentials = {"authurl": "http://127.0.0.1:1/auth/v1.0", "username": "u", "password": "p"}
    store = {"kind": "swift", "credentials": credentials, "connect_timeout": 1, "timeout": 1}
    command = Command(tmp_path, persistent_store_configuration=store)
    (tmp_path / "tree").mkdir()
    for number in range(5):
        (tmp_path / "tree" / f"{number}.jpg").write_bytes(jpeg(40 + number, 40))
    outcome = command("-C", verb[0], *(str(tmp_path / word) if word == "tree" else word for word in verb[1:]))
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("The store cannot be asked at the moment")
    assert len(outcome.stderr.splitlines()) == 1


def test_a_wrong_preset_is_found_before_the_first_image(command: Command) -> None:
    command.puts({f"{number}.jpg": jpeg(40 + number, 40) for number in range(3)})
    outcome = command("warm", "--preset", "nope")
    assert (outcome.exit_code, len(outcome.stderr.splitlines())) == (1, 1)


def test_a_reason_that_many_files_share_is_printed_for_the_first_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_failures([(f"{number:03}.jpg", "is broken") for number in range(500)] + [("z.jpg", "is too large")])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert (lines[0], lines[-2:]) == ("000.jpg: is broken", ["… and 480 more: is broken", "z.jpg: is too large"])


# -- exporting into a folder --------------------------------------------------------------------


def test_an_export_never_mixes_with_what_a_folder_holds(command: Command) -> None:
    command.puts({"a.jpg": jpeg(), "b.jpg": jpeg()})
    folder = command.folder / "out"
    assert command("export", "-o", folder).exit_code == 0
    command("rm", "a")
    refused = command("export", "-o", folder)
    assert (refused.exit_code, "--force" in refused.stderr) == (1, True)
    assert command("export", "-o", folder, "--force").exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["b.jpg", "metadata.jsonl"]
    assert not list(command.folder.glob(".part-*"))


def test_a_folder_that_is_no_export_is_not_replaced(command: Command) -> None:
    (command.folder / "mine").mkdir()
    (command.folder / "mine" / "letter.txt").write_text("dear")
    outcome = command("export", "-o", command.folder / "mine", "--force")
    assert (outcome.exit_code, (command.folder / "mine" / "letter.txt").read_text()) == (1, "dear")


@pytest.mark.parametrize(
    ("verb", "output"), [("export", "nowhere/a.zip"), ("export", "file/folder"), ("get", "nowhere/a.jpg")]
)
def test_an_output_that_cannot_be_written_is_named_with_the_reason(command: Command, verb: str, output: str) -> None:
    command.puts({"a.jpg": jpeg()})
    (command.folder / "file").write_text("no folder")
    outcome = command("-C", verb, *(["a"] if verb == "get" else []), "-o", command.folder / output)
    assert outcome.exit_code == 1
    assert re.search(
        rf"^{re.escape(str(command.folder))}/\S+: (No such file|Not a directory|File exists)", outcome.stderr, re.M
    )
    assert "Errno" not in outcome.stderr
    assert "part-" not in outcome.stderr
