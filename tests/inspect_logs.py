"""Small logs of Inspect, made by hand."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

TASK_ID = "aaaaaaaaaaaaaaaaaaaaaa"
NAME = f"2026-01-05T09-00-00-00-00_sums_{TASK_ID}.eval"
Doc = dict[str, Any]


def sample(identity: Any = "q1", value: Any = "C", epoch: int = 1, **fields: Any) -> Doc:
    """A summary of a sample, scored by `match`; without a score where the value is missing."""
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 18, "input_tokens_cache_read": 3}
    return {
        "id": identity,
        "epoch": epoch,
        "scores": {} if value is None else {"match": {"value": value}},
        "model_usage": {"acme/alpha": usage},
        "started_at": "2026-01-05T09:00:01.000001+00:00",
        "completed_at": "2026-01-05T09:00:03.500001+00:00",
        "total_time": 2.5,
        "turn_count": 2,
    } | fields


def spec(**fields: Any) -> Doc:
    return {
        "task_id": TASK_ID,
        "eval_id": "e" * 22,
        "created": "2026-01-05T09:00:00+00:00",
        "task": "sums",
        "tags": ["nightly"],
        "model": "acme/alpha",
        "dataset": {"name": "d", "samples": 3, "sample_ids": ["q1", "q2"]},
        "config": {"epochs": 2},
        "scorers": [{"name": "match", "metrics": [{"name": "inspect_ai/accuracy"}]}],
    } | fields


def header(status: str | None = "success", eval: Doc | None = None, **fields: Any) -> Doc:
    scores = [{"name": "match", "scorer": "match", "metrics": {"accuracy": {"value": 0.5}}}]
    return {
        "version": 2,
        "status": status,
        "eval": eval or spec(),
        "plan": {"steps": [{"solver": "generate"}], "config": {}},
        "results": {"scores": scores, "headline": {"scorer": "match", "score": "match", "metric": "accuracy"}},
        "stats": {"started_at": "2026-01-05T09:00:00+00:00", "completed_at": "2026-01-05T09:01:00+00:00"},
        "tags": ["nightly"],
    } | fields


def members(samples: Sequence[Doc], header: Doc | None, eval: Doc | None = None) -> dict[str, bytes]:
    """The members of a log: ended with a header, running or killed without."""
    start = {
        "version": 2,
        "eval": (header or {}).get("eval") or eval or spec(),
        "plan": {"steps": [{"solver": "generate"}]},
    }
    found: dict[str, Any] = {"_journal/start.json": start}
    found |= {f"samples/{each['id']}_epoch_{each['epoch']}.json": {**each, "messages": []} for each in samples}
    found |= {f"_journal/summaries/{at + 1}.json": [each] for at, each in enumerate(samples)}
    if header is not None:
        found |= {"summaries.json": list(samples), "header.json": header}
    return {name: json.dumps(content).encode() for name, content in found.items()}


def log(samples: Sequence[Doc] = (), header: Doc | None = None, *, zstd: bool = True, eval: Doc | None = None) -> bytes:
    return zipped(members(samples, header, eval), method=93 if zstd else zipfile.ZIP_DEFLATED)


def ended(*samples: Doc, **fields: Any) -> bytes:
    return log(samples, header(**fields))


def zipped(
    content: Mapping[str, bytes] | Sequence[tuple[str, bytes]],
    *,
    method: int = 93,
    flags: int = 0,
    size: int | None = None,
    checksum: int | None = None,
    offset: int | None = None,
) -> bytes:
    """A zip file; the last arguments are what its directory says though it is not so."""
    written, directory = io.BytesIO(), io.BytesIO()
    listed = list(content.items() if isinstance(content, Mapping) else content)
    for name, data in listed:
        packed = _packed(data, method)
        raw, at = name.encode(), written.tell()
        sizes = (zlib.crc32(data) if checksum is None else checksum, len(packed), len(data) if size is None else size)
        common = struct.pack("<HHHHHIII", 20, flags | 0x800, method, 0, 0x21, *sizes)
        written.write(b"PK\x03\x04" + common + struct.pack("<HH", len(raw), 0) + raw + packed)
        directory.write(
            b"PK\x01\x02" + struct.pack("<H", 20) + common
            + struct.pack("<HHHHHII", len(raw), 0, 0, 0, 0, 0, at if offset is None else offset) + raw
        )  # fmt: skip
    listing, at = directory.getvalue(), written.tell()
    end = struct.pack("<HHHHIIH", 0, 0, len(listed), len(listed), len(listing), at, 0)
    return written.getvalue() + listing + b"PK\x05\x06" + end


def _packed(data: bytes, method: int) -> bytes:
    if method == 93:
        import zstandard  # the playground writes logs without it

        half = len(data) // 2  # of several frames
        return b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:]))
    if method == zipfile.ZIP_DEFLATED:
        packing = zlib.compressobj(wbits=-15)
        return packing.compress(data) + packing.flush()
    return data


def document(samples: Sequence[Doc], **fields: Any) -> bytes:
    """A `.json` log; NaN is written as Python does."""
    return json.dumps({**header(**fields), "samples": list(samples)}).encode()
