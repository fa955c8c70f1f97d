-- Pages: every sort without a filter (NULLs last is two ranges of the same index), and each one of
-- experiment, status, target, model, tag and source in timestamp order. Ties are broken by key.
CREATE INDEX runs_timestamp ON runs (timestamp, key);
CREATE INDEX runs_newest ON runs (timestamp DESC, id); -- the order of Datasette's pages
CREATE INDEX runs_pass_rate ON runs (pass_rate, key);
CREATE INDEX runs_avg_score ON runs (avg_score, key);
CREATE INDEX runs_cost_usd ON runs (cost_usd, key);
CREATE INDEX runs_duration_s ON runs (duration_s, key);
CREATE INDEX runs_passed ON runs (timestamp, key) WHERE passed > 0; -- runs that have trials of a status
CREATE INDEX runs_failed ON runs (timestamp, key) WHERE failed > 0;
CREATE INDEX runs_errored ON runs (timestamp, key) WHERE errored > 0;
CREATE INDEX runs_skipped ON runs (timestamp, key) WHERE skipped > 0;
CREATE INDEX runs_cancelled ON runs (timestamp, key) WHERE cancelled > 0;
CREATE INDEX runs_exceptions ON runs (timestamp, key) WHERE exceptions > 0;
CREATE INDEX runs_experiment ON runs (experiment, timestamp, key);
CREATE INDEX runs_status ON runs (status, timestamp, key);
CREATE INDEX run_targets_target ON run_targets (target, timestamp, run_key, run_pk);
CREATE INDEX run_targets_model ON run_targets (model, timestamp, run_key, run_pk);
CREATE INDEX run_tags_tag ON run_tags (tag, timestamp, run_key, run_pk);
CREATE INDEX places_source ON places (source, timestamp, run_key, run_pk);

-- Boards: a covering index by configuration; a test's history for each target; failures by time
CREATE INDEX run_targets_board ON run_targets (experiment, target, agent, model, suite, timestamp, on_boards, run_pk,
  trial_count, passed, failed, errored, avg_score, quality_score, cost_usd, input_tokens, output_tokens,
  duration_s, timed, firsts, paid, scored, target_tests, outcomes);
CREATE INDEX trials_test ON trials (test_id, suite, target, timestamp);
CREATE INDEX trials_failing ON trials (timestamp, run_pk, status, error_type, suite, test_id, target)
  WHERE status IN ('failed', 'errored');

-- Names and changes
CREATE INDEX runs_run_id ON runs (run_id);
CREATE INDEX runs_rev ON runs (rev);
CREATE INDEX deletions_rev ON deletions (rev);
CREATE INDEX run_commits_run ON run_commits (run_key);
CREATE INDEX run_commits_sha ON run_commits (sha);

-- What belongs to a run
CREATE UNIQUE INDEX trials_run ON trials (run_pk, trial);
CREATE INDEX scores_trial ON scores (trial_pk);
CREATE INDEX repeats_run ON _repeats (run_pk);
CREATE INDEX run_targets_run ON run_targets (run_pk);
CREATE INDEX run_tags_run ON run_tags (run_pk);
