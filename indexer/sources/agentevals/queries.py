"""What is asked of agentevals' tables (`run` and `result`, migrations 1 and 2), and how fingerprints are made.

PostgreSQL stores with each row version the transaction that wrote it (`xmin`). A run's fingerprint hashes that of its
row and those of its results, plus the server's identity, since each server counts from the start.
Columns and JSON paths are taken by name, never a whole `spec`, which holds traces and secrets.
"""

_TIME = """
CASE WHEN {0} >= '0001-01-01Z' AND {0} < '9999-12-31Z'
THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END"""
# in a database without an encoding (SQL_ASCII), a cut may leave half a character, which would raise an error
_TEXT = "CASE WHEN octet_length({0}) < 100000 THEN {0} ELSE left({0}, 4000) END"
# large parts are dropped first, since each expression unpacks the whole document
RUNS = f"""
SELECT run_id::text, jsonb_build_object(
    'run_id', run_id, 'status', status, 'attempt', attempt, 'created_at', {_TIME.format("created_at")},
    'started_at', {_TIME.format("started_at")}, 'finished_at', {_TIME.format("finished_at")},
    'eval_set_id', spec #> '{{eval_set,eval_set_id}}', 'trace_count', spec #> '{{target,trace_count}}',
    'summary', jsonb_build_object(
        'trace_count', summary -> 'trace_count', 'agents', summary -> 'agents',
        'models', summary #> '{{performance_metrics,models}}',
        'tokens', jsonb_build_object(
            'total_prompt', summary #> '{{performance_metrics,tokens,total_prompt}}',
            'total_output', summary #> '{{performance_metrics,tokens,total_output}}',
            'cache_read_tokens', summary #> '{{performance_metrics,tokens,cache_read_tokens}}',
            'cache_creation_tokens', summary #> '{{performance_metrics,tokens,cache_creation_tokens}}'))
)::text, {_TEXT.format("error")}, jsonb_build_object(
    'context', spec -> 'context', 'sinks', spec -> 'sinks', 'credentials', spec -> 'credential_refs',
    'eval_config', spec -> 'eval_config', 'target', spec -> 'target')::text
FROM (
    SELECT run_id, status, attempt, created_at, started_at, finished_at, error, summary,
           CASE WHEN jsonb_typeof(spec) <> 'object' THEN NULL
                WHEN jsonb_typeof(spec -> 'target') <> 'object' THEN spec - 'target'
                ELSE spec #- '{{target,inline}}' END AS spec
    FROM run WHERE run_id = ANY(%s::uuid[]) OFFSET 0
) AS run
"""
RESULT = ("eval_set_item_id", "evaluator_name", "evaluator_type", "status", "score", "created_at", "error_text")
RESULTS = f"""
SELECT run_id::text, eval_set_item_id, evaluator_name, evaluator_type, status,
       CASE WHEN score NOT IN ('NaN', 'Infinity', '-Infinity') THEN score END, {_TIME.format("created_at")},
       {_TEXT.format("error_text")}
FROM result WHERE run_id = ANY(%s::uuid[]) ORDER BY run_id, eval_set_item_id, evaluator_name, result_id
"""

NOW = """
SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       %s::timestamptz - %s * interval '1 second'
"""
SERVER = """
SELECT concat_ws('.', (SELECT oid FROM pg_database WHERE datname = current_database()),
    CASE WHEN has_function_privilege('pg_control_system()', 'execute')
         THEN (SELECT system_identifier FROM pg_control_system()) END,
    CASE WHEN has_function_privilege('pg_control_checkpoint()', 'execute')
         THEN (SELECT timeline_id FROM pg_control_checkpoint()) END)
"""
_FINGERPRINT = """
SELECT run.run_id::text, concat_ws(' ', %(server)s::text,
    hashtextextended(concat_ws(' ', status, attempt, error), run.xmin::text::bigint),
    coalesce(written.results, 0), coalesce(written.hash, 0))
"""
_WRITTEN = """
SELECT count(*) AS results, bit_xor(hashtextextended(result_id, xmin::text::bigint)) AS hash FROM result
"""
ALL = f"""
{_FINGERPRINT} FROM run LEFT JOIN (
    SELECT run_id, {_WRITTEN.strip().removeprefix("SELECT")} GROUP BY run_id) AS written USING (run_id)
ORDER BY run.run_id
"""
_EACH = f"{_FINGERPRINT} FROM run CROSS JOIN LATERAL ({_WRITTEN} WHERE result.run_id = run.run_id) AS written"
SOME = f"""
{_EACH} WHERE run.status IN ('queued', 'running') OR run.run_id = ANY(%(live)s::uuid[])
           OR run.created_at >= %(since)s OR run.finished_at >= %(since)s
"""
ONE = f"{_EACH} WHERE run.run_id = %(run)s"
