"""The `indexer` command."""

import os
import sys
from importlib import import_module

from indexer import render
from indexer.cli.app import app
from indexer.errors import IndexerError, QueryError, SettingsError
from indexer.interrupts import Interrupted

_OWN_MODULES = {"runs": "lists", "trials": "lists", "show": "show", "status": "status", "query": "sql"}
"""Commands that need only one module: loading the others takes longer than listing runs."""


def main() -> None:
    """Run the command; an IndexerError becomes one line on standard error."""
    import_module(f"indexer.cli.{_OWN_MODULES.get(''.join(sys.argv[1:2]), 'commands')}")
    try:
        app()
    except IndexerError as error:
        print(f"indexer: {render.visible(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, QueryError | SettingsError) else 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UnicodeEncodeError as error:
        what = error.object[error.start : error.end]
        why = "an argument or path is not valid UTF-8" if error.encoding == "utf-8" else "try PYTHONUTF8=1"
        print(f"indexer: {what!a} cannot be written as {error.encoding}: {why}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"indexer: {render.visible(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Interrupted as signal:
        sys.exit(128 + signal.number)
