"""Logs of Inspect: what is read of one file, against Inspect's own rules and real logs."""

import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from indexer import derive
from indexer.earlier import Nothing
from indexer.formats import inspect, recognise_file
from indexer.protocols import Options, Unreadable
from indexer.records import Run, Trial
from tests.formats.memory import MemoryFolder, totals
from tests.inspect_logs import NAME, Doc, document, ended, header, log, members, sample, spec, zipped
from tests.mutations import no_hang

JSON_NAME = NAME.replace(".eval", ".json")


def read_or_none(data: bytes, name: str = NAME, **options: Any) -> Run | None:
    found = recognise_file(MemoryFolder({f"logs/{name}": data}, "logs"), name)
    assert found is not None
    return found.read(Options(**options), Nothing())


def read(data: bytes, name: str = NAME, **options: Any) -> Run:
    run = read_or_none(data, name, **options)
    assert run is not None
    return run


def only(data: bytes, **options: Any) -> Trial:
    (trial,) = read(data, **options).trials
    return trial


def test_real_logs_are_read_as_they_should_be(shared: Path) -> None:
    folder = shared / "fixtures/inspect"
    expected = json.loads((folder / "expected_rows.json").read_text())
    for path, wanted in expected.items():
        parent, _, name = path.rpartition("/")
        file = recognise_file(MemoryFolder({path: (folder / path).read_bytes()}, parent), name)
        assert file is not None
        if "unreadable" in wanted:
            with suppress(Unreadable):
                assert file.read(Options(), Nothing()) is None  # JSON of something else
            continue
        run = file.read(Options(), Nothing())
        assert run is not None, path
        total = totals(run.trials)
        names = ("passed", "failed", "errored", "skipped", "cancelled", "trial_count")
        assert {name: total[name] for name in names} == {name: wanted[name] for name in names}, path
        assert {trial.trial: [trial.status, trial.score] for trial in run.trials} == wanted["trials"], path
        assert (run.key, run.experiment, run.planned_count) == (wanted["key"], wanted["experiment"], wanted["planned"])
        assert derive.status(run) == wanted["status"]
        assert run.timestamp == wanted["timestamp"].replace("+00:00", ".000Z")
        tags = set(run.tags.tags if run.tags else run.authored_tags)
        assert tags - {"invalidated"} == set(wanted["tags"]), path
        (reported,) = run.reported.values()
        if wanted["headline"] and wanted["headline"]["value"] is not None:
            assert reported.score == pytest.approx(wanted["headline"]["value"]), path


def test_tokens_and_times_are_those_that_inspect_tells(shared: Path) -> None:
    folder = shared / "fixtures/inspect"
    truth = json.loads((folder / "truth.json").read_text())
    seen = 0
    for path, told in truth.items():
        if "unreadable" in told or path.endswith(".json"):
            continue
        run = read((folder / path).read_bytes(), Path(path).name)
        by_name = {trial.trial: trial for trial in run.trials}
        for each in told.get("samples") or []:
            trial = by_name[f"{each['id']}_epoch_{each['epoch']}"]
            usage = list((each.get("model_usage") or {}).values())
            if usage:
                seen += 1
                assert trial.output_tokens == sum(model["output_tokens"] for model in usage), path
                assert (trial.cached_tokens or 0) == sum(model.get("input_tokens_cache_read") or 0 for model in usage)
            assert trial.duration_s == pytest.approx(each["total_time"]) if each.get("total_time") else True
            assert (trial.error is None) == (each["error"] is None and each["limit"] is None), (path, each)
    assert seen > 50


