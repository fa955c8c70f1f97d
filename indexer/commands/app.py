"""The program that commands are added to, and the options that most of them take."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A disposable SQLite index of agent-evaluation runs in git and on disk that answers at once.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings; else indexer.toml here or in a parent.")
]
Db = Annotated[Path | None, typer.Option("--db", metavar="FILE", help="The index; else results/index.db.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document; for lists one object a line.")]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run id, key, prefix, latest, latest:EXPERIMENT, tag:NAME; ~N.")
]
Experiment = Annotated[str | None, typer.Option("--experiment", help="Runs of this experiment.")]
Target = Annotated[str | None, typer.Option("--target", help="Runs with this target.")]
Since = Annotated[str | None, typer.Option("--since", help="From a date, time or span ago (7d).")]
Until = Annotated[str | None, typer.Option("--until", help="Before a date, time or span ago (1h).")]
