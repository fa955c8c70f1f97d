import json
from collections.abc import Mapping
from typing import Any

import pytest

from indexer.formats import agentv, recognise
from indexer.index.totals import status as run_status
from indexer.index.totals import totals
from indexer.protocols import Nothing, Options, Unreadable
from indexer.records import Run, Tags
from tests.bundles import NAME, Files, at, bundle, row
from tests.formats.memory import MemoryFolder

FOLDER = f"runs/with_skills/{NAME}"


def read(files: Mapping[str, str | bytes], path: str = FOLDER, ref: str | None = "r", **options: Any) -> Run:
    folder = MemoryFolder({f"{path}/{name}": text for name, text in files.items()}, path, ref)
    assert recognise(folder) is agentv
    run = agentv.read(folder, Options(**options), Nothing())
    assert run is not None
    return run


PLACES = [
    # layout, path, in git, run id, layout's name, experiment without metadata
    ("v0", f"evals/out/with_skills/{NAME}", True, f"with_skills::{NAME}", "v0", "evals/out/with_skills"),
    ("v2", f".agentv/results/runs/with_skills/{NAME}", True, f"with_skills::{NAME}", "v2", "with_skills"),
    ("v3", f"runs/with_skills/{NAME}", True, f"with_skills::{NAME}", "v3", "with_skills"),
    ("v3", f"runs/with_skills/{NAME}", False, f"with_skills::{NAME}", "v3", "with_skills"),
    ("v5", f"with_skills/{NAME}", False, f"with_skills::{NAME}", "v5", "with_skills"),
    ("v5", f".agentv/results/with_skills/{NAME}", False, f"with_skills::{NAME}", "v5", "with_skills"),
    ("v6", f"runs/with_skills/{NAME}", True, f"with_skills::{NAME}", "v6", "with_skills"),
    ("v6c", f"runs/with_skills/{NAME}", True, f"with_skills::{NAME}", "v6", "with_skills"),
    ("v7", f"runs/{NAME}", True, NAME, "v7", "default"),
    ("v7", NAME, False, NAME, "v7", "default"),
    ("v8", NAME, True, NAME, "v8", "default"),
    ("v9", NAME, True, NAME, "v9", "default"),
    ("v9", f".agentv/results/{NAME}", False, NAME, "v9", "default"),
]


@pytest.mark.parametrize(("layout", "path", "in_git", "run_id", "called", "from_path"), PLACES)
def test_every_layout_gives_the_same_run(
    layout: str, path: str, in_git: bool, run_id: str, called: str, from_path: str
) -> None:
    run = read(bundle(layout), path, "r" if in_git else None)
    total = totals(run.trials)
    assert (run.key, run.run_id, run.layout) == (f"agentv:{run_id}", run_id, called)
    assert (run.experiment, run.timestamp) == ("with_skills", "2026-01-05T09:00:00.123Z")
    assert (total["passed"], total["failed"], total["test_count"], total["avg_score"]) == (1, 1, 2, 0.75)
    assert run.reported["mock-alpha"].pass_rate == 0.75
    assert run_status(run) == "completed"
    assert read(bundle(layout, experiment=None), path, "r" if in_git else None).experiment == from_path


def test_nested_and_non_ascii_experiments_belong_to_the_run_id() -> None:
    for experiment in ("retrieval/bm25", "überprüfung", "v2 prompt"):
        run = read(bundle(experiment=None), f"runs/{experiment}/{NAME}")
        assert (run.experiment, run.run_id) == (experiment, f"{experiment}::{NAME}")


def test_the_default_experiment_is_not_part_of_the_run_id() -> None:
    assert read(bundle(experiment="default"), f"runs/default/{NAME}").run_id == NAME


def test_a_folder_with_a_name_of_its_own_gets_the_first_rows_time_into_its_key() -> None:
    rows = [row("t1", timestamp="2026-01-05T09:00:05Z"), row("t2", timestamp="2026-01-05T10:00:04+01:00")]
    run = read(bundle(rows=rows), "runs/with_skills/my-run")
    assert run.key == "agentv:with_skills::my-run@2026-01-05T09:00:04.000Z"
    assert run.timestamp == "2026-01-05T09:00:01.000Z"  # the metadata's


def test_without_any_time_a_run_cannot_be_read() -> None:
    files = {"index.jsonl": json.dumps({"test_id": "t1", "score": 1})}
    with pytest.raises(Unreadable, match="when this run began"):
        read(files, "runs/x/my-run")


def test_case_summaries_are_no_runs() -> None:
    tree = at(f"runs/{NAME}", bundle("v7"))
    assert recognise(MemoryFolder(tree, f"runs/{NAME}/refund/t1")) is None


def test_a_run_whose_rows_do_not_exist_yet_is_running() -> None:
    for layout, path in (("v3", FOLDER), ("v6", FOLDER)):
        stub = {k: v for k, v in bundle(layout, [], planned=3, summary={}).items() if not k.endswith("jsonl")}
        run = read(stub, path)
        assert (run_status(run), run.planned_count, run.trials) == ("running", 3, [])


