"""What happens on machines of a team, and what must be shown in the end."""

import json
import random
import shutil
from pathlib import Path

from tests.bundles import at, bundle, row
from tests.jobs import job, trial
from tests.repos import Repo
from tests.shared.machines import Machine, asked
from tests.shared.union import expected

NAMES = ("anna", "bert", "cleo")


def team(root: Path, url: str) -> dict[str, Machine]:
    """Three machines around one results repository."""
    repo = Repo(root / "team.git")
    return {name: Machine(root / name, name, url, repo) for name in NAMES}


def require_union(machines: dict[str, Machine], url: str) -> None:
    """The shown runs are those of the union of all rebuilds, each once."""
    for machine in machines.values():
        machine.rebuild()
    wanted = expected({name: machine.db for name, machine in machines.items()})
    columns = [
        name
        for name in next(iter(wanted.values()), {})
        if name not in ("machine", "trials", "tags", "sha", "on_boards")
    ]
    found = asked(url, f"SELECT {', '.join(columns)}, machine, tags, sha, id FROM indexer_v8.shown_runs")
    assert len(found) == len(wanted)
    for *own, machine, tags, sha, pk in found:
        key = own[columns.index("key")]
        run = wanted[key]
        assert machine == run["machine"], key
        assert dict(zip(columns, own, strict=True)) == {name: run[name] for name in columns}
        assert (json.loads(tags), sha) == (run["tags"], run["sha"]), key
        trials = asked(url, "SELECT trial, status FROM indexer_v8.trials WHERE run_pk = %s", pk)
        assert dict(trials) == run["trials"]
        tagged = asked(url, "SELECT tag FROM indexer_v8.run_tags WHERE run_pk = %s", pk)
        assert sorted(tag for (tag,) in tagged) == run["tags"]
    for child in ("trials", "run_targets", "_repeats", "_errors", "run_tags"):
        lost = asked(
            url, f"SELECT count(*) FROM indexer_v8.{child} WHERE run_pk NOT IN (SELECT id FROM indexer_v8.runs)"
        )
        assert lost == [(0,)], child


class Change:
    """One thing that happens on one of the machines, or in the repository they share."""

    def __init__(self, random: random.Random, machines: dict[str, Machine]):
        self._random, self._machines = random, machines

    def happen(self) -> None:
        machine = self._machines[self._random.choice(NAMES)]
        number = self._random.randrange(6)
        kind = self._random.choice(("job", "copy", "bundle", "tags", "delete", "publish", "rebuild", "wip"))
        name = f"2026-01-{number + 1:02}T08-00-00-000Z"
        getattr(self, f"_{kind}")(machine, number, name)

    def _job(self, machine: Machine, number: int, name: str) -> None:
        scores = [self._random.choice((0.0, 0.5, 1.0, None)) for _ in range(self._random.randrange(1, 4))]
        trials = {f"fizz__{at:07}": trial("fizz", score) for at, score in enumerate(scores)}
        identity = f"23b29240-0000-4000-8000-{number:012}"
        machine.write(at(f"jobs/job-{number}", job(trials, id=identity, finished=self._random.random() < 0.7)))

    def _copy(self, machine: Machine, number: int, name: str) -> None:
        """The same job elsewhere on the same machine."""
        identity = f"23b29240-0000-4000-8000-{number:012}"
        machine.write(at(f"jobs/copy-{number}", job({"fizz__0000000": trial("fizz", 1.0)}, id=identity)))

    def _bundle(self, machine: Machine, number: int, name: str) -> None:
        rows = [row(f"t{at}", self._random.random(), cost_usd=0.1) for at in range(self._random.randrange(1, 4))]
        machine.write(
            at(f".agentv/results/runs/e{number % 2}/{name}", bundle(rows=rows, experiment=f"e{number % 2}", name=name))
        )

    def _publish(self, machine: Machine, number: int, name: str) -> None:
        """A run is committed to the shared repository."""
        rows = [row("t1", self._random.random())]
        machine.repo.commit(at(f"runs/e{number % 2}/{name}", bundle(rows=rows, experiment=f"e{number % 2}", name=name)))

    def _wip(self, machine: Machine, number: int, name: str) -> None:
        self._publish(machine, number, name)

    def _tags(self, machine: Machine, number: int, name: str) -> None:
        tags = {
            "tags": self._random.sample(["baseline", "nightly", "b=c"], 2),
            "updated_at": f"2026-02-{number + 1:02}T00:00:00.000Z",
        }
        path = f".agentv/results/runs/e{number % 2}/{name}"
        if (machine.local / path).is_dir():
            machine.write({f"{path}/tags.json": json.dumps(tags)})

    def _delete(self, machine: Machine, number: int, name: str) -> None:
        for path in (f"jobs/job-{number}", f"jobs/copy-{number}", f".agentv/results/runs/e{number % 2}/{name}"):
            if self._random.random() < 0.5:
                shutil.rmtree(machine.local / path, ignore_errors=True)

    def _rebuild(self, machine: Machine, number: int, name: str) -> None:
        machine.rebuild()
