"""What Harbor's own models make of jobs, beside the index: counts, means, errors, tokens and cost of each job.

`python -m benchmarks.harbor_models JOBS` compares them; the Python that has Harbor (`scripts/peers`) runs this file as
a script, and prints its figures.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).parents[1] / ".peers/python/bin/python"
NAMES = ("verdicts", "mean", "exceptions", "input_tokens", "output_tokens", "cost_usd")


def figures(job: Path) -> dict[str, Any]:
    """By Harbor: trials with a valid reward and its mean, trials with an exception, tokens, US dollars."""
    from harbor.models.job.result import JobStats  # type: ignore[import-not-found]
    from harbor.models.trial.result import TrialResult  # type: ignore[import-not-found]

    trials = [TrialResult.model_validate_json(path.read_text()) for path in sorted(job.glob("*/result.json"))]
    stats = JobStats.from_trial_results(trials)
    rewards = [
        reward
        for each in stats.evals.values()
        for reward, names in each.reward_stats.get("reward", {}).items()
        for _ in names
    ]
    return dict(zip(NAMES, (
        sum(each.n_trials for each in stats.evals.values()), sum(rewards) / len(rewards) if rewards else None,
        stats.n_errored_trials, stats.n_input_tokens, stats.n_output_tokens, stats.cost_usd,
    ), strict=True))  # fmt: skip


def compared(jobs: Path, python: Path = PYTHON) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For each job of a folder: its name, Harbor's figures, and those of an index of it."""
    from indexer import open_index
    from indexer.passes.sync import sync
    from indexer.protocols import Options
    from indexer.sources.folder import FolderSource

    asked = subprocess.run([python, "-P", __file__, jobs], check=True, stdout=subprocess.PIPE, text=True).stdout
    theirs = json.loads(asked)
    with tempfile.TemporaryDirectory() as place:
        db = Path(place) / "index.db"
        sync(db, [FolderSource("jobs", jobs)], Options())
        with open_index(db) as index:
            for run in index.runs(limit=1000).runs:
                ours = (run["passed"] + run["failed"], run["quality_score"], run["exceptions"],
                        run["input_tokens"], run["output_tokens"], run["cost_usd"])  # fmt: skip
                yield run["run_id"], theirs[run["run_id"]], dict(zip(NAMES, ours, strict=True))


def main(jobs: Path) -> int:
    """Print where the figures of jobs differ. Returns how many jobs do."""
    differing = 0
    for name, theirs, ours in compared(jobs):
        apart = [key for key in NAMES if not _equal(theirs[key], ours[key])]
        differing += bool(apart)
        told = "; ".join(f"{key}: Harbor {theirs[key]}, here {ours[key]}" for key in apart)
        print(f"{name}: {told or 'equal'}")
    return differing


def _equal(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < 1e-9)


if __name__ == "__main__" and sys.flags.safe_path:
    print(json.dumps({job.name: figures(job) for job in sorted(Path(sys.argv[1]).iterdir()) if job.is_dir()}))
elif __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) > 0)
