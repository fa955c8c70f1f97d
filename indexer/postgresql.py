"""PostgreSQL connection strings and what may be shown of them; the driver, an optional extra."""

import logging
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from indexer.errors import SourceError
from indexer.masking import error_line

CONNECTION: dict[str, Any] = {
    "client_encoding": "utf8", "connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000,
    "prepare_threshold": None, "autocommit": True,
}  # fmt: skip
"""How connections are made, by the parameters of libpq and psycopg."""
_NOT_UNDERSTOOD = (
    "this is not a PostgreSQL connection string; in a URI, special characters of a password are "
    "written as %2F, %40 and so on"
)


def without_nul(value: Any) -> Any:
    """A value as PostgreSQL stores it: a text has no NUL."""
    return value.replace("\0", "\ufffd") if type(value) is str and "\0" in value else value


def driver() -> ModuleType:
    """psycopg. Raises SourceError where it is not installed."""
    try:
        import psycopg
    except ImportError:
        raise SourceError("psycopg is missing: pip install 'eval-indexer[postgres]'") from None
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # it logs the user it connects as
    return psycopg


@dataclass(frozen=True, slots=True)
class Address:
    """A connection string (`dsn`, never shown) and the parts that people may see.

    `place` has host, port and database. `dsn` is None where it cannot be used, and `missing` says why.
    """

    dsn: str | None
    place: str
    missing: str = ""
    has_password: bool = False
    secrets: tuple[str, ...] = ()

    def told(self, error: Exception) -> str:
        """An error of the server or driver, as one line without secrets."""
        return error_line(str(error), list(self.secrets)) or type(error).__name__


def address(dsn: str) -> Address:
    """The address in a connection string or URI; nothing is shown of one that cannot be parsed."""
    try:
        psycopg = driver()
    except SourceError as error:
        return Address(None, "a database", str(error))
    try:
        parts = _understood(psycopg.conninfo.conninfo_to_dict(dsn))
    except (psycopg.Error, UnicodeError):
        parts = None
    if parts is None:
        return Address(None, "a database", _NOT_UNDERSTOOD)
    where = parts.get("host", "") + (f":{parts['port']}" if "port" in parts else "")
    passwords = [text for name, text in parts.items() if "password" in name]
    secrets = tuple(text for text in (dsn, *passwords) if text)
    return Address(dsn, f"postgresql://{where}/{parts.get('dbname', '')}", "", bool(passwords), secrets)


def _understood(parts: dict[str, Any]) -> dict[str, Any] | None:
    """The parts of a connection string; None if a password may have slipped into one of them."""
    plain = {"host": r"[^@:]*|[0-9a-fA-F:,]*", "port": r"[\d,]*", "dbname": r"[^@:/]*"}
    return parts if all(re.fullmatch(form, str(parts.get(name, ""))) for name, form in plain.items()) else None
