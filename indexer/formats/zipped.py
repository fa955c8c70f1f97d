"""A zip file as a read-only folder of its members; only requested members are read, by random access.

Members may be stored, deflated or, as Inspect writes them, compressed with zstandard (method 93), which Python's
zipfile reads from 3.14 on. Duplicate names are normal: the last one counts. The central directory is not trusted: no
more is unpacked than may be read, and lengths and checksums have to match.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import IO

import zstandard

from indexer.protocols import MALFORMED, Folder, Unreadable

DIRECTORY_LIMIT = 64 * 2**20
"""The most bytes of a central directory."""
MEMBER_LIMIT = 256 * 2**20
"""The most bytes of a member opened for random access."""
_ROOM, _MOST_TIMES = 16 * 2**20, 500
"""Zip bomb guard: bytes that any member may have, and the highest compression ratio beyond them."""
_ZSTANDARD = 93
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, zlib.error, zstandard.ZstdError, EOFError,
           NotImplementedError, ValueError, OverflowError, RuntimeError, UnicodeError, OSError)  # fmt: skip
"""What zipfile and the decompressors raise for files that are damaged or not a zip file."""


class ZipFolder:
    """The members of the zip file `name` in a folder. All methods raise Unreadable if it is not a zip file."""

    def __init__(self, parent: Folder, name: str, inside: str = ""):
        self._parent, self._name, self._inside = parent, name, inside
        self.path = "/".join(filter(None, (parent.path, name, inside.rstrip("/"))))
        self.ref = parent.ref
        self._kept: IO[bytes] | None = None

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Open the file once, so that several calls see the same state of it."""
        with self._opened() as self._kept:
            try:
                yield
            finally:
                self._kept = None

    def files(self) -> Collection[str]:
        return self._listed[0]

    def folders(self) -> Collection[str]:
        return self._listed[1]

    def find(self, path: str) -> "ZipFolder | None":
        inside = f"{self._inside}{path}/"
        if not path or not any(name.startswith(inside) for name in self._members):
            return None
        return ZipFolder(self._parent, self._name, inside)

    def elsewhere(self, path: str) -> Folder | None:
        return self._parent.elsewhere(path)

    def size(self, path: str) -> int | None:
        member = self._members.get(self._inside + path)
        return None if member is None else member.file_size

    def read(self, path: str, limit: int) -> bytes | None:
        member = self._members.get(self._inside + path)
        if member is None:
            return None
        if member.flag_bits & _ENCRYPTED:
            raise Unreadable(path, "encrypted", "it is encrypted")
        if member.file_size > limit:
            raise Unreadable(path, "too-large", f"{member.file_size:,} bytes are more than the {limit:,} that are read")
        if member.file_size > _ROOM + _MOST_TIMES * member.compress_size:
            times = member.file_size // max(member.compress_size, 1)
            raise Unreadable(path, "too-large", f"it would unpack to {times:,} times its size, far more than any log")
        with self._file() as file:
            try:
                data = _unpacked(file, member)
            except _BROKEN as error:
                raise Unreadable(path, MALFORMED, f"not a readable member: {_said(error)}") from None
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise Unreadable(path, MALFORMED, "its content does not match the directory of the zip file")
        return data

    def open(self, path: str) -> IO[bytes] | None:
        data = self.read(path, MEMBER_LIMIT)
        return None if data is None else io.BytesIO(data)

    @property
    def file_size(self) -> int:
        """Bytes of the zip file itself."""
        return self._parent.size(self._name) or 0

    def beginning(self, length: int) -> bytes:
        """The first bytes of the zip file itself. Raises Unreadable."""
        try:
            with self._file() as file:
                file.seek(0)
                return file.read(length)
        except OSError as error:
            raise Unreadable("", "denied", f"it cannot be read: {_said(error)}") from None

    @property
    def names(self) -> Collection[str]:
        """The full names of all members."""
        return self._members.keys()

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        with self._file() as file:
            try:
                _require_small_directory(file)
                members = zipfile.ZipFile(file).infolist()
            except _BROKEN as error:
                raise Unreadable("", MALFORMED, f"not a readable zip file: {_said(error)}") from None
        return {member.filename: member for member in members}

    @cached_property
    def _listed(self) -> tuple[set[str], set[str]]:
        inside = [name[len(self._inside) :] for name in self._members if name.startswith(self._inside)]
        return {name for name in inside if name and "/" not in name}, {
            name.partition("/")[0] for name in inside if "/" in name
        } - {""}

    @contextmanager
    def _file(self) -> Iterator[IO[bytes]]:
        if self._kept is not None:
            yield self._kept
            return
        with self._opened() as file:
            yield file

    def _opened(self) -> IO[bytes]:
        file = self._parent.open(self._name)
        if file is None:
            raise Unreadable("", "vanished", "it vanished while it was read")
        return file


def _require_small_directory(file: IO[bytes]) -> None:
    """Raises Unreadable for an oversized central directory; zipfile would read it whole."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile("it has no end record")
    if end[5] > DIRECTORY_LIMIT:
        raise Unreadable("", "too-large", f"its directory has {end[5]:,} bytes, more than are read")


def _unpacked(file: IO[bytes], member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, at most one more than the directory says."""
    limit = member.file_size
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    if header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("a member is not where the directory says")
    name, extra = struct.unpack("<HH", header[26:30])
    file.seek(name + extra, io.SEEK_CUR)
    packed = file.read(min(member.compress_size, limit + 2**16))
    if member.compress_type == zipfile.ZIP_STORED:
        return packed[: limit + 1]
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-15).decompress(packed, limit + 1)
    if member.compress_type == _ZSTANDARD:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            return reader.read(limit + 1)
    raise NotImplementedError(f"compression {member.compress_type} is unknown")


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:100]
