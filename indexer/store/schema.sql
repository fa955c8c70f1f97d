-- The index of agent-evaluation runs: a cache of results repositories, run folders and agentevals databases.
-- Delete it, and `indexer sync` makes it again. Times are UTC text (YYYY-MM-DDTHH:MM:SS.mmmZ), so text order is time
-- order; unknown is NULL; booleans are 0 and 1; durations are seconds; costs are US dollars.

CREATE TABLE runs (
  -- one row a run
  id             INTEGER PRIMARY KEY,  -- internal, may differ after a rebuild: use key
  key            TEXT NOT NULL UNIQUE, -- identity, the same in every place and after every rebuild
  run_id         TEXT NOT NULL,        -- what people call it
  source         TEXT NOT NULL,        -- the place this row was read from: source,
  path           TEXT NOT NULL,        --   run folder inside it,
  ref            TEXT,                 --   git ref (NULL outside git)
  format         TEXT NOT NULL,        -- the tool that wrote it
  layout         TEXT NOT NULL,        -- that tool's layout generation
  experiment     TEXT NOT NULL,
  target         TEXT,                 -- several are joined by ', ' in sorted order
  agent          TEXT,                 -- likewise
  model          TEXT,                 -- likewise
  status         TEXT NOT NULL,        -- queued, running, completed, failed (all errored, or said so), cancelled
  timestamp      TEXT NOT NULL,        -- when it began; the default sort key
  started_at     TEXT,
  finished_at    TEXT,
  updated_at     TEXT,                 -- the last sign of life in its files
  duration_s     REAL,
  planned_count  INTEGER,              -- trials announced
  running_count  INTEGER,              -- trials under way
  ended_count    INTEGER NOT NULL,     -- trials ended in any way
  trial_count    INTEGER NOT NULL,     -- passed + failed + errored
  passed         INTEGER NOT NULL,
  failed         INTEGER NOT NULL,
  errored        INTEGER NOT NULL,
  skipped        INTEGER NOT NULL,
  cancelled      INTEGER NOT NULL,
  test_count     INTEGER NOT NULL,     -- distinct tests (suite, test_id) among trial_count
  exceptions     INTEGER NOT NULL,     -- trials that recorded an exception, verdict or not
  pass_rate      REAL,                 -- passed / trial_count: errors count against
  avg_score      REAL,                 -- mean score over trial_count, errored as 0
  quality_rate   REAL,                 -- passed / (passed + failed): errors left out
  quality_score  REAL,                 -- mean score over passed + failed
  input_tokens   INTEGER,              -- cached included; sums of the known values
  cached_tokens  INTEGER,
  output_tokens  INTEGER,
  cost_usd       REAL,
  size_bytes     INTEGER NOT NULL,     -- bytes of the files this row was read from
  tags           TEXT NOT NULL,        -- JSON array of text, sorted: baseline, team=support
  sha            TEXT,                 -- git: the commit that first brought the run to the ref,
  added_at       TEXT,                 --   its time,
  author         TEXT,                 --   its author's name
  code_sha       TEXT,                 -- commit of the evaluated code, where the files tell
  host           TEXT,
  attempt        INTEGER,              -- execution attempt, where the files tell
  derived_from   TEXT,                 -- JSON array: keys or ids of the runs that its trials were copied from
  error          TEXT,                 -- why the run itself failed, where the tool says so; as in trials
  rev            INTEGER NOT NULL,     -- grows with every change of the run: see deletions and meta
  on_boards      INTEGER NOT NULL      -- whether boards, drift and flaky count it: completed or failed, no copy
    GENERATED ALWAYS AS (status IN ('completed', 'failed') AND derived_from IS NULL) VIRTUAL
);

