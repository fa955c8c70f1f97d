"""Connections that write a shared index."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from indexer.errors import IndexFileError
from indexer.postgresql import CONNECTION, address, driver
from indexer.queries.shared_index import SCHEMA

if TYPE_CHECKING:
    import psycopg


_SETTINGS = f"""
SET search_path TO {SCHEMA}; SET lock_timeout TO '60s'; SET idle_in_transaction_session_timeout TO '600s'
"""


@contextmanager
def connected(url: str) -> "Iterator[psycopg.Connection[Any]]":
    """A connection. Raises IndexFileError, which reveals only host, port and database of the URL."""
    place = address(url)
    if place.dsn is None:
        raise IndexFileError(place.missing)
    psycopg = driver()
    try:
        with psycopg.connect(place.dsn, application_name="indexer publish", **CONNECTION) as connection:
            connection.execute(_SETTINGS.encode())
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.InsufficientPrivilege) as error:
        raise IndexFileError(f"{place.place}: {place.told(error)}") from None
