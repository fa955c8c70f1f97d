"""Real git repositories, made commit by commit."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygit2

RESULTS = "refs/heads/agentv/results/v1"
T0 = 1_767_600_000  # 2026-01-05T08:00:00Z


class Repo:
    """A bare repository. Each commit is a minute younger than the one before unless `seconds` says when."""

    def __init__(self, path: Path):
        self.path = path
        self.pygit2 = pygit2.init_repository(str(path), bare=True)
        self._clock = T0

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        ref: str = RESULTS,
        parents: Sequence[str] | None = None,
        seconds: int | None = None,
        author: str = "eval bot",
        message: str = "results",
    ) -> str:
        """Commit changed files onto a ref; None removes a file or folder. Returns the commit id."""
        if parents is None:
            parents = [self.tip(ref)] if ref in self.pygit2.references else []
        content = self.files(parents[0]) if parents else {}
        for path, text in files.items():
            for old in [old for old in content if old == path or old.startswith(f"{path}/")]:
                del content[old]
            if text is not None:
                data = text.encode() if isinstance(text, str) else text
                content[path] = self.pygit2.create_blob(data).raw
        self._clock += 60
        when = self._clock if seconds is None else seconds
        signature = pygit2.Signature(author, "eval@example.org", when, 0)
        commit = self.pygit2.create_commit(None, signature, signature, message, self._tree(content), list(parents))
        self.set_ref(ref, str(commit))
        return str(commit)

    def files(self, commit: str) -> dict[str, bytes]:
        """Blob ids by path."""
        found: dict[str, bytes] = {}

        def collect(tree: pygit2.Tree, prefix: str) -> None:
            for entry in tree:
                if isinstance(entry, pygit2.Tree):
                    collect(entry, f"{prefix}{entry.name}/")
                else:
                    found[f"{prefix}{entry.name}"] = entry.id.raw

        collect(self.pygit2[commit].peel(pygit2.Tree), "")
        return found

    def blob(self, oid: bytes) -> bytes:
        """The content of a file."""
        found = self.pygit2[oid.hex()]
        assert isinstance(found, pygit2.Blob)
        return found.data

    def tip(self, ref: str = RESULTS) -> str:
        return str(self.pygit2.references[ref].target)

    def set_ref(self, ref: str, commit: str) -> None:
        self.pygit2.references.create(ref, commit, force=True)

    def delete_ref(self, ref: str) -> None:
        self.pygit2.references.delete(ref)

    def reopen(self) -> None:
        """To be called when git has removed or packed objects, which libgit2 would go on taking for there."""
        self.pygit2 = pygit2.Repository(str(self.path))

    def git(self, *arguments: str) -> str:
        return git("-C", str(self.path), *arguments)

    def git_input(self, command: str, option: str, data: bytes) -> str:
        """Run a git command on standard input, for what pygit2 refuses to make."""
        arguments = ["git", "-C", str(self.path), command, option]
        return subprocess.run(arguments, input=data, capture_output=True, check=True).stdout.decode().strip()

    def _tree(self, content: Mapping[str, bytes]) -> pygit2.Oid:
        builder = self.pygit2.TreeBuilder()
        below: dict[str, dict[str, bytes]] = {}
        for path, oid in content.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = oid
            else:
                builder.insert(name, pygit2.Oid(raw=oid), pygit2.enums.FileMode.BLOB)
        for name, inside in below.items():
            builder.insert(name, self._tree(inside), pygit2.enums.FileMode.TREE)
        return builder.write()


def git(*arguments: str) -> str:
    """Run git, without the user's configuration."""
    environment = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin:/usr/local/bin", "GIT_CONFIG_NOSYSTEM": "1"}
    names = ["-c", "user.name=eval bot", "-c", "user.email=eval@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *names, *arguments], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()
