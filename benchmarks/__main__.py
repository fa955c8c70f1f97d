"""Prints how fast the index is, compared with floors and peers, and writes the same as JSON."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pygit2

from benchmarks import agentevals, freshness, million, peers, serving, trees
from benchmarks.floors import stat_jobs
from benchmarks.measure import Line, command, in_turns, machine, memory_of, remove_index, task, timed
from indexer.passes.sync import look, sync
from indexer.protocols import Options
from indexer.sources import Source
from indexer.sources.folder import FolderSource
from indexer.sources.git import GitSource
from indexer.store import file

BIN = Path(sys.executable).parent


class Bench:
    """All lines; `quick` takes smaller trees and fewer rounds."""

    def __init__(self, place: Path, quick: bool):
        self.place, self.quick, self.rounds = place, quick, 3 if quick else 5
        self.db = place / "index.db"

    def rebuild_git(self) -> Iterator[Line]:
        """A fresh index against reading, parsing and writing the same in one process, and one `git log`."""
        sizes = [(2_000, False), (2_000, True)] if self.quick else [(20_000, False), (20_000, True), (100_000, False)]
        for runs, loose in sizes:
            repository = self._repository(runs, loose=loose)
            ours, floor = in_turns(
                [partial(self._fresh, "sync-git", repository), partial(self._fresh, "floor-git", repository)],
                3 if runs < 100_000 else 1,
            )
            yield Line(f"rebuild from git, {runs:,} runs, {'loose' if loose else 'packed'}", ours, floor, 1.5)

    def memory(self) -> Iterator[Line]:
        """Anonymous memory of a rebuild: it must not grow with the number of runs. In MB, not seconds."""
        few, many = (1_000, 4_000) if self.quick else (10_000, 100_000)
        most = []
        for runs in (few, many):
            remove_index(self.db)
            most.append(memory_of("sync-git", self._repository(runs), self.db)[1])
        yield Line(f"memory of a rebuild, {many:,} runs / {few:,}", most[1] / 1e6, most[0] / 1e6, 1.3, "in MB")

    def rebuild_folders(self) -> Iterator[Line]:
        """A fresh index of job folders against scan, read, parse and insert of the same files."""
        jobs, root = self._jobs()
        ours, floor = in_turns([lambda: self._fresh("sync-jobs", root), lambda: self._fresh("floor-jobs", root)], 3)
        yield Line(f"rebuild from folders, {jobs:,} jobs x 10", ours, floor, 1.6)

    def rebuild_logs(self) -> Iterator[Line]:
        """A fresh index of Inspect's logs against unpacking and parsing the same members."""
        logs, root = 500 if self.quick else 5_000, self.place / "logs-of-inspect"
        trees.make_logs(root, logs, 10)
        ours, floor = in_turns([lambda: self._fresh("sync-jobs", root), lambda: self._fresh("floor-logs", root)], 3)
        yield Line(f"rebuild of {logs:,} logs of Inspect x 10", ours, floor, 5.0)

    def one_new_run(self) -> Iterator[Line]:
        """One more run: in a large repository against a small one; in a large folder against `git diff-tree`."""
        few, many = (500, 4_000) if self.quick else (1_000, 100_000)
        times = [self._one_new_run(runs, flat=False) for runs in (few, many)]
        yield Line(f"one new run, {many:,} / {few:,}, folders by experiment", times[1], times[0], 1.5)
        flat = 2_000 if self.quick else 10_000  # git writes all names again for each run: more would take hours
        ours = self._one_new_run(flat, flat=True)
        commits = [f"{trees.BRANCH}~1", trees.BRANCH]
        repository = self._repository(flat, flat=True)
        (floor,) = in_turns([lambda: command("git", f"--git-dir={repository}", "diff-tree", "-r", *commits)], 9)
        yield Line(f"one new run of {flat:,} in one folder, git diff-tree + 20 ms", ours, floor + 0.020, 1.0)

    def nothing_new(self) -> Iterator[Line]:
        runs = 4_000 if self.quick else 20_000
        sources: list[Source] = [GitSource("team", self._repository(runs))]
        remove_index(self.db)
        sync(self.db, sources, Options())
        (ours,) = in_turns([lambda: self._sync(sources)], 9)
        yield Line(f"nothing new, git, {runs:,} runs (limit 20 ms)", ours, 0.020, 1.0)
        jobs, root = self._jobs()
        folders: list[Source] = [FolderSource("local", root)]
        remove_index(self.db)
        sync(self.db, folders, Options())
        ours, floor = in_turns([lambda: self._sync(folders), lambda: timed(lambda: stat_jobs(root))], self.rounds)
        yield Line(f"nothing new, folders, {jobs:,} jobs x 10, against a bare stat", ours, floor, 1.3)

    def one_changed_trial(self) -> Iterator[Line]:
        """A trial of a large job is written again: a watcher's look at it, and a `sync`, without process starts."""
        trials = 1_000 if self.quick else 5_000
        for what in ("", ", no lock.json", ", a trajectory of 5 MB"):
            root = self.place / f"job-of-{trials}{what}"
            trees.make_jobs(root, 1, trials)
            job = root / "jobs/job-00000"
            if "lock" in what:
                (job / "lock.json").unlink()
            if "trajectory" in what:
                trees.write_trajectory(job, 7)
            sources: list[Source] = [FolderSource("local", root)]
            remove_index(self.db)
            time.sleep(0.1)
            sync(self.db, sources, Options())
            with closing(file.connect(self.db, write=True)) as database:
                work = {"local": [f"jobs/job-00000/{trees.trial_name(7)}"]}
                looks = [
                    partial(self._changed, job, partial(look, database, sources, Options(), work)),
                    partial(self._changed, job, partial(sync, self.db, sources, Options())),
                ]
                looked, synced = in_turns(looks, 9)
            yield Line(f"one changed trial of {trials:,}{what}: a look (30 ms)", looked, 0.030, 1.0)
            yield Line(f"one changed trial of {trials:,}{what}: sync (120 ms)", synced, 0.120, 1.0)

    def _changed(self, job: Path, look_at: Callable[[], object]) -> float:
        trees.write_trial(job, "00000000-0000-4000-8000-000000000000", 7, reward=time.time())
        time.sleep(0.05)
        return timed(look_at)

    def history(self) -> Iterator[Line]:
        """The history of all runs against one `git log --raw --no-renames`."""
        runs = 2_000 if self.quick else 20_000
        repository = self._repository(runs)
        from indexer.sources.history import AddedFolders

        def ours() -> float:
            git = pygit2.Repository(str(repository))
            added = AddedFolders(git, [str(git.references[trees.BRANCH].target)], frozenset())
            seconds = timed(lambda: sum(1 for _ in added))
            added.close()
            return seconds

        measured, floor = in_turns([ours, lambda: task("floor-log", repository)], self.rounds)
        yield Line(f"history of {runs:,} commits, against git log", measured, floor, 1.5)

    def freshness(self) -> Iterator[Line]:
        """A trial of a running job is written; a reader polls. Against event, read, parse, upsert."""
        jobs, root = self._jobs()
        if not (root / "jobs" / freshness.LIVE).exists():
            freshness.make_live_job(root)
        writes = 60 if self.quick else 200
        remove_index(self.db)
        floor = freshness.of_bare_loop(root, self.place / "bare.db", writes)
        ours = freshness.of_watcher(root, self.db, writes)
        yield from _percentiles(f"{jobs:,} jobs x 10", ours, floor)
        runs = 2_000 if self.quick else 20_000
        repository, count = self.place / f"{runs}-pushed.git", 20 if self.quick else 100
        trees.make_repository(repository, runs)
        remove_index(self.db)
        floor = freshness.of_bare_git_loop(repository, self.place / "bare-git.db", runs, count)
        ours = freshness.of_git_watcher(repository, self.db, runs + count, count)
        yield from _percentiles(f"a push to {runs:,} runs", ours, floor)

    def idle(self) -> Iterator[Line]:
        """The share of a core that a watcher takes while nothing happens, against the half percent allowed."""
        jobs, root = self._jobs()
        remove_index(self.db)
        seconds = 20 if self.quick else 120
        with freshness.watching(root, self.db) as watcher:
            time.sleep(5)
            before = watcher.cpu_seconds()
            time.sleep(seconds)
            used = (watcher.cpu_seconds() - before) / seconds
        yield Line(f"idle watcher, {jobs:,} jobs x 10, % of a core", 100 * used, 0.5, 1.0, "in %")

    def start(self) -> Iterator[Line]:
        """A whole process that prints the newest 50 runs, against sqlite-utils on the same file."""
        remove_index(self.db)
        sync(self.db, [GitSource("team", self._repository(4_000))], Options())
        columns = [
            "-c",
            "run_id",
            "-c",
            "target",
            "-c",
            "status",
            "-c",
            "pass_rate",
            "-c",
            "avg_score",
            "-c",
            "cost_usd",
        ]
        peer = [BIN / "sqlite-utils", "rows", self.db, "runs", "--limit", "50", *columns, "--order", "timestamp desc"]
        ours, floor = in_turns([lambda: command(BIN / "indexer", "runs", "--db", self.db), lambda: command(*peer)], 15)
        yield Line("indexer runs as a process, against sqlite-utils rows", ours, floor, 1.0)

    def million(self) -> Iterator[Line]:
        """A million runs with ten trials each."""
        yield from million.lines(self.place / "million.db", 10_000 if self.quick else 1_000_000)

    def agentevals(self) -> Iterator[Line]:
        """A database of agentevals, in a PostgreSQL of its own."""
        yield from agentevals.lines(self.db, 2_000 if self.quick else 100_000)

    def peers(self) -> Iterator[Line]:
        """`/api/runs?limit=50` against the lists of other tools; `indexer runs` pays for a whole process."""
        if not peers.installed():
            print("peers are left out: scripts/peers installs them", file=sys.stderr)
            return
        for runs in (200,) if self.quick else (1_000, 5_000):
            repository, jobs = self._repository(runs), self.place / f"jobs-{runs}"
            if not jobs.exists():
                trees.make_jobs(jobs, runs, 10)
            clone = self.place / f"clone-{runs}"
            command("git", "clone", "--branch", "agentv/results/v1", repository, clone)
            local = peers.agentv_project(self.place / f"local-{runs}")
            shutil.copytree(clone / "runs", local / ".agentv/results/runs")
            project = peers.agentv_project(self.place / f"project-{runs}", clone)
            remove_index(self.db)
            sync(self.db, [GitSource("team", repository), FolderSource("local", jobs)], Options())
            with serving.served(self.db) as connection:
                ask = partial(serving.seconds, connection, "/api/runs?limit=50")
                page, process = in_turns([ask, lambda: command(BIN / "indexer", "runs", "--db", self.db)], 9)
            asked = [(peers.AGENTV, project, "git"), (peers.AGENTV, local, "local")]
            asked += [(peer, jobs, "jobs x 10") for peer in peers.VIEWERS]
            for peer, place, what in asked:
                theirs, shown = peers.first_page(peer, place, 3)
                name = f"{runs:,} runs: {peer.name}, {what}, {shown} runs shown"
                yield Line(f"{name}, /api/runs", page, theirs, None)
                yield Line(f"{name}, indexer runs", process, theirs, None)

    def _repository(self, runs: int, *, loose: bool = False, flat: bool = False) -> Path:
        path = self.place / f"{runs}{'-loose' if loose else ''}{'-flat' if flat else ''}.git"
        if not path.exists():
            trees.make_repository(path, runs, loose=loose, flat=flat)
        return path

    def _jobs(self) -> tuple[int, Path]:
        jobs = 300 if self.quick else 5_000
        root = self.place / "folders"
        if not root.exists():
            trees.make_jobs(root, jobs, 10)
            time.sleep(0.1)
        return jobs, root

    def _fresh(self, name: str, place: Path) -> float:
        remove_index(self.db)
        return task(name, place, self.db)

    def _one_new_run(self, runs: int, *, flat: bool) -> float:
        repository = self._repository(runs, flat=flat)
        sources: list[Source] = [GitSource("team", repository)]
        remove_index(self.db)
        sync(self.db, sources, Options())
        times = []
        for number in range(9):
            trees.append_run(repository, runs + number, flat=flat)
            times.append(self._sync(sources))
        return sorted(times)[4]

    def _sync(self, sources: list[Source]) -> float:
        return timed(lambda: sync(self.db, sources, Options()))


