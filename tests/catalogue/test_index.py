"""The catalogue's engines."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from index_contract import IndexContract, Opener
from psycopg import connect
from servers.ports import free_port

from image_repo.catalogue.base import Indexed, Row
from image_repo.catalogue.cursor import Order, Place
from image_repo.catalogue.engines import open_index as opened
from image_repo.catalogue.index import Index
from image_repo.catalogue.planner import QueryPlan
from image_repo.catalogue.query import Condition, Filter, SortKey
from image_repo.catalogue.sqlite import driver
from image_repo.errors import CatalogueUnavailable, ConfigurationError, QueryTooSlow

_numbers = itertools.count()


def _openers(url: str, own: str) -> Iterator[Opener]:
    with ExitStack() as stack:

        def opener(collection: str, scope: str = "test", **given: float) -> Index:
            index = opened(url, None, collection=collection, scope=scope + own, **given)  # type: ignore[arg-type]
            return stack.enter_context(closing(index))

        yield opener


class TestSqlite(IndexContract):
    @pytest.fixture
    def open_index(self, tmp_path: Path) -> Iterator[Opener]:
        yield from _openers(f"sqlite:///{tmp_path}/index.sqlite", "")


@pytest.mark.servers
class TestPostgres(IndexContract):
    @pytest.fixture
    def open_index(self, postgres: str) -> Iterator[Opener]:
        yield from _openers(postgres, f" of test {next(_numbers)}")

    def test_nodes_that_start_at_once(self, postgres: str) -> None:
        """The first makes the tables, the others wait for it."""
        scope = f"of test {next(_numbers)}"
        script = _SCRIPT.format(url=postgres, scope=scope)
        nodes = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(4)]
        assert [node.wait(60) for node in nodes] == [0] * 4
        with closing(opened(postgres, None, collection="images", scope=scope)) as index:
            assert index.count(Filter()) == 4 * 20

    def test_a_server_that_does_not_answer(self, open_index: Opener, postgres: str) -> None:
        """It holds still, as a node does whose memory is gone: whoever asks is told so in time."""
        index = open_index("images", timeout=1.0)
        index.put([Row("x", {"name": "x"}, "1")])
        with connect(postgres, autocommit=True) as connection:
            (backend,) = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'image_repo' AND pid <> pg_backend_pid() "
                "ORDER BY state_change DESC LIMIT 1"
            ).fetchone()
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises((CatalogueUnavailable, QueryTooSlow)):
                index.count(Filter())
        finally:
            os.kill(backend, signal.SIGCONT)
        assert index.count(Filter()) == 1

    def test_nobody_is_there(self, open_index: Opener) -> None:
        url = f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"
        with closing(opened(url, None, collection="images", scope="x", timeout=2)) as index:
            with pytest.raises(CatalogueUnavailable):
                index.count(Filter())
            with pytest.raises(CatalogueUnavailable):
                index.put([Row("x", {"name": "x"}, "1")])
            assert "secret" not in index.description

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_a_database_of_another_encoding_is_refused(self, postgres: str, encoding: str) -> None:
        name = f"encoded_{encoding.lower()}"
        with connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        url = f"{postgres.rpartition('/')[0]}/{name}"
        with closing(opened(url, None, collection="images", scope="x")) as index:
            with pytest.raises(CatalogueUnavailable, match=f"has the encoding {encoding}; expected UTF8: createdb"):
                index.count(Filter())
            with pytest.raises(CatalogueUnavailable):
                index.put([Row("x", {"name": "x"}, "1")])

    def test_tables_that_are_taken_away_come_back(self, open_index: Opener, postgres: str) -> None:
        index = open_index("images")
        index.put([Row("x", {"name": "x"}, "1")])
        schema = index._dialect.tables.documents.schema  # type: ignore[attr-defined]
        with connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
        with pytest.raises(CatalogueUnavailable):
            index.count(Filter())
        assert index.count(Filter()) == 0

    def test_who_writes_too_long_is_not_waited_for(self, open_index: Opener) -> None:
        index = open_index("images", timeout=1.0)
        index.put([Row("x", {"name": "x"}, "1")])
        with index._dialect.writing(), pytest.raises(CatalogueUnavailable):  # type: ignore[attr-defined]
            index.put([Row("y", {"name": "y"}, "1")])
        index.put([Row("y", {"name": "y"}, "1")])


class TestSqliteFile:
    """What happens to a file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "deep" / "index.sqlite"

    @pytest.fixture
    def index(self, path: Path) -> Iterator[Index]:
        with closing(opened(f"sqlite:///{path}", None, collection="images", scope="x", timeout=2.0)) as index:
            index.put(_rows(300))
            yield index

    def test_it_is_private(self, index: Index, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (index.shared, str(path) in index.description) == (False, True)

    def test_deleted_while_it_is_used_it_is_made_anew(self, index: Index, path: Path) -> None:
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        assert index.count(Filter()) == 0
        index.put(_rows(3))
        assert index.count(Filter()) == 3

    @pytest.mark.parametrize("where", ["at its head", "in the middle", "all of it"])
    def test_a_damaged_one_is_moved_aside(
        self, index: Index, path: Path, where: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        index.close()
        size = path.stat().st_size
        first, last = {"at its head": (0, 4096), "in the middle": (8192, size), "all of it": (0, size)}[where]
        with path.open("r+b") as file:
            file.seek(first)
            file.write(b"\xa5" * (last - first))
        with pytest.raises(CatalogueUnavailable):
            list(index.each(Filter()))
        index.check()
        assert index.count(Filter()) == 0
        index.put(_rows(2))
        assert index.count(Filter()) == 2
        assert path.with_name(path.name + ".damaged").exists()
        assert "moved aside" in caplog.text

    def test_a_sound_one_is_left_alone(self, index: Index) -> None:
        index.check()
        assert index.count(Filter()) == 300

    def test_locked_by_somebody_else(self, index: Index, path: Path) -> None:
        with closing(driver.connect(str(path), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(CatalogueUnavailable):
                index.put(_rows(1))
        index.put(_rows(301))
        assert index.count(Filter()) == 301

    def test_a_query_that_takes_too_long(self, path: Path) -> None:
        with closing(opened(f"sqlite:///{path}", None, collection="images", scope="x", timeout=0.05)) as index:
            index.put(Row(f"{n}", {"name": f"{n}", "data": {"a": list(range(300))}}, "") for n in range(3_000))
            with pytest.raises(QueryTooSlow):
                index.count(Filter((Condition(("data", "a"), "eq", (-1,)),)))
            assert len(index.names()) == 1_000

    def test_a_slow_query_says_what_would_help(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with closing(opened(f"sqlite:///{path}", None, collection="images", scope="x", slow=0.0)) as index:
            index.put(_rows(2))
            index.add_index(Indexed(("data", "b")))
            index.count(Filter((Condition(("data", "a"), "eq", (1,)), Condition(("data", "b"), "eq", (1,)))))
        assert "image_repo index data.a" in caplog.text
        assert "image_repo index data.b" not in caplog.text

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with closing(opened(f"sqlite:///{tmp_path}/full", None, collection="images", scope="x")) as index:
            index.put(_rows(10))
            with index._dialect.reading() as connection:  # type: ignore[attr-defined]
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 8}")
            with pytest.raises(CatalogueUnavailable):
                index.put(_rows(3_000))
            assert index.count(Filter()) == 10
            index.check()
            assert index.count(Filter()) == 10

    def test_a_place_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        index = opened(f"sqlite:///{tmp_path}/file/index", None, collection="images", scope="x")
        with closing(index), pytest.raises(CatalogueUnavailable):
            index.check()

    def test_processes_that_write_at_once(self, path: Path, index: Index) -> None:
        script = _SCRIPT.format(url=f"sqlite:///{path}", scope="x")
        writers = [subprocess.Popen([sys.executable, "-c", script, str(number)]) for number in range(2)]
        assert [writer.wait(60) for writer in writers] == [0, 0]
        assert index.count(Filter()) == 300 + 2 * 20

    def test_a_writer_that_is_killed(self, path: Path, index: Index) -> None:
        """What it had told is there, and nothing is damaged."""
        acknowledged = 0
        for number in range(4):
            command = [sys.executable, "-c", _ENDLESS.format(url=f"sqlite:///{path}", number=number)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
                assert writer.stdout
                for _ in range(10 + 7 * number):
                    assert writer.stdout.readline()
                    acknowledged += 1
                writer.kill()
                acknowledged += len(writer.stdout.readlines())
        with index._dialect.reading() as connection:  # type: ignore[attr-defined]
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert 300 + acknowledged <= index.count(Filter()) <= 300 + acknowledged + 4
        seven = (Condition(("data", "b"), "eq", ("seven",)),)
        assert index.count(Filter(seven)) == index.count(Filter(words=("seven",)))

    def test_a_fork_takes_connections_of_its_own(self, index: Index) -> None:
        script = (
            "import os, sys\n"
            "from image_repo.catalogue.base import Row\n"
            "from image_repo.catalogue.engines import open_index\n"
            "from image_repo.catalogue.query import Filter\n"
            "index = open_index('sqlite:///' + sys.argv[1], None, collection='images', scope='x')\n"
            "assert index.count(Filter()) == 300\n"
            "child = os.fork()\n"
            "index.put([Row(str(os.getpid()), {'name': str(os.getpid())}, '')])\n"
            "if not child: os._exit(0)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "assert index.count(Filter()) == 302\n"
        )
        path = index.description.removeprefix("SQLite in ")
        assert subprocess.run([sys.executable, "-c", script, path], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://host/x", "expected postgresql"),
        ("nonsense", "expected postgresql"),
        ("sqlite://", "path of a file"),
        ("sqlite:///:memory:", "path of a file"),
    ],
)
def test_a_url_that_is_none(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        opened(url, None, collection="images", scope="x")


def test_facts_are_found_along_an_index(tmp_path: Path) -> None:
    """SQLite goes along the facts and sorts nothing: else page 10,000 would cost more than page 1."""
    with closing(opened(f"sqlite:///{tmp_path}/x", None, collection="images", scope="x")) as index:
        index.add_index(Indexed(("data", "a"), ("uploaded",)))
        index.put(_rows(20))
        with index._dialect.reading() as connection:  # type: ignore[attr-defined]
            plan_builder = QueryPlan(connection, index._dialect, Filter((Condition(("data", "a"), "eq", (7,)),)))  # type: ignore[attr-defined]
            (walk,) = plan_builder.walks(Order((SortKey(("uploaded",)),), False))
            statement = walk.ordered(plan_builder._on(walk, walk.name)).where(walk.behind(Place((b"\x05x",), "y")))
            text = str(statement.compile(connection, compile_kwargs={"literal_binds": False}))
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN " + text, tuple(statement.compile(connection).params.values())
            ).all()
        plan_text = " ".join(str(line[-1]) for line in plan)
        assert "USING PRIMARY KEY (key=? AND value=? AND sort>?" in plan_text
        assert "TEMP B-TREE" not in plan_text


def _rows(number: int) -> list[Row]:
    return [Row(f"{n:04}", {"name": f"{n:04}", "data": {"a": n % 10}}, "1") for n in range(number)]


_SCRIPT = """
import sys
from image_repo.catalogue.base import Row
from image_repo.catalogue.engines import open_index
index = open_index({url!r}, None, collection="images", scope={scope!r})
for n in range(20):
    name = sys.argv[1] + "/" + str(n)
    index.put([Row(name, {{"name": name}}, "")])
"""
_ENDLESS = """
import itertools
from image_repo.catalogue.base import Row
from image_repo.catalogue.engines import open_index
index = open_index({url!r}, None, collection="images", scope="x")
for n in itertools.count():
    name = "{number}/" + str(n)
    index.put([Row(name, {{"name": name, "data": {{"a": 7, "b": "seven"}}}}, "")])
    print(n, flush=True)
"""
