"""The tables of a shared index, derived from those of a file, so that both have one declaration.

Tables `_sent_*` hold the rows of each machine; of a run that several machines have, one machine's rows are `shown`.
Views with the names of a file's tables have only the shown rows, with internal ids, for the queries of readers. The
schema `indexer` has views for people.
"""

import re
import sqlite3
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, Any

from indexer.errors import IndexFileError
from indexer.queries.shared_index import SCHEMA, VERSIONED
from indexer.store import file, rows

if TYPE_CHECKING:
    import psycopg

VERSION = file.SCHEMA
SETTLED = ("tags", "sha", "added_at", "author")
"""Columns of runs that are decided over all places on all machines."""
OF_RUN = ("trials", "scores", "run_targets", "_repeats", "_errors", "run_tags")
"""Tables whose rows belong to a run; `run_tags` has only the settled tags of shown runs."""
WHOLE = ("sources", "problems", "run_commits")
"""Tables that a machine always sends whole."""
PLACE = ("seconds", "added_author", "wip", "source_rank", "source_position")
"""Columns of a place besides those of a file, needed to rank places."""
_LOCK = 0x69647872  # the advisory lock that is held while tables are created
_MARK = "views of eval-indexer, version"
_TYPES = {"INTEGER": "bigint", "REAL": "double precision", "TEXT": 'text COLLATE "C"'}

_TEXT = 'text COLLATE "C" NOT NULL'

_FUNCTIONS = """
CREATE FUNCTION instr(text, text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT strpos($1, $2)';
CREATE FUNCTION glob(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  $$ SELECT translate(regexp_replace(replace($1, '[[]', '['), '([\\%_])', '\\\1', 'g'), '*?', '%_') $$;
CREATE FUNCTION _counted(bigint, boolean) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  'SELECT CASE WHEN $2 IS NULL THEN $1 ELSE coalesce($1, 0) + $2::integer END';
CREATE FUNCTION _both(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
  'SELECT CASE WHEN $1 IS NULL THEN $2 WHEN $2 IS NULL THEN $1 ELSE $1 + $2 END';
CREATE AGGREGATE sum(boolean) (SFUNC = _counted, STYPE = bigint, COMBINEFUNC = _both, PARALLEL = SAFE);
CREATE AGGREGATE total(double precision) (SFUNC = float8pl, STYPE = double precision, COMBINEFUNC = float8pl,
  INITCOND = '0', PARALLEL = SAFE);
"""
_OWN_TABLES = """
CREATE TABLE _meta (generation text NOT NULL, last_rev bigint NOT NULL, indexed boolean NOT NULL);
INSERT INTO _meta VALUES (md5(random()::text || clock_timestamp()::text), 0, false);
CREATE TABLE _machines (
  machine text COLLATE "C" PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, generation text,
  rev bigint NOT NULL, sources text NOT NULL, rest text NOT NULL, sent_at text NOT NULL, origin text NOT NULL
);
CREATE TABLE _deletions (key text COLLATE "C" PRIMARY KEY, rev bigint NOT NULL, deleted_at text NOT NULL);
CREATE SEQUENCE _ids INCREMENT BY 100000;
CREATE UNIQUE INDEX ON _sent_runs (machine, key);
CREATE UNIQUE INDEX ON _sent_runs (key) WHERE shown;
"""
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (\w+) ON (\w+) (\(.*?\))( WHERE .*)?;?$", re.DOTALL)
_LEFT_OUT = (
    "runs_newest",
    "trials_run",
    "run_tags_run",
    "run_targets_run",
    "scores_trial",
    "repeats_run",
    "deletions_rev",
    "run_commits_run",
)


@cache
def columns(table: str) -> dict[str, str]:
    """The columns of a file's table with their PostgreSQL types, without generated ones."""
    with closing(sqlite3.connect(":memory:")) as database:
        file.run_script(database, "schema.sql")
        found = database.execute(f"PRAGMA table_xinfo({table})").fetchall()
    flags = {"on_boards": "boolean"}
    return {name: flags.get(name, _TYPES[kind]) for _, name, kind, _, _, _, hidden in found if not hidden}


def sent(table: str) -> str:
    """The table that has the rows of all machines."""
    return f"_sent_{table.lstrip('_')}"


def sent_columns(table: str) -> dict[str, str]:
    """The columns of such a table."""
    own = dict(columns(table))
    if table == "runs":
        del own["id"]
        settled = {f"settled_{name}": own[name] for name in SETTLED}
        shown = {"shown": "boolean NOT NULL", "digest": "text NOT NULL"}
        return {"id": "bigint PRIMARY KEY", "machine": _TEXT, **shown, **settled, **own}
    if table in WHOLE:
        more = {"looked_at": "text"} if table == "sources" else {}
        return {"machine": _TEXT, **own, **more}
    own["id"] = "bigint PRIMARY KEY" if table == "trials" else "bigint GENERATED ALWAYS AS IDENTITY"
    if table == "places":
        del own["fingerprint"]
        numbers = {name: "text" if name == "added_author" else "bigint" for name in PLACE}
        return {"machine": _TEXT, **own, **numbers}
    if table == "scores":
        return {"run_pk": "bigint NOT NULL", **own}
    return {"shown": "boolean NOT NULL", **own} if table != "run_tags" else own