@pytest.mark.parametrize(
    ("usages", "tokens"),
    [
        ([{"input_tokens": 1000}, {"input_tokens": 2000}], 3000),
        ([{"input_tokens": 1000}, {"output_tokens": 2000}], 1000),
        ([{"output_tokens": 7}], None),
        ([{"input_tokens": 2**63 - 1}], 2**63 - 1),
        ([{"input_tokens": 2**62}, {"input_tokens": 2**62}], None),  # beyond 64 bits
        ([{"input_tokens": 100, "input_tokens_cache_read": 50, "total_tokens": 160, "output_tokens": 10}], 150),
        ([{"input_tokens": 100, "input_tokens_cache_read": 50, "total_tokens": 110, "output_tokens": 10}], 100),
        ([{"input_tokens": 100, "input_tokens_cache_read": 50, "total_tokens": 10, "output_tokens": 10}], 150),
        ([{"input_tokens": 100, "input_tokens_cache_write": 50}], 150),
    ],
)
def test_input_tokens_include_cached_ones_of_all_models(usages: list[dict[str, int]], tokens: int | None) -> None:
    told = {f"acme/m{number}": usage for number, usage in enumerate(usages)}
    assert only(ended(sample(model_usage=told))).input_tokens == tokens


@pytest.mark.parametrize(("scorer", "rate", "score"), [("s1", 0.1, 0.1), ("s2", 0.9, 0.7)])
def test_what_is_reported_is_that_of_the_headline(scorer: str, rate: float, score: float) -> None:
    results = {
        "scores": [
            None,
            {"name": "a", "scorer": "s1", "metrics": {"accuracy": {"value": 0.1}}},
            {"name": "b", "scorer": "s2", "metrics": {"mean": {"value": 0.7}, "accuracy": {"value": 0.9}}},
        ],
        "headline": {"scorer": scorer, "score": "a" if scorer == "s1" else "b"},
    }
    (found,) = read(ended(sample(), results=results)).reported.values()
    assert (found.pass_rate, found.score) == (rate, score)


def test_the_first_declared_metric_counts_before_there_are_results() -> None:
    scorers = [{"name": "match", "metrics": {"x": [], "*": [], "y": []}}]
    trial = only(ended(sample(value={"x": 1.0, "y": 0.0}), eval=spec(scorers=scorers), results=None))
    assert (trial.score, trial.status) == (1.0, "passed")


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("success", "completed"),
        ("cancelled", "cancelled"),
        ("error", "failed"),
        ("started", "running"),
        ("odd", "completed"),
        (None, "completed"),
    ],
)
def test_how_a_run_ended(status: Any, found: str) -> None:
    run = read(ended(sample(), status=status))
    assert derive.status(run) == found
    assert run.running_count == (None if found == "running" else 0)
    assert (run.planned_count, run.duration_s, run.size_bytes > 500) == (4, 60.0, True)


def test_a_log_without_a_header_runs_by_its_journal_in_the_order_of_numbers() -> None:
    repeated = [sample(f"q{number}", "I") for number in range(11)] + [sample("q3", "C")]
    run = read(log(repeated))
    assert (derive.status(run), len(run.trials)) == ("running", 11)
    assert {trial.test_id: trial.status for trial in run.trials}["q3"] == "passed"
    assert (run.rank, read(log([])).rank) == ("2026-01-05T09:00:00.000Z", "")
    assert (read(log([])).configuration, run.finished_at) == (("acme/alpha", "generate", "alpha", "sums"), None)


def test_of_members_of_one_name_the_last_counts() -> None:
    twice = [
        *members([sample(value="I")], header()).items(),
        ("summaries.json", json.dumps([sample(value="C")]).encode()),
    ]
    assert only(zipped(twice)).status == "passed"


