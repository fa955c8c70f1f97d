"""A machine that does to sources and index whatever can happen to them, and requires the index to equal a rebuild.

Sources are a bare repository `team`, a clone of it that is fetched now and then, and the folders `local` and
`other`. Rules change the trees in them in all ways that tools, people and git do; `synced` and the rules that
kill, lose or damage the index come at any time between.
"""

import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from random import Random

import pygit2
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from indexer import open_index
from indexer.errors import SourceError
from indexer.passes import sync as passes
from indexer.passes.check import check
from indexer.protocols import Options
from indexer.store import file
from tests.bundles import at
from tests.machine import content
from tests.machine.trees import DiskTree, RefTree, Tree, encoded
from tests.observe import AWAY, Named, Observer, Reader, in_process, opened, statements
from tests.repos import Repo, git

V1, V2 = "refs/heads/agentv/results/v1", "refs/heads/agentv/results/v2"
WIP = "refs/heads/agentv/wip/laptop"
done: Counter[str] = Counter()
"""How often each rule ran, over all machines of this process."""

SETTINGS = settings(
    max_examples=10,
    stateful_step_count=25,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)

trees = st.sampled_from(["v1", "v1", "v2", "local", "local", "other"])
disks = st.sampled_from(["local", "other"])
refs = st.sampled_from(["v1", "v2"])
paths = st.sampled_from(content.PLACES)
seeds = st.integers(0, 2**16).map(Random)
statement_numbers = st.integers(1, 60) | st.integers(1, 600)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="indexer-machine-"))
        self.db = self.root / "index" / "index.db"
        self.repo = Repo(self.root / "team.git")
        self.clone = self.root / "clone.git"
        self.disks = {name: DiskTree(self.root / name) for name in ("local", "other")}
        for disk in self.disks.values():
            (disk.root / "jobs").mkdir(parents=True)
            (disk.root / ".agentv").mkdir()
        self.refs = {"v1": RefTree(self.repo, V1), "v2": RefTree(self.repo, V2)}
        self.trees: dict[str, Tree] = {**self.refs, **self.disks}
        self.away = self.root / "away"
        self.all: dict[str, Named] = {
            "team": ("git", "team", self.repo.path),
            "clone": ("git", "clone", self.clone),
            "local": ("folder", "local", self.disks["local"].root),
            "other": ("folder", "other", self.disks["other"].root),
            "again": ("folder", "again", self.disks["other"].root),
        }
        self.named = ["team", "local", "other"]
        self.options = Options()
        self.steps: list[str] = []

    def did(self, what: str) -> None:
        done[what] += 1

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.mend_all()
        finally:
            self.repo.pygit2.free()
            shutil.rmtree(self.root, ignore_errors=True)

    # what tools and people do in any tree

    @initialize(random=seeds)
    def begin(self, random: Random) -> None:
        for tree in self.trees.values():
            path = random.choice(content.PLACES)
            tree.change(at(path, content.run(random, path)))
        self.cloned(depth=0)

    @rule(where=trees, path=paths, random=seeds)
    def publish(self, where: str, path: str, random: Random) -> None:
        """A run comes, or another one comes in its place."""
        self.did("publish")
        self.trees[where].change({path: None, **at(path, content.run(random, path))})

    @rule(where=trees, random=seeds)
    def write_on(self, where: str, random: Random) -> None:
        """Some files of a run are written again, as a tool does while it goes on, is resumed or retries."""
        self.did("write on")
        tree = self.trees[where]
        files = sorted(tree.files())
        tree.change({path: content.document(random, path) for path in random.sample(files, min(len(files), 2))})

    @rule(where=trees, random=seeds)
    def tear(self, where: str, random: Random) -> None:
        self.did("tear")
        tree = self.trees[where]
        if files := [path for path in sorted(tree.files()) if path.endswith((".json", ".jsonl"))]:
            tree.change({random.choice(files): random.choice(content.TORN)})

    @rule(where=trees, random=seeds, whole=st.booleans())
    def remove(self, where: str, random: Random, whole: bool) -> None:
        """A file or a folder goes."""
        self.did("remove")
        tree = self.trees[where]
        if files := sorted(tree.files()):
            path = random.choice(files)
            tree.change({path.rpartition("/")[0] if whole and "/" in path else path: None})

    @rule(where=trees, path=paths, to=paths, copied=st.booleans(), onto=trees)
    def move(self, where: str, path: str, to: str, copied: bool, onto: str) -> None:
        """A run is renamed, or copied into the same tree or another one."""
        self.did("copy" if copied else "rename")
        files = below(path, self.trees[where].files())
        if not copied and files and where == onto:
            self.trees[where].change({path: None})
        if files:
            self.trees[onto].change({to: None, **at(to, files)})

    @rule(where=trees, path=st.sampled_from(content.BUNDLES), random=seeds)
    def retag(self, where: str, path: str, random: Random) -> None:
        self.did("retag")
        head, runs, tail = path.rpartition("runs/")
        self.trees[where].change({f"{head}metadata/{runs}{tail}/tags.json": content.tags(random)})

    # what only git does

    @rule(where=refs, path=paths, back=st.integers(0, 3), random=seeds)
    def merge(self, where: str, path: str, back: int, random: Random) -> None:
        """A branch that began some commits ago brings a run by a merge."""
        if not self.refs[where].exists():
            return
        self.did("merge")
        ref = self.refs[where].ref
        tip = self.repo.tip(ref)
        start = self._ancestor(tip, back)
        files = encoded(at(path, content.run(random, path)))
        side = self.repo.commit(files, ref="refs/heads/side", parents=[start], seconds=random.choice([None, 1]))
        self.repo.delete_ref("refs/heads/side")
        self.repo.commit(files, ref=ref, parents=[tip, side])

    @rule(where=refs, back=st.integers(1, 3))
    def rebase(self, where: str, back: int) -> None:
        """The last commits become one that says the same, written later."""
        if not self.refs[where].exists():
            return
        self.did("rebase")
        ref = self.refs[where].ref
        tree, start = self.refs[where].files(), self._ancestor(self.repo.tip(ref), back)
        gone = dict.fromkeys(self.repo.files(start))
        self.repo.commit(gone | encoded(tree), ref=ref, parents=[start])

    @rule(where=refs, other=refs, back=st.integers(0, 3))
    def force_push(self, where: str, other: str, back: int) -> None:
        if self.refs[other].exists():
            self.did("force push")
            self.repo.set_ref(self.refs[where].ref, self._ancestor(self.repo.tip(self.refs[other].ref), back))

    @rule(where=refs)
    def delete_ref(self, where: str) -> None:
        if self.refs[where].exists():
            self.did("delete ref")
            self.repo.delete_ref(self.refs[where].ref)

    @rule(path=st.sampled_from(content.BUNDLES), random=seeds)
    def begin_draft(self, path: str, random: Random) -> None:
        """A run in progress gets its own ref, on top of what is published, or goes on there."""
        self.did("draft")
        ref = f"{WIP}/{path.rpartition('/')[2]}"
        base = [self.repo.tip(V1)] if self.refs["v1"].exists() else []
        parents = None if ref in self.repo.pygit2.references else base
        self.repo.commit(encoded(at(path, content.run(random, path))), ref=ref, parents=parents)

    @rule(path=st.sampled_from(content.BUNDLES), publish=st.booleans(), keep=st.booleans())
    def end_draft(self, path: str, publish: bool, keep: bool) -> None:
        """A run in progress is published or given up; its ref may stay for ever."""
        draft = RefTree(self.repo, f"{WIP}/{path.rpartition('/')[2]}")
        if draft.exists():
            self.did("publish draft" if publish else "abandon draft")
            if publish:
                self.refs["v1"].change(at(path, below(path, draft.files())))
            if not keep:
                self.repo.delete_ref(draft.ref)

    @rule(what=st.sampled_from([["gc", "--quiet", "--prune=now"], ["repack", "-adq"], ["pack-refs", "--all"]]))
    def maintain(self, what: list[str]) -> None:
        self.did(what[0])
        self.repo.git(*what)
        self.repo.reopen()

    @rule(depth=st.sampled_from([0, 0, 1, 2]))
    def cloned(self, depth: int) -> None:
        """The clone is replaced by another one, shallow or whole."""
        self.did("shallow clone" if depth else "clone")
        shutil.rmtree(self.clone, ignore_errors=True)
        shallow = [f"--depth={depth}", "--no-single-branch"] if depth else []
        git("clone", "--quiet", "--bare", *shallow, f"file://{self.repo.path}", str(self.clone))

    @rule(depth=st.sampled_from([[], ["--depth=1"], ["--depth=2"], ["--unshallow"]]))
    def fetch(self, depth: list[str]) -> None:
        if (depth == ["--unshallow"] and not (self.clone / "shallow").exists()) or not any(self.repo.pygit2.references):
            depth = []  # git refuses
        self.did("shallow fetch" if depth else "fetch")
        git("-C", str(self.clone), "fetch", "--quiet", "--prune", *depth, "origin", "+refs/heads/*:refs/heads/*")

    # what only disks do

    @rule(where=disks, random=seeds, how=st.sampled_from(["unseen", "by rename", "times set back"]))
    def rewrite(self, where: str, random: Random, how: str) -> None:
        """A file gets other content in a way that is hard to see."""
        disk = self.disks[where]
        if not (files := sorted(disk.files())):
            return
        self.did(how)
        path = random.choice(files)
        text = content.document(random, path)
        if how == "by rename":
            disk.replace(path, text)
        elif how == "unseen":
            disk.rewrite_unseen(path, text)
        else:
            disk.set_back(path, text)

    @rule(where=disks, path=paths, to=paths)
    def hard_link(self, where: str, path: str, to: str) -> None:
        disk = self.disks[where]
        apart = path != to and not f"{to}/".startswith(f"{path}/") and not f"{path}/".startswith(f"{to}/")
        if (disk.root / path).is_dir() and apart:
            self.did("hard link")
            disk.link(path, to)

    @rule(where=disks, path=paths, random=seeds, whole=st.booleans())
    def lead_elsewhere(self, where: str, path: str, random: Random, whole: bool) -> None:
        """A run, or a file of it, lies elsewhere and is linked."""
        disk = self.disks[where]
        files = sorted(below(path, disk.files()))
        if files and not any(parent.is_symlink() for parent in (disk.root / path / "x").parents):
            self.did("link")
            where_to = path if whole else f"{path}/{random.choice(files)}"
            disk.lead_to(where_to, where_to)

    # what happens to the index

    @rule(names=st.lists(st.sampled_from(["team", "clone", "local", "other", "again"]), min_size=1, unique=True))
    def name_sources(self, names: list[str]) -> None:
        self.did("sources")
        self.named = names

    @rule(pier=st.sampled_from([1.0, 0.5]), errors=st.booleans())
    def change_options(self, pier: float, errors: bool) -> None:
        self.did("options")
        self.options = Options(pier_threshold=pier, errors=errors)

    @rule()
    def take_away(self) -> None:
        """A folder cannot be reached, or can be again."""
        self.did("away")
        place = self.disks["other"].root
        if self.away.exists():
            shutil.rmtree(place, ignore_errors=True)
            self.away.rename(place)
        elif place.exists():
            place.rename(self.away)

    @rule(command=st.sampled_from(["sync", "sync", "rebuild"]), at_statement=statement_numbers)
    def killed(self, command: str, at_statement: int) -> None:
        """A pass is killed between any two of its steps; what it leaves is a whole state."""
        before = self._state()
        process = in_process(command, self.db, self._sources(), self.options, at_statement)
        process.join()
        assert process.exitcode in (0, AWAY, -signal.SIGKILL)
        self.did(f"killed {command}" if process.exitcode == -signal.SIGKILL else f"{command} in a process")
        if process.exitcode == AWAY:
            assert self._state() == before
        elif process.exitcode == 0:
            self._require_right()
        elif before is not None and self._state() != before:
            self._require_nothing_new()  # it had come to the end

    @rule(how=st.sampled_from(["deleted", "emptied", "cut", "damaged"]))
    def lose(self, how: str) -> None:
        if not self.db.exists():
            return
        self.did(f"index {how}")
        size = self.db.stat().st_size
        if how == "deleted":
            self.db.unlink()
        elif how == "damaged":
            with self.db.open("r+b") as damaged:
                damaged.seek(100)
                damaged.write(b"\xff" * (size - 100))  # its header is what tells whose it is
        else:
            os.truncate(self.db, 0 if how == "emptied" else size // 2)

    @rule(at=st.integers(0, 4), where=st.lists(paths, max_size=3))
    def looked(self, at: int, where: list[str]) -> None:
        """A watcher looks at some runs, or at a whole source, and at nothing else."""
        if self._is_away():
            return
        if self._state() is None or file.fault(self.db, passes.reader(self.options)):
            passes.sync(self.db, opened(self._sources()), self.options)
        self.did("look")
        name = self.named[at % len(self.named)]
        with closing(file.connect(self.db, write=True)) as database:
            passes.look(database, opened(self._sources()), self.options, {name: where or None})
        assert not self._faults()

    @rule()
    def sync_with_a_reader_at_every_statement(self) -> None:
        self._sync(observed_every=1)

    @rule()
    def sync_with_a_reader(self) -> None:
        self._sync(observed_every=7)

    @rule()
    def sync_with_a_slow_reader(self) -> None:
        self._sync(observed_every=50)

    def _sync(self, observed_every: int) -> None:
        """A sync makes the index equal to a rebuild; a reader beside it sees the state before and the one after."""
        self.did("sync")
        before = self._state()
        try:
            if before is None:
                passes.sync(self.db, opened(self._sources()), self.options)
            else:
                with closing(Reader(self.db)) as reader:
                    observer = Observer(reader, observed_every)
                    with statements(observer):
                        passes.sync(self.db, opened(self._sources()), self.options)
                    assert before in observer.seen
                    assert observer.seen <= {before, self._state()}
        except SourceError:
            assert self._is_away()  # other options have to wait for it
        else:
            self._require_right()

    def _is_away(self) -> bool:
        return any(not place.exists() for _, _, place in self._sources())

    def _require_right(self) -> None:
        assert not self._faults()
        if self._is_away():
            return  # its rows stay, and no rebuild can tell whether they are right
        sources = opened(self._sources())
        differences = check(self.db, sources, self.options)
        assert not differences, differences
        self._require_feed()
        self._require_nothing_new()

    def _require_feed(self) -> None:
        """Who reads the changes one by one knows every run, and no other."""
        known: set[str] = set()
        with open_index(self.db) as index:
            token = None
            while True:
                page = index.changes(token, limit=1)
                if not page.changes:
                    break
                for change in page.changes:
                    (known.discard if change["deleted"] else known.add)(change["key"])
                token = page.next
            assert known == {run["key"] for run in index.runs(limit=1000).runs}

    def _require_nothing_new(self) -> None:
        assert not self._faults()
        report = passes.sync(self.db, opened(self._sources()), self.options)
        assert report.built is None
        assert not [
            each for each in report.sources if each.counts["added"] or each.counts["changed"] or each.counts["removed"]
        ], report

    def mend_all(self) -> None:
        """Once every file can be read and every source opened, all is right and no problem is left."""
        if self.away.exists():
            self.take_away()
        drafts = [RefTree(self.repo, ref) for ref in self.repo.pygit2.references if ref.startswith(WIP)]
        for tree in (*self.trees.values(), *drafts):
            files = tree.files()
            torn = [path for path, text in files.items() if text in content.TORN or content.is_torn(path, text)]
            if torn:
                tree.change({path: content.document(Random(path), path) for path in torn})
        self.cloned(depth=0)
        passes.sync(self.db, opened(self._sources()), self.options)
        self._require_right()
        with closing(sqlite3.connect(self.db)) as database:
            query = "SELECT * FROM problems WHERE kind NOT IN ('no-time', 'missing-ref', 'doubtful')"
            problems = database.execute(query).fetchall()
        assert not problems, problems

    def _sources(self) -> list[Named]:
        return [self.all[name] for name in self.named]

    def _ancestor(self, commit: str, back: int) -> str:
        found = self.repo.pygit2[commit]
        assert isinstance(found, pygit2.Commit)
        for _ in range(back):
            found = found.parents[0] if found.parents else found
        return str(found.id)

    def _state(self) -> str | None:
        """A digest of the index; None if there is none that can be read."""
        if not self.db.exists():
            return None
        with closing(Reader(self.db)) as reader:
            try:
                return None if reader.faults() else reader.state()
            except sqlite3.DatabaseError:
                return None

    def _faults(self) -> list[str]:
        with closing(Reader(self.db)) as reader:
            return reader.faults()


def below(path: str, files: Mapping[str, str]) -> dict[str, str]:
    return {name[len(path) + 1 :]: text for name, text in files.items() if name.startswith(f"{path}/")}


def seeded(number: int) -> type[Machine]:
    """A machine whose examples are always the same for a number."""
    return seed(number)(type("Seeded", (Machine,), {}))