CREATE TABLE trials (
  -- one row per execution of a test
  id                  INTEGER PRIMARY KEY,
  run_pk              INTEGER NOT NULL REFERENCES runs(id),
  trial               TEXT NOT NULL,   -- its name, unique in the run
  suite               TEXT,
  test_id             TEXT,            -- a test is (suite, test_id)
  category            TEXT,
  target              TEXT,
  agent               TEXT,
  agent_version       TEXT,
  model               TEXT,
  provider            TEXT,
  reasoning_effort    TEXT,
  attempt             INTEGER,         -- from 1 among the executions of the same test and target
  status              TEXT NOT NULL,   -- passed, failed, errored, skipped, running, cancelled
  score               REAL,
  error_type          TEXT,
  error               TEXT,            -- first line, masked, at most 200 characters
  exit_code           INTEGER,
  started_at          TEXT,
  finished_at         TEXT,
  duration_s          REAL,
  input_tokens        INTEGER,         -- cached included
  cached_tokens       INTEGER,
  cache_write_tokens  INTEGER,
  output_tokens       INTEGER,
  reasoning_tokens    INTEGER,
  cost_usd            REAL,
  aiu                 REAL,            -- GitHub Copilot AI units
  turns               INTEGER,
  tool_calls          INTEGER,
  tool_failures       INTEGER,
  peak_context_tokens INTEGER,
  lines_added         INTEGER,
  lines_removed       INTEGER,
  task_checksum       TEXT,
  folder              TEXT,            -- where its files lie in the run's folder
  timestamp           TEXT NOT NULL    -- the run's
);

CREATE TABLE scores (
  -- one row per grader, evaluator or reward of a trial
  id       INTEGER PRIMARY KEY,
  trial_pk INTEGER NOT NULL REFERENCES trials(id),
  name     TEXT NOT NULL,
  type     TEXT,
  score    REAL,
  weight   REAL,
  passed   INTEGER,                    -- NULL where it is no verdict
  reason   TEXT                        -- first line, masked, at most 200 characters
);

CREATE TABLE run_targets (
  -- one row per configuration in a run: counts, rates, tokens and cost as in runs, over its trials
  id                 INTEGER PRIMARY KEY,
  run_pk             INTEGER NOT NULL REFERENCES runs(id),
  run_key            TEXT NOT NULL,
  timestamp          TEXT NOT NULL,    -- the run's
  experiment         TEXT NOT NULL,    -- the run's
  on_boards          INTEGER NOT NULL, -- the run's
  target             TEXT,
  agent              TEXT,
  model              TEXT,
  suite              TEXT,
  ended_count        INTEGER NOT NULL,
  trial_count        INTEGER NOT NULL,
  passed             INTEGER NOT NULL,
  failed             INTEGER NOT NULL,
  errored            INTEGER NOT NULL,
  skipped            INTEGER NOT NULL,
  cancelled          INTEGER NOT NULL,
  test_count         INTEGER NOT NULL,
  exceptions         INTEGER NOT NULL,
  pass_rate          REAL,
  avg_score          REAL,
  quality_rate       REAL,
  quality_score      REAL,
  input_tokens       INTEGER,
  cached_tokens      INTEGER,
  output_tokens      INTEGER,
  cost_usd           REAL,
  duration_s         REAL,             -- mean of the trials whose duration is known,
  timed              INTEGER NOT NULL, --   and how many these are
  firsts             INTEGER NOT NULL, -- bit s: this is the run's first row with its values in the columns s, the sum
                                       --   of 1 for target, 2 for agent, 4 for model, 8 for suite
  paid               INTEGER NOT NULL, -- passed trials whose cost is known
  scored             INTEGER NOT NULL, -- passed and failed trials whose score is known: quality_score is their mean
  target_tests       INTEGER NOT NULL, -- distinct tests of target and suite, on the first of their rows, else 0
  outcomes           TEXT NOT NULL,    -- likewise: tests by how often they passed, [[executions, passed, tests], ...]
  reported_pass_rate REAL,             -- as the tool reports it for the whole target
  reported_score     REAL
);

