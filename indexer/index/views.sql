-- Each trial with its run
CREATE VIEW trial_details AS
SELECT runs.run_id, runs.experiment, runs.timestamp, runs.status AS run_status, runs.key AS run_key, trials.*
FROM trials JOIN runs ON runs.id = trials.run_pk;

-- Experiment x target over runs that ended
CREATE VIEW leaderboard AS
SELECT runs.experiment, run_targets.target,
       count(DISTINCT runs.id) AS runs,
       sum(run_targets.trial_count) AS trials,
       sum(run_targets.passed) AS passed,
       1.0 * sum(run_targets.passed) / nullif(sum(run_targets.trial_count), 0) AS pass_rate,
       sum(run_targets.avg_score * run_targets.trial_count) / nullif(sum(run_targets.trial_count), 0) AS avg_score,
       sum(run_targets.cost_usd) AS cost_usd,
       max(runs.timestamp) AS last_run
FROM run_targets JOIN runs ON runs.id = run_targets.run_pk
WHERE runs.status IN ('completed', 'failed')
GROUP BY runs.experiment, run_targets.target;

-- Day x experiment x target over runs that ended
CREATE VIEW daily AS
SELECT substr(runs.timestamp, 1, 10) AS day, runs.experiment, run_targets.target,
       count(DISTINCT runs.id) AS runs,
       sum(run_targets.trial_count) AS trials,
       sum(run_targets.passed) AS passed,
       1.0 * sum(run_targets.passed) / nullif(sum(run_targets.trial_count), 0) AS pass_rate,
       sum(run_targets.cost_usd) AS cost_usd
FROM run_targets JOIN runs ON runs.id = run_targets.run_pk
WHERE runs.status IN ('completed', 'failed')
GROUP BY day, runs.experiment, run_targets.target;

-- Every verdict of every test, for one test: WHERE suite = ? AND test_id = ? ORDER BY timestamp
CREATE VIEW test_history AS
SELECT trials.suite, trials.test_id, trials.target, runs.timestamp, runs.run_id, runs.experiment,
       trials.status, trials.score, trials.error_type, trials.duration_s, trials.cost_usd, runs.key AS run_key
FROM trials JOIN runs ON runs.id = trials.run_pk
WHERE runs.status IN ('completed', 'failed') AND trials.status IN ('passed', 'failed', 'errored');

-- Tests that both passed and failed under the same conditions
CREATE VIEW flaky_tests AS
SELECT trials.suite, trials.test_id, trials.target,
       count(*) AS executions,
       sum(trials.status = 'passed') AS passed,
       1.0 * sum(trials.status = 'passed') / count(*) AS pass_rate,
       max(runs.timestamp) AS last_run
FROM trials JOIN runs ON runs.id = trials.run_pk
WHERE runs.status IN ('completed', 'failed') AND trials.status IN ('passed', 'failed', 'errored')
GROUP BY trials.suite, trials.test_id, trials.target, trials.task_checksum, trials.reasoning_effort,
         trials.agent_version, runs.code_sha
HAVING sum(trials.status = 'passed') BETWEEN 1 AND count(*) - 1;

-- Failed and errored trials of runs that ended, newest first
CREATE VIEW recent_failures AS
SELECT runs.timestamp, runs.run_id, runs.experiment, trials.target, trials.suite, trials.test_id,
       trials.status, trials.score, trials.error_type, trials.error, runs.key AS run_key
FROM runs JOIN trials ON trials.run_pk = runs.id
WHERE runs.status IN ('completed', 'failed') AND trials.status IN ('failed', 'errored')
ORDER BY runs.timestamp DESC, runs.key DESC;

-- Runs that have not ended
CREATE VIEW live_runs AS
SELECT run_id, experiment, target, status, timestamp, updated_at, ended_count, planned_count, running_count, source, key
FROM runs WHERE status IN ('queued', 'running')
ORDER BY timestamp DESC, key DESC;
