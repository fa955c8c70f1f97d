"""The views hold what their comments say."""

from tests.jobs import job, trial
from tests.worlds import World

IDS = "23b29240-0000-4000-8000-00000000000"


def test_views(world: World) -> None:
    outcomes = [("fizz", 1.0), ("fizz", 0.0), ("steady", 1.0)]
    for number, (test, reward) in enumerate(outcomes):
        files = job({f"{test}__aaaaaaa": trial(test, reward)}, id=f"{IDS}{number}")
        world.write({f"jobs/j{number}/{name}": text for name, text in files.items()})
    live = job({"fizz__aaaaaaa": ""}, finished=False, id=f"{IDS}9", stats={"n_running_trials": 1})
    world.write({f"jobs/live/{name}": text for name, text in live.items()})
    world.synced()
    assert world.select("SELECT * FROM flaky_tests") == []  # two runs of unknown code are no equal conditions
    board = world.select("SELECT experiment, target, runs, trials, passed, cost_usd FROM leaderboard")
    assert [row["experiment"] for row in board] == ["j0", "j1", "j2"]
    assert {(row["runs"], row["trials"], row["cost_usd"]) for row in board} == {(1, 1, 0.25)}
    assert world.column("SELECT day FROM daily") == ["2026-01-05"] * 3
    history = world.column("SELECT status FROM test_history WHERE test_id = 'fizz' ORDER BY run_id")
    assert history == ["passed", "failed"]
    assert world.column("SELECT run_id FROM recent_failures") == ["j1"]
    assert world.column("SELECT run_id FROM live_runs") == ["live"]
    details = world.select("SELECT run_id, run_status, test_id, status FROM trial_details ORDER BY run_id")
    assert details[-1] == {"run_id": "live", "run_status": "running", "test_id": "fizz", "status": "running"}