CREATE TABLE _repeats (
  -- verdicts of a run that were repeated under equal conditions, or that another run may repeat: flaky counts these
  run_pk           INTEGER NOT NULL REFERENCES runs(id),
  timestamp        TEXT NOT NULL,      -- the run's
  suite            TEXT,
  test_id          TEXT,
  target           TEXT,
  agent            TEXT,
  model            TEXT,
  task_checksum    TEXT,
  reasoning_effort TEXT,
  agent_version    TEXT,
  verdicts         INTEGER NOT NULL,
  passed           INTEGER NOT NULL
);

CREATE TABLE _failures (
  -- trials per kind of failure, and in how many runs; only runs that boards count
  status     TEXT NOT NULL,            -- failed or errored
  error_type TEXT,
  suite      TEXT,
  test_id    TEXT,
  target     TEXT,
  trials     INTEGER NOT NULL,
  runs       INTEGER NOT NULL
);

CREATE TABLE _errors (
  -- the errors and reasons of a run's trials in lower case, a line each: pieces of errors are searched here
  timestamp TEXT NOT NULL,             -- the run's
  run_key   TEXT NOT NULL,
  run_pk    INTEGER NOT NULL REFERENCES runs(id),
  text      TEXT NOT NULL,
  PRIMARY KEY (timestamp, run_key)
) WITHOUT ROWID;

CREATE TABLE _values (
  -- how many runs have each value of a filter
  name  TEXT NOT NULL,                 -- the filter: experiment, status, target, agent, model, dataset or tag
  value TEXT NOT NULL,
  runs  INTEGER NOT NULL,
  PRIMARY KEY (name, value)
) WITHOUT ROWID;

CREATE TABLE run_tags (
  -- one row per tag of a run
  id        INTEGER PRIMARY KEY,
  run_pk    INTEGER NOT NULL REFERENCES runs(id),
  run_key   TEXT NOT NULL,
  timestamp TEXT NOT NULL,             -- the run's
  tag       TEXT NOT NULL,             -- baseline, or team=support
  key       TEXT NOT NULL,             -- '' or team
  value     TEXT NOT NULL              -- baseline or support
);

CREATE TABLE places (
  -- one row per place where a run is found; runs holds the data of the best one
  id             INTEGER PRIMARY KEY,
  run_pk         INTEGER NOT NULL REFERENCES runs(id),
  run_key        TEXT NOT NULL,
  timestamp      TEXT NOT NULL,        -- the run's
  source         TEXT NOT NULL,
  path           TEXT NOT NULL,        -- run folder inside the source
  ref            TEXT,                 -- git ref (NULL outside git)
  sha            TEXT,                 -- git: the commit that first brought it to the ref
  status         TEXT NOT NULL,        -- the run's status as this place tells it
  ended          INTEGER NOT NULL,     -- whether the run has ended
  ended_count    INTEGER NOT NULL,     -- trials ended in any way
  last_activity  TEXT,                 -- latest end of a trial
  name           TEXT NOT NULL,        -- the folder's name as refs spell it
  tags           TEXT,                 -- what this place decides about tags: JSON array; NULL: nothing
  tags_at        TEXT,                 -- when it decided
  authored_tags  TEXT NOT NULL,        -- tags that the run itself was started with: JSON array
  rank           TEXT NOT NULL,        -- from the format: the greatest wins, before any other criterion
  format         TEXT NOT NULL,        -- the key of the format that reads it
  edition        TEXT NOT NULL,        -- likewise, among places that differ only in where they are
  fingerprint    TEXT NOT NULL         -- tells whether the place changed since it was read
);

CREATE TABLE run_commits (
  -- commits of code repositories that name a run in a trailer
  id           INTEGER PRIMARY KEY,
  run_key      TEXT NOT NULL,          -- from trailers: agentv:AgentV-Run, entire:Entire-Checkpoint, or Eval-Run
  repo         TEXT NOT NULL,          -- the name of its source
  sha          TEXT NOT NULL,
  committed_at TEXT,
  subject      TEXT
);

