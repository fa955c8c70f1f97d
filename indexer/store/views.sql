-- Each trial with its run
CREATE VIEW trial_details AS
SELECT runs.run_id, runs.experiment, runs.status AS run_status, runs.key AS run_key, trials.*
FROM trials JOIN runs ON runs.id = trials.run_pk;

-- Experiment x target over runs that completed or failed, copies left out; tests are counted once a run
CREATE VIEW leaderboard AS
SELECT experiment, target,
       count(DISTINCT run_pk) AS runs,
       sum(target_tests) AS tests,
       sum(trial_count) AS trials,
       sum(passed) AS passed,
       1.0 * sum(passed) / nullif(sum(trial_count), 0) AS pass_rate,
       1.0 * sum(passed) / nullif(sum(passed + failed), 0) AS quality_rate,
       sum(avg_score * (scored + errored)) / nullif(sum(scored + errored), 0) AS avg_score,
       sum(quality_score * scored) / nullif(sum(scored), 0) AS quality_score,
       sum(cost_usd) AS cost_usd,
       sum(cost_usd) / nullif(sum(paid), 0) AS cost_per_passed,
       max(timestamp) AS last_run
FROM run_targets
WHERE on_boards
GROUP BY experiment, target;

-- Day (UTC) x experiment x target over runs that completed or failed, copies left out
CREATE VIEW daily AS
SELECT substr(timestamp, 1, 10) AS day, experiment, target,
       count(DISTINCT run_pk) AS runs,
       sum(trial_count) AS trials,
       sum(passed) AS passed,
       1.0 * sum(passed) / nullif(sum(trial_count), 0) AS pass_rate,
       1.0 * sum(passed) / nullif(sum(passed + failed), 0) AS quality_rate,
       sum(cost_usd) AS cost_usd
FROM run_targets
WHERE on_boards
GROUP BY experiment, target, day;

-- Every execution of every test, errors included; for one test: WHERE test_id = ? AND suite = ? ORDER BY timestamp
CREATE VIEW test_history AS
SELECT trials.suite, trials.test_id, trials.target, trials.timestamp, runs.run_id, runs.experiment,
       trials.status, trials.score, trials.error_type, trials.duration_s, trials.cost_usd, runs.key AS run_key
FROM trials JOIN runs ON runs.id = trials.run_pk
WHERE runs.on_boards AND trials.status IN ('passed', 'failed', 'errored');

-- Tests whose verdicts disagree under equal conditions (task, effort, agent version, code; where one of the last two is
-- unknown, only within a run). disagreement: the chance that two such executions differ; flaky: >= 0.1, >= 5 verdicts
CREATE VIEW flaky_tests AS
SELECT suite, test_id, target,
       sum(verdicts) AS verdicts, -- those that were repeated under equal conditions
       sum(passed) AS passed,
       2.0 * sum(passed * (verdicts - passed)) / sum(verdicts * (verdicts - 1)) AS disagreement,
       max(last_run) AS last_run
FROM (
  SELECT trials.suite, trials.test_id, trials.target,
         count(*) AS verdicts, sum(trials.status = 'passed') AS passed, max(trials.timestamp) AS last_run
  FROM trials JOIN runs ON runs.id = trials.run_pk
  WHERE runs.on_boards AND trials.status IN ('passed', 'failed')
  GROUP BY trials.test_id, trials.suite, trials.target, trials.task_checksum, trials.reasoning_effort,
           trials.agent_version, runs.code_sha, iif(trials.agent_version IS NULL OR runs.code_sha IS NULL, runs.id, 0)
  HAVING count(*) > 1
)
GROUP BY test_id, suite, target
HAVING sum(verdicts) >= 5 AND 2.0 * sum(passed * (verdicts - passed)) / sum(verdicts * (verdicts - 1)) >= 0.1;

-- Failed and errored trials of runs that ended, newest first
CREATE VIEW recent_failures AS
SELECT trials.timestamp, runs.run_id, runs.experiment, trials.target, trials.suite, trials.test_id,
       trials.status, trials.score, trials.error_type, trials.error, runs.key AS run_key
FROM trials CROSS JOIN runs ON runs.id = trials.run_pk -- in this order, by the index on failures
WHERE trials.status IN ('failed', 'errored') AND runs.on_boards
ORDER BY trials.timestamp DESC, trials.run_pk DESC;

-- Runs that have not ended
CREATE VIEW live_runs AS
SELECT run_id, experiment, target, status, timestamp, updated_at, ended_count, planned_count, running_count, source, key
FROM runs WHERE status IN ('queued', 'running')
ORDER BY timestamp DESC, key DESC;