def _statements() -> list[str]:
    tables = ("runs", *OF_RUN, "places", *WHOLE)
    made = [
        f"CREATE TABLE {sent(table)} ({', '.join(f'{name} {kind}' for name, kind in sent_columns(table).items())})"
        for table in tables
    ]
    return [*made, _OWN_TABLES, _FUNCTIONS, *_views()]


def _views() -> list[str]:
    """The views that readers query as they query the tables of a file."""
    run = ", ".join(f"settled_{name} AS {name}" if name in SETTLED else name for name in columns("runs"))
    boards = "status IN ('completed', 'failed') AND derived_from IS NULL AS on_boards"
    place = ", ".join(f"p.{name}" for name in columns("places") if name not in ("run_pk", "fingerprint", "id"))
    views = {
        "shown_runs": f"SELECT machine, {run} FROM _sent_runs WHERE shown",
        "runs": f"SELECT {run}, {boards} FROM _sent_runs WHERE shown",
        "scores": f"SELECT {', '.join(columns('scores'))} FROM _sent_scores",
        "run_tags": f"SELECT {', '.join(columns('run_tags'))} FROM _sent_run_tags",
        "places": f"SELECT p.id, r.id AS run_pk, {place} FROM _sent_places p "
        "JOIN _sent_runs r ON r.key = p.run_key AND r.shown",
        "run_commits": "SELECT DISTINCT run_key, repo, sha, committed_at, subject FROM _sent_run_commits",
        "problems": f"SELECT {', '.join(columns('problems'))} FROM _sent_problems",
        "sources": f"SELECT m.number * 1000000 + s.id AS id, s.machine, "
        f"{', '.join(f's.{name}' for name in columns('sources') if name != 'id')}, s.looked_at "
        "FROM _sent_sources s JOIN _machines m USING (machine)",
        "deletions": "SELECT * FROM _deletions",
        "meta": f"SELECT generation, {VERSION} AS schema, '' AS reader, last_rev, 0 AS forgotten_rev FROM _meta",
    }
    for table in ("trials", "run_targets", "_repeats", "_errors"):
        views[table] = f"SELECT {', '.join(columns(table))} FROM {sent(table)} WHERE shown"
    made = [f"CREATE VIEW {name} AS {text}" for name, text in views.items()]
    made.append(f"CREATE VIEW _values (name, value, runs) AS {rows.VALUES.format(SCHEMA)}")
    made.append(f"CREATE VIEW _failures AS {rows.FAILURES.format(SCHEMA)}")
    return made


def _public_views() -> list[str]:
    """The views for people: the tables with the machine, without internal ids."""
    joined = f"JOIN {SCHEMA}.shown_runs r ON r.id = x.run_pk"
    views = {"runs": f"SELECT r.machine, {_listed('runs', 'r', 'id')} FROM {SCHEMA}.shown_runs r"}
    for table in ("trials", "run_targets", "run_tags"):
        own = _listed(table, "x", "id", "run_pk", "run_key")
        views[table] = f"SELECT r.machine, r.key AS run_key, {own} FROM {SCHEMA}.{table} x {joined}"
    views["scores"] = (
        f"SELECT r.machine, r.key AS run_key, t.trial, {_listed('scores', 's', 'id', 'trial_pk')} "
        f"FROM {SCHEMA}.scores s JOIN {SCHEMA}.trials t ON t.id = s.trial_pk "
        f"JOIN {SCHEMA}.shown_runs r ON r.id = t.run_pk"
    )
    views["places"] = (
        f"SELECT x.machine, {_listed('places', 'x', 'id', 'run_pk', 'fingerprint')} FROM {SCHEMA}._sent_places x"
    )
    for table in WHOLE:
        views[table] = f"SELECT x.machine, {_listed(table, 'x', 'id')} FROM {SCHEMA}.{sent(table)} x"
    views["deletions"] = f"SELECT * FROM {SCHEMA}._deletions"
    views["meta"] = f"SELECT * FROM {SCHEMA}.meta"
    return [f"CREATE VIEW indexer.{name} AS {text}" for name, text in views.items()]


def _listed(table: str, alias: str, *left_out: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in columns(table) if name not in left_out)