def _percentiles(what: str, ours: list[float], floor: list[float]) -> Iterator[Line]:
    for share, limit in ((0.5, 2.0), (0.99, 5.0)):
        at = int(share * (len(ours) - 1))
        yield Line(f"freshness p{share * 100:.0f}, {what}", ours[at], floor[at], limit)


LINES = (
    "rebuild_git",
    "memory",
    "rebuild_folders",
    "rebuild_logs",
    "one_new_run",
    "nothing_new",
    "one_changed_trial",
    "history",
    "start",
    "freshness",
    "idle",
    "million",
    "agentevals",
    "peers",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small trees, about a minute")
    parser.add_argument("--only", choices=LINES, action="append", help="some of the lines")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="where the JSON goes")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="indexer-bench-"))
    lines: list[Line] = []
    print(f"{machine()}\n\n{'':66} {'ours':>9} {'floor':>9} {'ratio':>6} {'limit':>6}")
    try:
        bench = Bench(place, options.quick)
        for name in options.only or LINES:
            for line in getattr(bench, name)():
                lines.append(line)
                scale, unit = (1, "") if line.note else (1000, " ms")
                limit = "" if line.limit is None else f"{line.limit:6.2f}"
                times = f"{line.ours * scale:6.0f}{unit:3} {line.floor * scale:6.0f}{unit:3}"
                print(f"{line.name:66} {times} {line.ratio:6.2f} {limit} {line.note}", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"machine": machine(), "date": date, "lines": [asdict(line) | {"ratio": line.ratio} for line in lines]}
    options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