CREATE TABLE sources (
  -- the sources of the settings, in their order
  id            INTEGER PRIMARY KEY,
  name          TEXT NOT NULL UNIQUE,
  kind          TEXT NOT NULL,         -- git, folder, agentevals, or repo: commits of code that name runs
  place         TEXT NOT NULL,
  tip           TEXT,                  -- git: the commits of its refs when it was read
  runs          INTEGER NOT NULL,      -- runs found in it
  changed_at    TEXT,                  -- the last pass that changed a run of it
  failing_since TEXT,                  -- since when it cannot be opened
  error         TEXT,                  -- why
  note          TEXT,                  -- without runs: what was looked for, and what is there instead
  web_url       TEXT,                  -- repo: the URL of a commit's page, with {sha} for its id
  signs         TEXT NOT NULL          -- JSON array: files, and folders (with / at the end), that change with it
);

CREATE TABLE problems (
  -- what could not be read; closes itself when it is mended or gone
  id         INTEGER PRIMARY KEY,
  source     TEXT NOT NULL,
  path       TEXT NOT NULL,            -- run folder, ref or folder; '' for the whole source
  run_key    TEXT,                     -- the run it covers, if any
  kind       TEXT NOT NULL,
  message    TEXT NOT NULL,
  first_seen TEXT NOT NULL,
  ref        TEXT,
  lasting    INTEGER NOT NULL          -- 0: reported anew by each pass; 1: until its run folder is read again;
                                       --   2: likewise, and its rows are old or missing;
                                       --   3: likewise, and rows are missing; 4: until the rows are read again
);

CREATE TABLE deletions (
  -- deleted runs, for readers of the change feed; the newest 100,000
  key        TEXT PRIMARY KEY,
  rev        INTEGER NOT NULL,
  deleted_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE meta (
  -- one row about the index itself
  generation TEXT NOT NULL,            -- new after each rebuild
  schema     INTEGER NOT NULL,         -- shape of these tables, as PRAGMA user_version
  reader     TEXT NOT NULL,            -- how the files were read: reader version and options
  last_rev   INTEGER NOT NULL,         -- the counter behind runs.rev and deletions.rev
  forgotten_rev INTEGER NOT NULL       -- deletions up to here are forgotten
);

CREATE TABLE _refs (
  -- how far each git ref was read
  source   TEXT NOT NULL,
  ref      TEXT NOT NULL,
  "commit" TEXT NOT NULL,
  tree     TEXT NOT NULL,              -- '' when a part could not be read
  history  TEXT NOT NULL,              -- the tip, and a digest of where a shallow clone ends
  wip      INTEGER NOT NULL,
  PRIMARY KEY (source, ref)
) WITHOUT ROWID;

CREATE TABLE _added (
  -- which commit first brought a folder to a ref, deleted folders included
  source  TEXT NOT NULL,
  ref     TEXT NOT NULL,
  path    TEXT NOT NULL,
  sha     TEXT,                        -- NULL where a shallow clone ends
  seconds INTEGER NOT NULL,            -- commit time since 1970
  author  TEXT NOT NULL,
  name    TEXT NOT NULL,               -- the folder's name as refs spell it
  PRIMARY KEY (source, ref, path)
) WITHOUT ROWID;

CREATE TABLE _formats (
  -- the formats that the index was read with
  name    TEXT PRIMARY KEY,            -- prefix of the keys of its runs
  version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE _unsettled (
  -- runs whose best place could not be read when it took over
  key TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE _files (
  -- stamps of the files on disk that a place was read from, and of the folders searched for them:
  -- the run's own is '', the others end with /
  place_pk INTEGER NOT NULL REFERENCES places(id),
  path     TEXT NOT NULL,
  size     INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL,
  inode    INTEGER NOT NULL,
  PRIMARY KEY (place_pk, path)
) WITHOUT ROWID;