def test_the_aggregate_decides_what_a_run_in_progress_is() -> None:
    assert run_status(read(bundle(planned=3, summary={}))) == "running"
    assert run_status(read(bundle(planned=3))) == "cancelled"
    assert run_status(read(bundle(planned=2))) == "completed"
    assert run_status(read(bundle(rows=[row(score=0, status="execution_error")]))) == "failed"
    assert run_status(read({"index.jsonl": json.dumps(row())})) == "running"


def test_the_last_of_repeated_rows_wins_and_targets_and_variants_stay_apart() -> None:
    rows = [row("t1", 0), row("t1", 1), row("t1", 0.5, target="other"), row("t1", 0.9, variant="b")]
    run = read(bundle(rows=rows))
    assert [(t.trial, t.score) for t in run.trials] == [
        ("refund/t1/mock-alpha/1", 1.0),
        ("refund/t1/other/1", 0.5),
        ("refund/t1/mock-alpha/1#2", 0.9),
    ]


def test_repeats_are_trials_and_share_what_the_row_tells_of_all() -> None:
    samples = [
        {"sample_index": 0, "score": 1, "execution_status": "ok"},
        {"sample_index": 1, "score": 0.8},
        {"sample_index": 2, "score": 0, "execution_status": "execution_error", "error": "boom", "duration_ms": 5},
    ]
    shared: dict[str, Any] = {"cost_usd": 0.3, "duration_ms": 3000, "token_usage": {"input": 100, "output": 7}}
    run = read(bundle("v9", [row("t1", 0.9, samples=samples, **shared)], planned=1), NAME)
    assert [(t.attempt, t.status) for t in run.trials] == [(1, "passed"), (2, "passed"), (3, "errored")]
    assert [t.input_tokens for t in run.trials] == [34, 33, 33]
    assert [t.duration_s for t in run.trials] == [1.0, 1.0, 0.005]
    total = totals(run.trials)
    assert (total["input_tokens"], total["output_tokens"], total["test_count"]) == (100, 7, 1)
    assert total["cost_usd"] == pytest.approx(0.3)
    assert run.planned_count == 3
    earlier = [{"attempt": 0, "score": 1, "execution_status": "ok"}, {"attempt": 1, "score": 0}]
    run = read(bundle("v6", [row("t1", trials=earlier)]))
    assert [(t.attempt, t.status) for t in run.trials] == [(1, "passed"), (2, "failed")]


def test_errors_count_against_but_not_in_quality() -> None:
    rows = [row("t1", 1), row("t2", 0.5), row("t3", 0, status="execution_error", error="CLI exited with code 3")]
    total = totals(read(bundle(rows=rows)).trials)
    assert (total["trial_count"], total["errored"], total["exceptions"]) == (3, 1, 1)
    assert (total["pass_rate"], total["avg_score"]) == (1 / 3, 0.5)
    assert (total["quality_rate"], total["quality_score"]) == (0.5, 0.75)


def test_without_a_status_the_score_decides() -> None:
    rows = [{"test_id": f"t{n}", "score": score} for n, score in enumerate((0.8, 0.79, None))]
    run = read(bundle(rows=rows))
    assert [t.status for t in run.trials] == ["passed", "failed", "skipped"]
    assert [t.status for t in read(bundle(rows=rows), agentv_threshold=0.5).trials][:2] == ["passed", "passed"]


def test_zero_tokens_beside_unavailable_are_unknown() -> None:
    usage: dict[str, Any] = {"token_usage": {"input": 0, "output": 0}, "cost_usd": 0}
    metrics = {"tokens": {"source": "unavailable"}, "cost": {"source": "unavailable"}}
    for files in (
        bundle("v9", [row(**usage)], metrics=metrics),
        bundle("v6", [row(**usage)], timing={"usage_sources": {"token_usage": "unavailable", "cost": "unavailable"}}),
        bundle("v3", [row(**usage)])
        | {"timing.json": '{"usage_sources": {"token_usage": "unavailable", "cost": "unavailable"}}'},
    ):
        total = totals(read(files).trials)
        assert (total["input_tokens"], total["cost_usd"]) == (None, None)
    told = totals(read(bundle("v3", [row(**usage)])).trials)
    assert (told["input_tokens"], told["cost_usd"]) == (0, 0)


def test_tags_come_from_the_overlay_then_from_the_run_then_from_its_author() -> None:
    own = {"tags": ["mine"], "updated_at": "2026-01-05T10:00:00Z"}
    tree: Files = at(FOLDER, bundle(tags=own, authored={"team": "support", "experiment": "with_skills"}))
    run = agentv.read(MemoryFolder(tree, FOLDER), Options(), Nothing())
    assert run is not None
    assert run.tags == Tags(tags=["mine"], updated_at="2026-01-05T10:00:00.000Z")
    assert run.authored_tags == ["team=support"]
    tree |= {f"metadata/{FOLDER}/tags.json": '{"tags": [], "tag_revision": "sha256:0"}'}
    run = agentv.read(MemoryFolder(tree, FOLDER), Options(), Nothing())
    assert run is not None
    assert run.tags == Tags(tags=[])


