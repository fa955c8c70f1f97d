"""Runs git: to talk to a remote (`run_git`), and to read a local repository (`Listing`).

A remote may hang forever, and git's helpers (ssh, git-remote-https) outlive this program when it is killed. So git runs
in its own process group, with a companion that reads from a pipe whose other end only this program holds: when the pipe
closes, for whatever reason, the companion kills the group.

Local repositories are read with plumbing and without user configuration, so that every user finds the same.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pygit2

from indexer import interrupts
from indexer.errors import SourceError
from indexer.masking import error_line

TIMEOUT = 300.0
"""Seconds that a git command may take to talk to a remote."""
SILENCE = 300.0
"""Seconds without output after which a local git command counts as hanging."""

_GLANCE = 0.5  # seconds between two checks for a stop signal
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds
_CHUNK = 1 << 20

FETCH = (
    "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--filter=blob:none", "--stdin",
)  # fmt: skip
"""Fetch what is named on standard input, in one round trip, and touch nothing else."""

# $1 is a file with the standard input; standard input itself is the pipe
_TIED = """
lines=$1; shift
exec 3<&0 </dev/null
( cat <&3; kill -9 0 ) >/dev/null 2>&1 &
"$@" <"$lines" 3<&-
status=$?
kill -9 $! 2>/dev/null
exit $status
"""

_LOCAL = {
    "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_SHALLOW_FILE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG",
    "GIT_IMPLICIT_WORK_TREE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS", "GIT_INTERNAL_SUPER_PREFIX",
}  # fmt: skip
"""Variables that would point git to another repository (`git rev-parse --local-env-vars`)."""


# libgit2 has already checked the repository's owner
_PLAIN = [
    "-c", "safe.directory=*", "-c", "trailer.separators=:", "-c", "core.commentChar=#",
    "-c", "core.deltaBaseCacheLimit=48m",  # half of git's own; less makes listings slower
]  # fmt: skip


def run_git(
    arguments: Sequence[str],
    folder: Path,
    lines: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """The output of a git command in a folder, with `lines` as its input. Raises SourceError."""
    command = next(each for each in arguments if not each.startswith("-") and "=" not in each)
    reading, writing = os.pipe()
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape") as stdin:
            stdin.writelines(f"{line}\n" for line in lines)
            stdin.flush()
            process = subprocess.Popen(
                ["sh", "-c", _TIED, "sh", stdin.name, "git", *arguments],
                cwd=folder,
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**_environment(remote=True), **(environment or {})},
                start_new_session=True,  # no terminal that ssh could ask on
                text=True,
                errors="surrogateescape",
            )
            with process:
                try:
                    output, errors = _ended(process, command)
                except BaseException:
                    process.kill()  # the rest of its group goes with the pipe
                    raise
    finally:
        os.close(reading)
        os.close(writing)
    if process.returncode:
        said = errors.strip().splitlines()
        fatal = (line for line in said if line.startswith(("fatal", "ERROR")))
        raise SourceError(next(fatal, said[-1] if said else "git failed"))
    return output


def _ended(process: "subprocess.Popen[str]", command: str) -> tuple[str, str]:
    """The output of a process, once it ends. Raises SourceError if it takes too long, and Interrupted."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            return process.communicate(timeout=_GLANCE)
        except subprocess.TimeoutExpired:
            interrupts.check()
    raise SourceError(f"git {command} took more than {TIMEOUT:.0f} s")


class Listing:
    """A pipeline of git commands on a local repository; the first may read `lines`.

    It starts at once, runs in parallel, and writes to a file, so it never blocks on a full pipe. `task` says in
    messages what git should do. Close it after use. Raises OSError when git cannot be started.
    """

    def __init__(
        self,
        repository: pygit2.Repository,
        *commands: Sequence[str | bytes],
        task: str,
        lines: Collection[str] = (),
    ):
        self._task = task
        with ExitStack() as stack:
            source, self._output, self._complaints = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            source.writelines(f"{line}\n".encode() for line in lines)
            source.seek(0)
            self._processes: list[subprocess.Popen[bytes]] = []
            for number, command in enumerate(commands, 1):
                process = subprocess.Popen(
                    ["git", f"--git-dir={repository.path}", *_PLAIN, *command],
                    stdin=self._processes[-1].stdout if self._processes else source,
                    stdout=subprocess.PIPE if number < len(commands) else self._output,
                    stderr=self._complaints,
                    env=_environment(remote=False),
                )
                stack.callback(_end, process)
                if self._processes:  # else the one before would get no SIGPIPE when this one ends
                    _close(self._processes[-1])
                self._processes.append(process)
            self._running = stack.pop_all()

    def close(self) -> None:
        self._running.close()

    def chunks(self) -> Iterator[bytes]:
        """What git writes, as it comes. Raises SourceError when it fails or hangs, and Interrupted."""
        offset, idle, pause = 0, 0.0, _SHORTEST_PAUSE
        while True:
            ended = all(process.poll() is not None for process in self._processes)
            if chunk := os.pread(self._output.fileno(), _CHUNK, offset):
                offset, idle, pause = offset + len(chunk), 0.0, _SHORTEST_PAUSE
                yield chunk
            elif ended:
                break
            elif idle > SILENCE:
                raise SourceError(f"git cannot {self._task}: it did not answer for {SILENCE:.0f} s")
            else:
                interrupts.check()
                time.sleep(pause)
                idle += pause
                pause = min(2 * pause, _LONGEST_PAUSE)
        if any(process.returncode for process in self._processes):
            self._complaints.seek(0)
            said = self._complaints.read(10_000).decode("utf-8", "replace").strip()
            why = error_line(said.splitlines()[-1]) if said else "it was killed"
            raise SourceError(f"git cannot {self._task}: {why}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    _close(process)


def _close(process: "subprocess.Popen[bytes]") -> None:
    if process.stdout is not None:
        process.stdout.close()


def _environment(*, remote: bool) -> dict[str, str]:
    """The user's environment without what points to another repository; git never prompts for a password.

    For a `remote` the user's configuration and credential helpers count. Otherwise only the repository does: no
    configuration, no replaced objects, and nothing is fetched.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    quiet = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    if remote:
        return kept | quiet | {"SSH_ASKPASS_REQUIRE": "never"}
    kept = {name: value for name, value in kept.items() if not name.startswith("GIT_")}
    return (
        kept
        | quiet
        | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": os.devnull,
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_OPTIONAL_LOCKS": "0",
        }
    )
