"""Members of a zip file as a folder: what the standard library's zipfile says of the same bytes."""

import io
import zipfile

import pytest

from indexer.formats.zipped import ZipFolder
from indexer.protocols import Unreadable
from tests.formats.memory import MemoryFolder
from tests.inspect_logs import zipped

CONTENT = {
    "header.json": b'{"a": 1}' * 99,
    "samples/1_epoch_1.json": b"x" * 70_000,
    "samples/deep/2.json": b"",
    "z": b"z",
}


def folder(data: bytes) -> ZipFolder:
    return ZipFolder(MemoryFolder({"logs/run.eval": data}, "logs"), "run.eval")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
def test_members_are_files_in_folders(method: int) -> None:
    whole = folder(zipped(CONTENT, method=method))
    assert (set(whole.files()), set(whole.folders())) == ({"header.json", "z"}, {"samples"})
    inside = whole.find("samples")
    assert inside is not None
    assert (set(inside.files()), set(inside.folders())) == ({"1_epoch_1.json"}, {"deep"})
    assert inside.path == "logs/run.eval/samples"
    assert whole.find("z") is None
    for name, data in CONTENT.items():
        assert (whole.size(name), whole.read(name, len(data))) == (len(data), data)
        if data:
            with pytest.raises(Unreadable):
                whole.read(name, len(data) - 1)
    assert (inside.size("1_epoch_1.json"), inside.size("z"), whole.read("no", 9)) == (70_000, None, None)
    opened = inside.open("1_epoch_1.json")
    assert opened is not None
    assert opened.read(5) == b"xxxxx"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_zipfile_writes_is_read(compression: int) -> None:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as file:
        for name, data in CONTENT.items():
            file.writestr(name, data)
    whole = folder(written.getvalue())
    assert {name: whole.read(name, 1 << 20) for name in whole.names} == CONTENT


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
@pytest.mark.parametrize("told", [0, 7, 9])
def test_a_member_of_another_size_than_the_directory_says_is_refused(method: int, told: int) -> None:
    with pytest.raises(Unreadable, match="does not match the directory"):
        folder(zipped({"header.json": b"12345678"}, method=method, size=told)).read("header.json", 100)