def _indexes() -> list[str]:
    """The indexes of a file, over the shown rows: cheaper to create after the first rows."""
    listed = {
        "trials": "(run_pk, trial)", "scores": "(run_pk)", "run_targets": "(run_pk)", "run_tags": "(run_pk)",
        "_repeats": "(run_pk)", "_errors": "(run_pk)", "places": "(run_pk)",
    }  # fmt: skip
    made = [f"CREATE INDEX IF NOT EXISTS of_{table} ON {sent(table)} {each}" for table, each in listed.items()]
    made += [
        "CREATE INDEX IF NOT EXISTS deletions_rev ON _deletions (rev)",
        "CREATE INDEX IF NOT EXISTS places_key ON _sent_places (run_key)",
        "CREATE INDEX IF NOT EXISTS scores_of_trial ON _sent_scores (trial_pk)",
    ]
    script = re.sub(r"--[^\n]*", "", file.sql("indexes.sql"))
    for statement in filter(None, map(str.strip, script.split(";"))):
        match = _INDEX.match(" ".join(statement.split()))
        assert match, statement
        unique, name, table, columns_, where = match.groups()
        if name in _LEFT_OUT:
            continue
        if name == "run_targets_board":
            columns_ = "(experiment, target, agent, model, suite, timestamp)"
        shown = table in ("runs", "trials", "run_targets", "_repeats", "_errors")
        condition = " AND ".join(filter(None, ["shown" if shown else "", (where or "").removeprefix(" WHERE ")]))
        where = f" WHERE {condition}" if condition else ""
        made.append(f"CREATE {unique or ''}INDEX IF NOT EXISTS {name} ON {sent(table)} {columns_}{where}")
    made.append("CREATE INDEX IF NOT EXISTS errors_newest ON _sent_errors (timestamp, run_key) WHERE shown")
    return made


def ensure(connection: "psycopg.Connection[Any]") -> None:
    """Create the tables and views if missing. One sender creates them, others wait.

    Raises IndexFileError where the database cannot hold them, or something else is in their place.
    """
    with connection.transaction():
        connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not _has_schema(connection, SCHEMA):
            if connection.execute("SHOW server_encoding").fetchone() != ("UTF8",):
                raise IndexFileError("a shared index needs a database whose encoding is UTF8")
            connection.execute(f"CREATE SCHEMA {SCHEMA}")
            connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
            for statement in _statements():
                connection.execute(statement)
        usage = f"SELECT has_schema_privilege('{SCHEMA}', 'usage')"
        if connection.execute(usage).fetchone() != (True,):
            raise IndexFileError(f"no permission to use the schema {SCHEMA}")
        if connection.execute(f"SELECT to_regclass('{SCHEMA}._meta')").fetchone() == (None,):
            raise IndexFileError(f"the schema {SCHEMA} is not an index of ours")
        _ensure_public_views(connection)


def _ensure_public_views(connection: "psycopg.Connection[Any]") -> None:
    """Make the views for people in the schema `indexer`, for the newest version.

    Raises IndexFileError if somebody else has a schema of this name, which is left alone.
    """
    newest = connection.execute(
        f"SELECT max(substr(nspname, 10)::integer) FROM pg_namespace WHERE {VERSIONED}"
    ).fetchone()
    if newest != (VERSION,):
        return
    if not _has_schema(connection, "indexer"):
        connection.execute("CREATE SCHEMA indexer")
        connection.execute(f"COMMENT ON SCHEMA indexer IS '{_MARK} 0'")
    mark = "SELECT obj_description('indexer'::regnamespace, 'pg_namespace')"
    (said,) = connection.execute(mark).fetchone() or ("",)
    if said == f"{_MARK} {VERSION}":
        return
    if not (said or "").startswith(_MARK):
        raise IndexFileError("the database has a schema named indexer that is not ours; it was left as it is")
    for (view,) in connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'indexer'").fetchall():
        connection.execute(f'DROP VIEW indexer."{view}"'.encode())
    for statement in _public_views():
        connection.execute(statement)
    connection.execute(f"COMMENT ON SCHEMA indexer IS '{_MARK} {VERSION}'")


def _has_schema(connection: "psycopg.Connection[Any]", name: str) -> bool:
    return connection.execute("SELECT to_regnamespace(%s)", (name,)).fetchone() != (None,)


def ensure_indexes(connection: "psycopg.Connection[Any]") -> None:
    """Make the indexes that readers need, once: they are cheaper after the first rows."""
    with connection.transaction():
        if connection.execute("SELECT indexed FROM _meta FOR UPDATE").fetchone() != (False,):
            return
        for statement in _indexes():
            connection.execute(statement)
        connection.execute("UPDATE _meta SET indexed = true")
        for table in ("runs", *OF_RUN, "places"):
            connection.execute(f"ANALYZE {sent(table)}".encode())
