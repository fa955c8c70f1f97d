"""The one connection to an agentevals database: persistent, read-only, and cut when the server falls silent."""

import math
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from indexer.errors import SourceError
from indexer.postgresql import CONNECTION, Address, address, driver

if TYPE_CHECKING:
    import psycopg

SCHEMA = "agentevals"
MIGRATIONS = range(1, 3)
"""Known schema versions of agentevals."""
PATIENCE = 5.0
"""Seconds of silence after which a server is cut off; another thread may hold the connection twice as long."""
LONGEST = 300.0
"""Seconds that one statement may take."""

_SETTINGS = f"""
SELECT set_config('search_path', quote_ident(%s), true), set_config('datestyle', 'ISO', true),
       set_config('statement_timeout', '{LONGEST:.0f}s', true), set_config('lock_timeout', '2s', true),
       set_config('idle_in_transaction_session_timeout', '600s', true), set_config('work_mem', '64MB', true)
"""


class Database:
    """One schema of a PostgreSQL database. `dsn` is a connection string or URI; None if it is not known.

    `missing` then says why. The `dsn` is never shown; `place` has host, port and database for people.
    """

    def __init__(self, dsn: str | None, schema: str = SCHEMA, missing: str = ""):
        self._address = Address(None, "a database", missing) if dsn is None else address(dsn)
        self._schema = schema
        self._connection: psycopg.Connection[Any] | None = None
        self._closing: weakref.finalize[Any, Any] | None = None
        self._using = threading.RLock()
        self._silence, self._deadline = PATIENCE, 0.0
        self.place = self._address.place + ("" if schema == SCHEMA else f", schema {schema}")

    def try_reaching(self) -> bool:
        """Connect, or check that the server still answers; False while a look is using the connection.

        Raises SourceError.
        """
        if not self._using.acquire(blocking=False):
            return False
        try:
            was_open = self._connection is not None
            try:
                self._require_known()
            except SourceError:
                if not was_open or self._connection is not None:
                    raise
                self._require_known()  # the server was restarted since
        finally:
            self._using.release()
        return True

    def _require_known(self) -> None:
        """Raises SourceError unless the tables exist in a known version."""
        with self.transaction() as cursor:
            ((schema, usable),) = cursor.execute(
                "SELECT count(*), coalesce(bool_and(has_schema_privilege(oid, 'usage')), true) "
                "FROM pg_namespace WHERE nspname = %s",
                (self._schema,),
            )
            if not schema:
                raise SourceError(f"{self.place} cannot be read: there is no schema {self._schema}")
            if not usable:
                raise SourceError(f"{self.place} cannot be read: the role may not use the schema {self._schema}")
            migrations = cursor.execute("SELECT version, dirty FROM schema_migrations").fetchall()
        if len(migrations) != 1:
            raise SourceError(f"{self.place} has no version of its tables; run agentevals migrate up")
        version, dirty = migrations[0]
        if dirty:
            raise SourceError(f"{self.place} is dirty: its migration {version} failed or has not ended")
        if version not in MIGRATIONS:
            known = f"{MIGRATIONS[0]} to {MIGRATIONS[-1]}"
            raise SourceError(f"{self.place} has tables of version {version}; this program knows {known}")

    @contextmanager
    def transaction(self, silence: float = PATIENCE) -> "Iterator[psycopg.Cursor[Any]]":
        """A cursor in a read-only transaction, with the schema as its search path. Raises SourceError.

        The connection is cut when the server does not answer for `silence` seconds.
        """
        if not self._using.acquire(timeout=2 * PATIENCE):
            raise SourceError(f"{self.place} does not answer")
        ended = threading.Event()
        try:
            self._silence = silence
            self.heard()
            threading.Thread(target=self._end_silence, args=(ended,), daemon=True).start()
            with self._errors():
                connection = self._connected()
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.execute(_SETTINGS, (self._schema,))
                    yield cursor
        finally:
            ended.set()
            self._using.release()

    def busy(self) -> None:
        """Suspend the timeout while an answer is processed: nobody waits for the server."""
        self._deadline = math.inf

    def heard(self) -> None:
        """The server answered: restart the timeout."""
        self._deadline = time.monotonic() + self._silence

    def _end_silence(self, ended: threading.Event) -> None:
        """In a thread: cut the connection to a server that is up but does not answer."""
        while not ended.wait(1.0):
            connection = self._connection
            if connection is not None and time.monotonic() > self._deadline:
                with suppress(OSError, driver().Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)
                return

    def _connected(self) -> "psycopg.Connection[Any]":
        if self._address.dsn is None:
            raise SourceError(self._address.missing)
        psycopg = driver()
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            self._disconnect()
        if self._connection is None:
            connection = psycopg.connect(self._address.dsn, application_name="indexer", **CONNECTION)
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection = connection
            self._closing = weakref.finalize(self, connection.close)
        return self._connection

    def _disconnect(self) -> None:
        self._connection = None
        if self._closing is not None:
            self._closing()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of PostgreSQL or its driver into a SourceError of one line without secrets."""
        psycopg = driver()
        try:
            yield
        except (psycopg.Error, ValueError, NotImplementedError) as error:  # invalid names and texts, odd settings
            if not isinstance(error, psycopg.ProgrammingError):
                self._disconnect()
            if isinstance(error, psycopg.errors.UndefinedTable):
                why = "there are no tables of agentevals; run agentevals migrate up"
            else:
                why = self._address.told(error)
            raise SourceError(f"{self.place} cannot be read: {why}") from None
