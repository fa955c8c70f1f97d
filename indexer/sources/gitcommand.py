"""Running git to talk to a remote.

A remote may hang for as long as it likes, and git has helpers (ssh, git-remote-https) that nobody tells when this
program is killed. So git runs in a process group of its own, with a companion that reads from a pipe whose other end
only this program holds: when the pipe ends, for whatever reason, the companion kills the group.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from indexer import interrupts
from indexer.errors import SourceError

TIMEOUT = 300.0
"""Seconds that a git command may take to talk to a remote."""

_GLANCE = 0.5  # seconds between two looks whether a signal asked to stop

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
"""Variables that would lead git into another repository (`git rev-parse --local-env-vars`)."""


def run_git(
    arguments: Sequence[str],
    folder: Path,
    lines: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
) -> str:
    """The output of a git command in a folder, which reads `lines`. Raises SourceError."""
    command = next(each for each in arguments if not each.startswith("-") and "=" not in each)
    reading, writing = os.pipe()
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape") as told:
            told.writelines(f"{line}\n" for line in lines)
            told.flush()
            process = subprocess.Popen(
                ["sh", "-c", _TIED, "sh", told.name, "git", *arguments],
                cwd=folder,
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**_environment(), **(environment or {})},
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
    """What a process wrote until its end. Raises SourceError when it takes too long, and Interrupted."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            return process.communicate(timeout=_GLANCE)
        except subprocess.TimeoutExpired:
            interrupts.check()
    raise SourceError(f"git {command} took more than {TIMEOUT:.0f} s")


def _environment() -> Mapping[str, str]:
    """The user's own, with the credential helpers; nobody is asked for a password."""
    kept = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