def test_the_overlay_of_a_run_and_back() -> None:
    assert agentv.overlay(FOLDER) == f"metadata/{FOLDER}"
    assert agentv.run_of_overlay(f"metadata/{FOLDER}") == FOLDER
    assert agentv.overlay(f".agentv/results/{FOLDER}") == f".agentv/results/metadata/{FOLDER}"
    assert agentv.run_of_overlay(f".agentv/results/metadata/{FOLDER}") == f".agentv/results/{FOLDER}"
    assert agentv.overlay(NAME) is None


def test_a_torn_line_leaves_the_others_and_is_told() -> None:
    files = bundle()
    files["index.jsonl"] += '{"test_id": "t3", "sco'
    run = read(files)
    assert len(run.trials) == 2
    assert run.partial
    assert run.torn["index.jsonl"].startswith("line 3: no valid JSON")


@pytest.mark.parametrize(
    "damage",
    [
        {"benchmark.json": ""},
        {"benchmark.json": "[]"},
        {"benchmark.json": '{"metadata": {'},
        {"benchmark.json": b"\xff\xfe"},
        {"benchmark.json": "[" * 100_000},
        {"index.jsonl": "garbage\n"},
        {"index.jsonl": b"\xff\xfe\n"},
        {"index.jsonl": '{"score": 1}\n'},
    ],
)
def test_what_is_no_document_is_unreadable(damage: dict[str, str | bytes]) -> None:
    with pytest.raises(Unreadable):
        read(bundle() | damage)


def test_a_field_of_the_wrong_type_is_unknown_and_costs_nothing_else() -> None:
    wrong = row("t1", duration_ms="soon", cost_usd=-1, token_usage=[1], suite={"a": 1}, scores=[7, {"score": "x"}])
    files = bundle(rows=[wrong, row("t2", cost_usd=10**400), row("t3", score=1, samples="x")])
    files["benchmark.json"] = files["benchmark.json"].replace('"planned_test_count": 3', '"planned_test_count": -3')
    run = read(files)
    assert [t.test_id for t in run.trials] == ["t1", "t2", "t3"]
    assert (run.trials[0].duration_s, run.trials[0].suite, run.trials[0].input_tokens) == (None, None, None)
    assert run.planned_count is None
    assert [score.score for score in run.trials[0].scores] == [None]


def test_errors_are_masked_and_cut_or_left_out() -> None:
    rows = [row("t1", 0, status="execution_error", error="clone https://u:pw@h failed\nTraceback: secret")]
    assert read(bundle(rows=rows)).trials[0].error == "clone https://***@h failed"
    assert read(bundle(rows=rows), errors=False).trials[0].error is None


def test_keys_from_paths_stand_in_for_unreadable_files() -> None:
    assert agentv.key_from_path(FOLDER) == f"agentv:with_skills::{NAME}"
    assert agentv.key_from_path(NAME) == f"agentv:{NAME}"
    assert agentv.key_from_path("runs/x/my-run") is None


def test_inputs_are_the_files_that_count() -> None:
    files = bundle(tags={"tags": []}) | {"console.log": "", "timing.json": "{}"}
    assert agentv.inputs(MemoryFolder(files)) == ["benchmark.json", "tags.json", "timing.json", "index.jsonl"]
    assert agentv.inputs(MemoryFolder(bundle("v9"))) == ["summary.json", ".internal/index.jsonl"]


@pytest.mark.parametrize("field", ["samples", "trials", "scores"])
def test_a_bomb_of_list_elements_costs_its_field_only(field: str) -> None:
    elements: list[Any] = [{}, 1]
    for element in elements:
        fields: dict[str, Any] = {field: [element] * 200_000}
        run = read(bundle(rows=[row("t1", **fields)]))
        assert (len(run.trials), run.trials[0].scores[1:]) == (1, [])


def test_indexes_of_samples_beyond_reason_are_ignored() -> None:
    rows = [row("t1", samples=[{"sample_index": 2**63 - 1, "score": 1}, {"sample_index": -1, "score": 1}])]
    assert [trial.attempt for trial in read(bundle(rows=rows)).trials] == [1, 2]


def test_the_key_keeps_the_earliest_time_when_a_test_is_run_again() -> None:
    rows = [row("t1", timestamp="2026-01-05T09:00:01Z"), row("t1", timestamp="2026-01-05T09:00:09Z")]
    assert read(bundle(rows=rows), "runs/with_skills/mine").key.endswith("@2026-01-05T09:00:01.000Z")


def test_free_text_is_no_kind_of_error() -> None:
    rows = [row("t1", 0, status="execution_error", failure_reason_code="https://u:pw@h", target_error_kind="exit")]
    assert read(bundle(rows=rows)).trials[0].error_type == "exit"
