"""Reading a shared index in PostgreSQL: the same questions and answers as with a file."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, cast

from indexer.errors import IndexFileError, QueryError
from indexer.postgresql import CONNECTION, address, driver, without_nul
from indexer.queries.engines import postgresql
from indexer.queries.index import Index
from indexer.queries.names import STALE_AFTER
from indexer.queries.select import Row, dicts
from indexer.queries.types import SourceRow
from indexer.store import file

if TYPE_CHECKING:
    import psycopg
    from sqlite_utils import Database

SCHEMA = f"indexer_v{file.SCHEMA}"
"""The schema of this version's tables."""
VERSIONED = "nspname ~ '^indexer_v[0-9]{1,6}$'"
"""SQL: whether a schema is of any version."""
_READ_ONLY = "SET default_transaction_read_only TO on"  # the options of the URL stay its own
_SOURCES = """
SELECT machine, name, kind, place, tip, runs, changed_at, failing_since, error, note, looked_at FROM sources ORDER BY id
"""


class Translating:
    """A connection of psycopg that takes the queries of this package, and gives numbers as SQLite does."""

    def __init__(self, connection: "psycopg.Connection[Any]"):
        self.connection = connection
        _adapt(connection)

    def execute(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> "psycopg.Cursor[Any]":
        text, values = postgresql(query, parameters)
        if isinstance(values, Mapping):
            values = {name: without_nul(value) for name, value in values.items()}
        else:
            values = [without_nul(value) for value in values]
        return self.connection.execute(text.encode(), values)


def _adapt(connection: "psycopg.Connection[Any]") -> None:
    """Load integers beyond 64 bits as such, other exact numbers as floats, conditions as 0 and 1."""
    from psycopg import ClientCursor
    from psycopg.adapt import Buffer, Loader

    class Number(Loader):
        def load(self, data: Buffer) -> int | float:
            text = bytes(data).decode()
            return int(text) if text.lstrip("-").isdigit() else float(text)

    class Flag(Loader):
        def load(self, data: Buffer) -> int:
            return int(bytes(data) == b"t")

    connection.cursor_factory = ClientCursor
    connection.adapters.register_loader("numeric", Number)
    connection.adapters.register_loader("bool", Flag)


class SharedIndex(Index):
    """The index of all machines that publish to one database, opened for reading. Threads may share it.

    `machine_of` names the machine that has a run's files: those on other machines cannot be read here.
    """

    def __init__(self, url: str, zone: tzinfo = UTC, stale_after: int = STALE_AFTER):
        self.zone, self.stale_after = zone, stale_after
        self._address = address(url)
        if self._address.dsn is None:
            raise IndexFileError(self._address.missing)
        self.place = self._address.place
        self._mine = threading.local()
        self._closed = threading.Event()
        try:
            with self._reading():
                pass
        except BaseException:
            self._disconnect()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r}{', closed' if self._closed.is_set() else ''})"

    def _disconnect(self) -> None:
        connection: psycopg.Connection[Any] | None = getattr(self._mine, "connection", None)
        if connection is not None:
            self._mine.connection = None
            connection.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One read transaction, on a connection that takes queries as one of SQLite does."""
        opened: Translating | None = getattr(self._mine, "reading", None)
        if opened is not None:
            yield cast("sqlite3.Connection", opened)
            return
        psycopg = driver()
        try:
            try:
                self._mine.reading = self._begun()
            except IndexFileError:  # its transaction goes with the connection
                self._disconnect()
                raise
            try:
                yield cast("sqlite3.Connection", self._mine.reading)
            finally:
                connection, self._mine.reading = self._mine.reading.connection, None
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
        except psycopg.errors.NumericValueOutOfRange:
            raise QueryError("a sum in the answer is too large for a number") from None
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.FeatureNotSupported,
        ) as error:
            self._disconnect()
            raise IndexFileError(f"{self.place} cannot be read: {self._address.told(error)}") from None

    def _begun(self) -> Translating:
        """A connection in a new transaction; reconnects if it was cut since."""
        psycopg = driver()
        if self._closed.is_set():
            raise IndexFileError(f"{self.place} was closed by this program; open it again")
        if (connection := getattr(self._mine, "connection", None)) is not None:
            try:
                return self._in_transaction(connection)
            except psycopg.OperationalError:
                self._disconnect()
        self._mine.connection = psycopg.connect(self._address.dsn, application_name="indexer", **CONNECTION)
        self._mine.connection.execute(_READ_ONLY)
        return self._in_transaction(self._mine.connection)

    def _in_transaction(self, connection: "psycopg.Connection[Any]") -> Translating:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        versions = "SELECT substr(nspname, 10)::integer FROM pg_namespace WHERE " + VERSIONED
        there = sorted(version for (version,) in connection.execute(versions))
        if file.SCHEMA not in there:
            found = f"; it has {', '.join(map(str, there))}" if there else ""
            raise IndexFileError(f"{self.place} has no index of version {file.SCHEMA}{found}")
        usable = f"SELECT has_schema_privilege('{SCHEMA}', 'usage')"
        if connection.execute(usable.encode()).fetchone() != (True,):
            raise IndexFileError(f"{self.place}: no permission to read the schema {SCHEMA}")
        if connection.execute(f"SELECT to_regclass('{SCHEMA}.shown_runs')".encode()).fetchone() == (None,):
            raise IndexFileError(f"{self.place}: the schema {SCHEMA} is not an index")
        connection.execute(f"SET LOCAL search_path TO {SCHEMA}".encode())
        return Translating(connection)

    def sources(self) -> list[SourceRow]:
        with self._reading() as database:
            return cast("list[SourceRow]", dicts(database, _SOURCES))

    def writer(self) -> Row | None:
        return {"command": "publish"}

    def machine_of(self, key: str) -> str:
        """The machine whose rows of a run are shown: where its files lie."""
        (found,) = self.select("SELECT machine FROM shown_runs WHERE key = ?", key)
        return str(found["machine"])

    @property
    def database(self) -> "Database":
        raise QueryError("a shared index has no SQLite file; ask PostgreSQL itself, for instance with psql")

    def select(self, query: str, *parameters: Any, **named: Any) -> list[Row]:
        psycopg = driver()
        with self._reading() as database:
            try:
                return dicts(database, f"SELECT * FROM (\n{query}\n) AS asked", *parameters, **named)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except (psycopg.Error, LookupError, TypeError, UnicodeEncodeError) as error:
                raise QueryError(f"sql: {self._address.told(error)}") from None
