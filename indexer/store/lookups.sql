-- For lookups and conflict checks while a pass writes
CREATE INDEX places_run ON places (run_pk);
CREATE UNIQUE INDEX places_place ON places (source, path, coalesce(ref, ''));
CREATE INDEX places_name ON places (source, name);
CREATE INDEX added_name ON _added (source, name);
CREATE UNIQUE INDEX failures_group ON _failures (status, coalesce(error_type, char(0)), coalesce(suite, char(0)),
  coalesce(test_id, char(0)), coalesce(target, char(0)));
CREATE INDEX files_own ON _files (place_pk) WHERE instr(path, '/') = 0; -- those beside the folders of trials
CREATE INDEX places_live ON places (source) WHERE ended = 0;
CREATE UNIQUE INDEX run_commits_commit ON run_commits (repo, run_key, sha);
CREATE UNIQUE INDEX problems_place ON problems (source, path, kind, coalesce(ref, ''));
