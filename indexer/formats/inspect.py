"""Logs of Inspect: one run is one file, a zip (`.eval`) or a JSON document.

Of a zip only `header.json` and the summaries of its samples are read, by random access; a log that has not ended, or
was killed, has no header, and its summaries are in a journal. A retry is a new file with the same `task_id` that
repeats the finished samples: it continues the same run, and the latest log with any sample counts.
Copies, conversions, recovered and re-scored logs are further places of one run.

These files hold user data and secrets in plain text (arguments, inputs, metadata), so only named fields are read; the
run's inputs are only used to mask its errors, and to tell whether two runs had the same conditions.
"""

import re
from collections.abc import Iterator

from indexer.earlier import Earlier
from indexer.formats.documents import read_document
from indexer.formats.inspect_documents import Header, Log, Summaries, Summary
from indexer.formats.inspect_run import Told, run_of
from indexer.formats.one_file import OneFile
from indexer.formats.zipped import ZipFolder
from indexer.protocols import (
    MALFORMED,
    Conventions,
    Folder,
    Options,
    Unreadable,
    alone,
    common,
    never_divided,
    nowhere,
    undivided,
    untold,
)
from indexer.records import Run

KEY, VERSION = "inspect", 1
NAME = "inspect"
ANCHORS = frozenset[str]()
CONVENTIONS = Conventions(folders=("logs",), passed_over=(".shards", ".checkpoints"))
HEADER, START, SUMMARIES = "header.json", "_journal/start.json", "summaries.json"

_JOURNAL = re.compile(r"_journal/summaries/(\d{1,9})\.json")
_JSON_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\d.*\.json", re.DOTALL)
_HEADER_LIMIT, _SUMMARIES_LIMIT, _JSON_LIMIT = 32 * 2**20, 256 * 2**20, 256 * 2**20
_LARGE = 16 * 2**20
_BEGINNING = 4096  # bytes that tell a log from other JSON
_NOT_FINITE = re.compile(rb"(?<=[:,\[\s])(?:NaN|-?Infinity)(?=[,\]}\s])")
_POINTER = b"version https://git-lfs"

inner_runs = alone
inputs_of, read_trials = undivided, never_divided
overlay = run_of_overlay = nowhere
is_unique, key_from_names = common, untold


def recognises(folder: Folder) -> bool:
    """Never: a log is a file, not a folder."""
    return False


def is_file(name: str) -> bool:
    """`*.eval`, or JSON whose name starts with an ISO time, as for Inspect itself."""
    return name.endswith(".eval") or _JSON_NAME.fullmatch(name) is not None


def opened(folder: Folder, name: str) -> Folder:
    """A log as a folder: the members of a zip, or just the JSON document."""
    return ZipFolder(folder, name) if name.endswith(".eval") else OneFile(folder, name)


def run_folder(anchor: str) -> str | None:
    """A log stands for itself."""
    return anchor


def inputs(folder: Folder) -> list[str]:
    """None of its own: a log is one file."""
    return []


def read(folder: Folder, options: Options, earlier: Earlier) -> Run | None:
    """The run in a log; None if a JSON file is not a log. Raises Unreadable."""
    if isinstance(folder, ZipFolder):
        with folder.kept_open():
            return _of_zip(folder, options)
    assert isinstance(folder, OneFile)
    if not _looks_like_a_log(folder.beginning(_BEGINNING), folder.size(folder.name) or 0):
        return None
    data = folder.read(folder.name, _JSON_LIMIT) or b""
    log = read_document(Log, folder.name, _without_nan(data))
    if log.eval is None:
        raise Unreadable("", MALFORMED, "it says nothing of what was evaluated")
    told = Told(
        path=folder.path, layout="json", header=log, samples=log.samples or [], document=data, size=len(data)
    )  # fmt: skip
    return run_of(told, options)


def _without_nan(data: bytes) -> bytes:
    """Replace NaN and Infinity in a large document: they would force decoding all of it."""
    is_large = len(data) > _LARGE and (b"NaN" in data or b"Infinity" in data)
    return _NOT_FINITE.sub(b"null", data) if is_large else data


def _looks_like_a_log(beginning: bytes, size: int) -> bool:
    """Whether JSON begins like a log. Raises Unreadable if it is cut off too early to tell."""
    _require_no_pointer(beginning)
    if not beginning.strip() or (len(beginning) == size and not beginning.rstrip().endswith(b"}")):
        raise Unreadable("", MALFORMED, "it ends early")
    return b'"status"' in beginning and (b'"eval"' in beginning or b'"version"' in beginning)


def _require_no_pointer(beginning: bytes) -> None:
    if beginning.startswith(_POINTER):
        raise Unreadable("", "pointer", "a pointer of git LFS: the log is not in the repository")


def _of_zip(folder: ZipFolder, options: Options) -> Run:
    _require_no_pointer(folder.beginning(len(_POINTER)))
    name = HEADER if HEADER in folder.names else START
    data = folder.read(name, _HEADER_LIMIT)
    if data is None:
        raise Unreadable("", MALFORMED, "a zip file without the members of a log")
    header = read_document(Header, name, data)
    if header.eval is None:
        raise Unreadable(name, MALFORMED, "it says nothing of what was evaluated")
    if name == START:
        header.status = "started"
    told = Told(
        path=folder.path, layout="eval", header=header, samples=_summaries(folder), document=data, size=folder.file_size
    )  # fmt: skip
    run = run_of(told, options)
    odd = next((name for name in folder.names if name.startswith("/") or ".." in name.split("/")), None)
    if odd is not None:
        run.optional = {odd: "its name leads out of the log"}
    return run


def _summaries(folder: ZipFolder) -> Iterator[Summary | None]:
    """The final summaries, else those of the journal in order. Raises Unreadable."""
    if SUMMARIES in folder.names:
        yield from _listed(folder, SUMMARIES, _SUMMARIES_LIMIT)
        return
    left = _SUMMARIES_LIMIT
    numbered = sorted((int(match[1]), name) for name in folder.names if (match := _JOURNAL.fullmatch(name)))
    for _, name in numbered:
        yield from _listed(folder, name, left)
        left -= folder.size(name) or 0


def _listed(folder: ZipFolder, name: str, limit: int) -> list[Summary | None]:
    data = folder.read(name, limit) or b"[]"
    return read_document(Summaries, name, b'{"samples":' + data + b"}").samples
