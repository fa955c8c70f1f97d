import json
from collections.abc import Mapping
from typing import Any

import pytest

from indexer.derive import status as run_status
from indexer.earlier import Nothing
from indexer.formats import agentv, agentv_trials
from indexer.protocols import Options, Unreadable
from indexer.records import Run, Tags
from tests.bundles import NAME, Files, at, bundle, row
from tests.formats.memory import MemoryFolder, format_of, totals

FOLDER = f"runs/with_skills/{NAME}"


def read(files: Mapping[str, str | bytes], path: str = FOLDER, ref: str | None = "r", **options: Any) -> Run:
    folder = MemoryFolder({f"{path}/{name}": text for name, text in files.items()}, path, ref)
    assert format_of(folder) is agentv
    run = agentv.read(folder, Options(**options), Nothing())
    assert run is not None
    return run


PLACES = [
    # layout, path, in git, run id, layout's name, experiment without metadata
    ("v0", f"evals/out/with_skills/{NAME}", True, f"evals/out/with_skills::{NAME}", "v0", "evals/out/with_skills"),
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
    assert format_of(MemoryFolder(tree, f"runs/{NAME}/refund/t1")) is None


def test_a_run_whose_rows_do_not_exist_yet_is_running() -> None:
    for layout, path in (("v3", FOLDER), ("v6", FOLDER)):
        stub = {k: v for k, v in bundle(layout, [], planned=3, summary={}).items() if not k.endswith("jsonl")}
        run = read(stub, path)
        assert (run_status(run), run.planned_count, run.trials) == ("running", 3, [])


def test_the_aggregate_decides_what_a_run_in_progress_is() -> None:
    assert run_status(read(bundle(planned=3, summary={}))) == "running"
    assert run_status(read(bundle(planned=3))) == "cancelled"
    assert run_status(read(bundle(planned=2))) == "completed"
    assert run_status(read(bundle(planned=1))) == "completed"  # more rows than planned are no reason to doubt it
    assert run_status(read(bundle(rows=[row(score=0, status="execution_error")]))) == "failed"
    assert run_status(read({"index.jsonl": json.dumps(row())})) == "running"


def test_without_an_aggregate_rows_in_their_final_form_have_ended() -> None:
    final, going = row("t1", grading_path="refund/t1/grading.json"), row("t2")
    assert run_status(read({"index.jsonl": json.dumps(final)})) == "completed"
    assert run_status(read({"index.jsonl": f"{json.dumps(final)}\n{json.dumps(going)}"})) == "running"
    assert run_status(read({"index.jsonl": ""}, FOLDER)) == "running"


def test_a_stub_of_a_run_named_by_hand_is_a_run_in_progress() -> None:
    stub = {"summary.json": bundle("v9", [], planned=3, summary={}, name="smoke")["summary.json"]}
    run = read(stub, "smoke")
    assert (run_status(run), run.key) == ("running", "agentv:smoke@2026-01-05T09:00:01.000Z")
    inside = MemoryFolder(at("smoke", stub | {"sample-1/metrics.json": "{}"}), "smoke")
    assert format_of(inside) is None  # the summary of a test


def test_the_last_of_repeated_rows_wins_and_targets_and_variants_stay_apart() -> None:
    rows = [row("t1", 0), row("t1", 1), row("t1", 0.5, target="other"), row("t1", 0.9, variant="b")]
    run = read(bundle(rows=rows))
    assert [(t.trial, t.score) for t in run.trials] == [
        ("refund/t1/mock-alpha/1", 1.0),
        ("refund/t1/other/1", 0.5),
        ("refund/t1/mock-alpha/1#2", 0.9),
    ]


BEST: dict[str, Any] = {"cost_usd": 0.3, "duration_ms": 3000, "token_usage": {"input": 100, "output": 7}}
"""What a row says of its test: its best execution's, and nobody else's."""


def test_repeats_are_trials_with_their_own_figures_and_none_of_the_rows() -> None:
    samples = [
        {"sample_index": 0, "sample_path": "sample-1", "score": 1, "execution_status": "ok", "cost_usd": 0.1},
        {"sample_index": 1, "sample_path": "sample-2", "score": 0.8},
        {"sample_index": 2, "sample_path": "sample-3", "score": 0, "execution_status": "execution_error"},
    ]
    told = [{"sample_index": 1, "duration_ms": 3000}, {"sample_index": 2, "duration_ms": 1000, "cost_usd": 0.2}]
    test = {"test_id": "t1", "suite": "refund", "target": "mock-alpha", "samples": told}
    files = bundle("v9", [row("t1", samples=samples, result_dir="t1--0a", **BEST)], planned=1, tests=[test])
    measured = {"tokens": {"input": 50, "output": 5, "source": "provider_reported"}, "duration": {"total_ms": 7}}
    unknown = {
        "tokens": {"input": 0, "output": 0, "source": "unavailable"},
        "cost": {"usd": 0, "source": "unavailable"},
    }
    files |= {"t1--0a/sample-1/metrics.json": json.dumps(measured), "t1--0a/sample-3/metrics.json": json.dumps(unknown)}
    run = read(files, NAME)
    assert [(t.attempt, t.status) for t in run.trials] == [(1, "passed"), (2, "passed"), (3, "errored")]
    assert [t.input_tokens for t in run.trials] == [50, None, None]
    assert [t.duration_s for t in run.trials] == [3.0, 1.0, None]
    assert [t.cost_usd for t in run.trials] == [0.1, 0.2, None]
    assert (totals(run.trials)["test_count"], run.planned_count) == (1, 3)


@pytest.mark.parametrize(
    ("layout", "listed", "path"), [("v6", "trials", "run_path"), ("v9", "attempts", "sample_path")]
)
def test_earlier_spellings_of_repeats(layout: str, listed: str, path: str) -> None:
    executions = [
        {"attempt": 0, path: "run-1", "score": 1, "execution_status": "ok", "transcript_summary": {"total_turns": 6,
         "tool_calls": {"shell": 2, "grep": 1}}},
        {"attempt": 1, path: "run-2", "score": 0},
    ]  # fmt: skip
    usage = {"token_usage": {"input": 9, "output": 2}, "duration_ms": 40, "usage_sources": {"cost": "unavailable"}}
    metrics = {"timing": usage | {"cost_usd": None}, "metrics": {"total_turns": 3, "total_tool_calls": 0}}
    fields: dict[str, Any] = {listed: executions, "artifact_dir": "refund/t1"}
    files = bundle(layout, [row("t1", **fields, **BEST)]) | {"refund/t1/run-2/metrics.json": json.dumps(metrics)}
    trials = read(files).trials
    assert [(t.attempt, t.status) for t in trials] == [(1, "passed"), (2, "failed")]
    assert [(t.turns, t.tool_calls) for t in trials] == [(6, 3), (3, 0)]
    assert [(t.input_tokens, t.duration_s, t.cost_usd) for t in trials] == [(None, None, None), (9, 0.04, None)]


def test_a_row_with_one_execution_speaks_for_it() -> None:
    run = read(bundle("v9", [row("t1", attempts=[{"attempt": 0, "score": 0.2}], **BEST)]), NAME)
    (trial,) = run.trials
    assert (trial.status, trial.score, trial.input_tokens, trial.cost_usd) == ("failed", 0.2, 100, 0.3)


def test_metrics_that_cannot_be_read_cost_only_what_they_alone_tell() -> None:
    samples = [{"sample_index": at, "sample_path": f"sample-{at + 1}", "score": 1} for at in (0, 1)]
    files = bundle("v9", [row("t1", samples=samples, result_dir="t1--0a")])
    files |= {"t1--0a/sample-1/metrics.json": "{", "t1--0a/sample-2/metrics.json": '{"tokens": {"input": 3}}'}
    run = read(files, NAME)
    assert [(t.status, t.input_tokens) for t in run.trials] == [("passed", None), ("passed", 3)]
    assert (list(run.optional), run.broken, run.partial) == (["t1--0a/sample-1/metrics.json"], {}, False)


def test_the_graders_of_a_composite_are_scores_too() -> None:
    parts = [{"name": "b", "score": 1, "verdict": "pass"}, {"name": "c", "score": 0, "verdict": "skip"}]
    (trial,) = read(bundle(rows=[row("t1", scores=[{"name": "a", "score": 0.5, "scores": parts}])])).trials
    assert [(s.name, s.score, s.passed) for s in trial.scores] == [("a", 0.5, None), ("b", 1.0, True), ("c", 0.0, None)]


def test_a_combined_run_copies_and_spends_nothing() -> None:
    for place in ("combined_from_run_ids", "combined_from"):
        files = bundle(rows=[row("t1", **BEST)])
        document = json.loads(files["benchmark.json"])
        document["metadata"][place] = ["b::x", "a::y"]
        run = read(files | {"benchmark.json": json.dumps(document)})
        assert run.derived_from == ["a::y", "b::x"]
        assert (run.trials[0].status, run.trials[0].cost_usd, run.trials[0].input_tokens) == ("passed", None, None)


def test_the_id_of_a_run_is_where_it_lies() -> None:
    run = read(bundle(experiment="elsewhere"))
    assert (run.run_id, run.experiment) == (f"with_skills::{NAME}", "elsewhere")
    assert read(bundle(experiment="elsewhere"), f"runs/default/{NAME}").run_id == NAME


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
    assert run.broken["index.jsonl"].startswith("line 3: invalid JSON")


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
        {"index.jsonl": '{"test_id": "t1", "score": NAN}\n'},
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


def test_numbers_that_are_none_are_unknown() -> None:
    line = '{"test_id": "t1", "score": NaN, "cost_usd": Infinity, "scores": [{"name": "g", "score": -Infinity}]}'
    (trial,) = read(bundle() | {"index.jsonl": line}).trials
    assert (trial.status, trial.score, trial.cost_usd, trial.scores[0].score) == ("skipped", None, None, None)


def test_errors_are_masked_and_cut_or_left_out() -> None:
    rows = [row("t1", 0, status="execution_error", error="clone https://u:pw@h failed\nTraceback: secret")]
    assert read(bundle(rows=rows)).trials[0].error == "clone https://***@h failed"
    assert read(bundle(rows=rows), errors=False).trials[0].error is None


def test_keys_from_paths_stand_in_for_unreadable_files() -> None:
    def key(path: str, layout: str = "v3") -> str | None:
        return agentv.key_from_names(MemoryFolder(at(path, bundle(layout)), path))

    assert key(FOLDER) == f"agentv:with_skills::{NAME}"
    assert key(NAME) == f"agentv:{NAME}"
    assert key("runs/x/my-run") is None
    assert key(f"checkouts/{NAME}", "v9") == read(bundle("v9"), f"checkouts/{NAME}").key == f"agentv:{NAME}"


def test_inputs_are_the_files_that_count() -> None:
    files = bundle(tags={"tags": []}) | {"console.log": "", "timing.json": "{}"}
    assert agentv.inputs(MemoryFolder(files)) == ["benchmark.json", "tags.json", "timing.json", "index.jsonl"]
    assert agentv.inputs(MemoryFolder(bundle("v9"))) == ["summary.json", ".internal/index.jsonl"]
    metrics = [f"refund/t1/sample-{n}/metrics.json" for n in (1, 2)] + ["t2--0a/sample-1/metrics.json"]
    files = bundle("v9") | dict.fromkeys(metrics, "{}")
    assert agentv.inputs(MemoryFolder(files))[2:] == metrics[:2]  # of tests that were executed several times


@pytest.mark.parametrize("field", ["samples", "attempts", "trials", "scores"])
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


@pytest.mark.parametrize(
    ("passed", "reason"),
    [((True, False, False), "b; c"), ((True, True, True), "a; b; c"), ((None, False, None), "b")],
)
def test_a_grader_without_a_reason_gives_its_failed_assertions(passed: tuple[bool | None, ...], reason: str) -> None:
    told = [{"text": text, "passed": each} for text, each in zip("abc", passed, strict=True)]
    (trial,) = read(bundle(rows=[row("t1", 0.0, scores=[{"name": "g", "score": 0, "assertions": told}])])).trials
    assert [score.reason for score in trial.scores] == [reason]


def test_where_metrics_of_executions_are_looked_for() -> None:
    """In the folders of suites and tests; not in hidden ones, nor in those that a test keeps its own files in."""
    tests = ("t1", "refund/t1", "a/b/c/t1", "task", ".hidden/t1", "refund/outputs/t1", "refund/task", "a/b/c/d/t1")
    folder = MemoryFolder({f"{test}/sample-{n}/metrics.json": "{}" for test in tests for n in (1, 2)})
    found = {path.rpartition("/sample-")[0] for path in agentv_trials.metrics_files(folder)}
    assert found == {"t1", "refund/t1", "a/b/c/t1", "task"}