VALUES = [
    ("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), (True, 1.0), (False, 0.0), (0.25, 0.25), ("yes", 1.0), ("No", 0.0),
    ("TRUE", 1.0), ("0.5", 0.5), ("1e-1", 0.1), ("maybe", None), ([1], None), ({"a": 1}, None), (None, None),
    ("nan", None), ("1_000", None), (float("nan"), None), ("inf", None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "number"), VALUES)
def test_values_are_numbers_as_inspect_takes_them(value: Any, number: float | None) -> None:
    trial = only(ended(sample(scores={"match": {"value": value}})))
    assert trial.score == number
    assert trial.status == ("skipped" if number is None else "passed" if number >= 1 else "failed")


@pytest.mark.parametrize(
    ("fields", "status", "kind", "error"),
    [
        ({"error": "RuntimeError('gone')"}, "failed", "RuntimeError", "RuntimeError('gone')"),  # score_on_error
        ({"scores": {}, "error": "CancelledError()"}, "cancelled", "CancelledError", "CancelledError()"),
        ({"scores": {}, "error": "it broke\nmore"}, "errored", "Error", "it broke"),
        ({"scores": {}, "error": {"message": "KeyError('a')"}}, "errored", "KeyError", "KeyError('a')"),
        ({"limit": "time", "limit_reason": "too long"}, "failed", "limit:time", "too long"),
        ({"limit": {"type": "token", "reason": "many"}, "scores": {}}, "skipped", "limit:token", "many"),
        ({"scores": {}}, "skipped", None, None),
    ],
)
def test_errors_and_limits(fields: Doc, status: str, kind: str | None, error: str | None) -> None:
    trial = only(ended(sample(value="I") | fields))
    assert (trial.status, trial.error_type, trial.error) == (status, kind, error)


def test_which_score_is_the_verdict() -> None:
    scores = {"a": {"value": 0}, "b": {"value": {"x": 1, "y": "P"}}}
    for results, evaluated, number in (
        ({"headline": {"scorer": "b", "score": "y"}}, {}, 0.5),
        ({"scores": [{"name": "x", "scorer": "b"}]}, {}, 1.0),
        (None, {"headline_metric": {"scorer": "b", "score": "x"}}, 1.0),
        (None, {"scorers": [{"name": "b", "metrics": {"y": []}}]}, 0.5),
        (None, {"scorers": [{"name": "b", "metrics": {"*": [], "x": []}}]}, 1.0),
        (None, {"scorers": None}, 0.0),
        ({"scorer": "a", "metrics": {}}, {}, 0.0),
    ):
        trial = only(ended(sample(scores=scores), results=results, eval=spec(**evaluated)))
        assert trial.score == number, (results, evaluated)
    assert [(s.name, s.type, s.score, s.passed) for s in trial.scores] == [
        ("a", "a", 0.0, False), ("b/x", "b", 1.0, True), ("b/y", "b", 0.5, False)
    ]  # fmt: skip


def test_scores_of_another_scale_are_no_verdicts_unless_a_threshold_says() -> None:
    data = ended(sample("q1", 7.5), sample("q2", 0.5))
    assert [(trial.status, trial.score) for trial in read(data).trials] == [("skipped", 7.5), ("skipped", 0.5)]
    judged = read(data, inspect_tasks={"sums": 7.0})
    assert [trial.status for trial in judged.trials] == ["passed", "failed"]
    half = read(ended(sample("q1", 0.5)), inspect_threshold=0.5)
    assert [trial.status for trial in half.trials] == ["passed"]


def test_tokens_include_what_was_cached_unless_the_provider_counts_it_in() -> None:
    trial = only(ended(sample()))
    assert (trial.input_tokens, trial.cached_tokens, trial.output_tokens, trial.reasoning_tokens) == (13, 3, 5, None)
    old = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_cache_read": 4, "total_cost": 0.5}
    trial = only(ended(sample(model_usage={"a": old, "b": old})))
    assert (trial.input_tokens, trial.cached_tokens, trial.cost_usd) == (20, 8, 1.0)
    assert only(ended(sample(model_usage={}))).output_tokens is None


def test_numbers_beyond_what_an_index_holds_are_unknown() -> None:
    huge = {"input_tokens": 2**63 - 1, "output_tokens": 1, "input_tokens_cache_read": 2**63 - 1}
    assert only(ended(sample(model_usage={"a": huge}))).input_tokens is None
    assert read(ended(sample(), eval=spec(config={"epochs": 2**62}))).planned_count is None


def test_ids_that_are_masked_alike_stay_apart() -> None:
    ids = [f"ghp_{letter * 20}" for letter in "ab"] + ["***#2", "***"]
    names = [trial.trial for trial in read(ended(*(sample(each) for each in ids))).trials]
    assert len(set(names)) == 4


def test_targets_agents_and_efforts() -> None:
    def told(**fields: Any) -> tuple[Any, ...]:
        trial = only(ended(sample(), **fields))
        return trial.target, trial.agent, trial.provider, trial.model

    assert told() == ("acme/alpha", "generate", "acme", "alpha")
    assert told(eval=spec(solver="react")) == ("react/acme/alpha", "react", "acme", "alpha")
    assert told(eval=spec(model="none/none")) == ("generate", "generate", None, None)
    effort = {"steps": [], "config": {"reasoning_effort": "high"}}
    assert told(plan=effort) == ("acme/alpha@high", None, "acme", "alpha")
    given = spec(model="hf/org/name", model_generate_config={"reasoning_effort": "low"})
    assert told(eval=given) == ("hf/org/name@low", "generate", "hf", "org/name")
    assert read(ended(sample()), aliases={"alpha": "a-1"}).trials[0].model == "a-1"
    several = {"steps": [{"solver": "system_message"}, {"solver": "basic_agent"}], "config": {}}
    assert told(plan=several)[:2] == ("acme/alpha", "basic_agent")  # the last one answers


def test_tags_are_those_of_the_last_edit() -> None:
    edit = {"edits": [{"type": "tags"}], "provenance": {"timestamp": "2026-01-06T00:00:00Z"}}
    run = read(ended(sample(), tags=["reviewed"], log_updates=[edit], invalidated=True))
    assert run.tags is not None
    assert (run.tags.tags, run.tags.updated_at) == (["reviewed", "invalidated"], "2026-01-06T00:00:00.000Z")
    assert (run.authored_tags, run.updated_at) == (["nightly"], "2026-01-06T00:00:00.000Z")
    assert read(log([])).authored_tags == ["nightly"]


def test_equal_conditions_have_equal_checksums() -> None:
    def checksum(**fields: Any) -> str | None:
        return only(ended(sample(), eval=spec(**fields))).task_checksum

    assert checksum(task_args_passed={"a": 1, "b": 2}) == checksum(task_args_passed={"b": 2, "a": 1})
    assert checksum(task_args_passed={"subset": "easy"}) != checksum(task_args_passed={"subset": "hard"})


def test_json_logs() -> None:
    unscored = sample("q2", float("nan"), messages=[{"content": "a, NaN, b"}])
    run = read(document([sample(), unscored]), JSON_NAME)
    assert [(trial.test_id, trial.status) for trial in run.trials] == [("q1", "passed"), ("q2", "skipped")]
    assert (run.layout, run.run_id) == ("json", JSON_NAME.removesuffix(".json"))
    oldest = {"id": 1, "epoch": 1, "score": {"value": "I"}}
    (trial,) = read(document([oldest], results={"scorer": "match", "metrics": {}}), JSON_NAME).trials
    assert (trial.trial, trial.status, [score.name for score in trial.scores]) == ("1_epoch_1", "failed", ["match"])
    assert read_or_none(b'{"notes": "of the meeting"}', JSON_NAME) is None


@pytest.mark.parametrize(
    ("name", "is_log"),
    [
        ("best run.eval", True), (NAME, True), (JSON_NAME, True), ("2026-11-26T00:17:11_x.json", True),
        ("logs.json", False), ("eval-set.json", False), ("x.evaluation", False), (".inspect_tmp_a.writing", False),
    ],
)  # fmt: skip
def test_which_files_are_logs(name: str, is_log: bool) -> None:
    assert inspect.is_file(name) is is_log


def test_what_the_run_was_given_is_masked_in_errors() -> None:
    given = spec(model_args={"api_key": "hunter22"}, task_args={"subset": "easy-ones"})
    message = f"ProxyError('user:hunter2@proxy.example easy-ones hunter22 {'a' * 22}')"
    run = read(ended(sample(value=None, error=message), eval=given, error={"message": message}, status="error"))
    assert run.error == run.trials[0].error == f"ProxyError('***@proxy.example easy-ones *** {'a' * 22}')"
    assert read(ended(sample(value=None, error=message), eval=given), errors=False).trials[0].error is None
    ended_well = read(ended(sample(value=None, error=message), eval=given))
    assert (ended_well.error, ended_well.trials[0].error) == (None, run.error)


BOMB = zstandard.ZstdCompressor().compress(b" " * (64 << 20))
HOSTILE = {
    "empty": b"",
    "no zip": b"hello",
    "cut": ended(sample())[:-30],
    "no log": zipped({"a.txt": b"a"}),
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "encrypted": zipped(members([sample()], header()), flags=1),
    "unknown compression": zipped(members([sample()], header()), method=12),
    "wrong checksum": zipped(members([sample()], header()), checksum=7),
    "too large": zipped({"header.json": b"{}"}, size=1 << 31),
    "larger than told": zipped({"header.json": json.dumps(header()).encode()}, size=10),
    "elsewhere": zipped(members([sample()], header()), offset=3),
    "bomb": zipped({"header.json": BOMB}, method=0).replace(b"\0\0\0\0!\0", b"\0\0\0\0!\0"),
    "no task": ended(sample(), eval=spec(task_id=None, eval_id=None)),
    "no time": ended(sample(), eval=spec(created="yesterday")),
    "no eval": zipped({"header.json": b'{"status": "success"}'}),
    "no list": zipped(members([], header()) | {"summaries.json": b'{"a": 1}'}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_is_one_reason(name: str) -> None:
    with no_hang(), pytest.raises(Unreadable) as error:
        read(HOSTILE[name])
    assert error.value.message


def test_a_bomb_is_unpacked_no_further_than_is_read() -> None:
    huge = b" " * (40 << 20)
    with pytest.raises(Unreadable, match="more than the"):
        read(zipped({"header.json": huge, "_journal/start.json": b"{}"}))
    lying = zipped({"header.json": huge}, size=100)
    with pytest.raises(Unreadable, match="does not match the directory"):
        read(lying)


def test_no_log_is_unpacked_to_thousands_of_times_its_size() -> None:
    many = b'[{"id":1,"scores":{"a":{"value":[' + b"[]," * 20_000_000 + b"[]]}}}]"
    with pytest.raises(Unreadable, match="times its size"):
        read(zipped(members([sample()], header()) | {"summaries.json": many}))


def test_a_member_whose_name_leads_out_is_told_and_the_run_is_read() -> None:
    run = read(zipped(members([sample()], header()) | {"samples/../../x.json": b"{}"}))
    assert (len(run.trials), dict(run.optional)) == (1, {"samples/../../x.json": "its name leads out of the log"})


@pytest.mark.parametrize("number", range(4))
def test_mutated_logs_give_a_run_or_a_reason(number: int) -> None:
    chance = random.Random(number)
    whole = ended(*(sample(f"q{each}") for each in range(5)))
    parts = members([sample()], header())
    told = {"run": 0, "reason": 0}
    for _ in range(400):
        data = bytearray(whole)
        match chance.randrange(4):
            case 0:
                del data[chance.randrange(len(data)) :]
            case 1:
                for _ in range(chance.randrange(1, 9)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
            case 2:
                names = list(parts)
                shuffled = dict(zip(names, chance.sample([parts[each] for each in names], len(names)), strict=True))
                data = bytearray(zipped(shuffled))
            case 3:
                at = chance.randrange(len(data))
                data[at:at] = os.urandom(chance.randrange(1, 60))
        try:
            with no_hang():
                read_or_none(bytes(data))
            told["run"] += 1
        except Unreadable:
            told["reason"] += 1
    assert min(told.values()) > 20, told


@pytest.mark.parametrize("document", [{"status": "ok"}, {"version": 2}, {"eval": {}}, {}])
def test_other_json_is_no_log(document: dict[str, Any]) -> None:
    assert inspect._looks_like_a_log(json.dumps(document).encode(), 1 << 20) is False
    both = json.dumps(document | {"status": "success", "eval": {}}).encode()
    assert inspect._looks_like_a_log(both, 1 << 20) is True
