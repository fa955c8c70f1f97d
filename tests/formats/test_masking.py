import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from indexer.formats.masking import LENGTH, error_line, masked, masked_name, masked_tag, secrets_in
from tests.mutations import no_hang


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CLI exited with code 3", "CLI exited with code 3"),
        ("first\nsecond", "first"),
        ("\n\n  late", "late"),
        ("", None),
        ("cannot clone https://user:pa55@host/x", "cannot clone https://***@host/x"),
        ("postgres://u:p@ss@db:5432/x", "postgres://***@db:5432/x"),
        ("bad key sk-abcdefghijklmnop!", "bad key ***!"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("token=abcdefgh&x=1", "token=***&x=1"),
        ("use ghp_0123456789abcdefABCDEF now", "use *** now"),
        ("AKIAIOSFODNN7EXAMPLE denied", "*** denied"),
        ("postgres://u:p/ss@host down", "postgres://***@host down"),
        ("password: hunter22", "password: ***"),
        ('{"api_key": "abcd1234"}', '{"api_key": "***"}'),
        ("API_KEY = abcd1234", "API_KEY = ***"),
        ("run --api-key abcd1234 x", "run --api-key *** x"),
        ("AWS_SECRET_ACCESS_KEY='abcd/1234'", "AWS_SECRET_ACCESS_KEY='***'"),
        ("Bearer  two-spaces1", "Bearer  ***"),
        ("token expired", "token expired"),
        ("Authorization: Token abc.def-ghi", "Authorization: Token ***"),
        (r"repr: 'a\nghp_0123456789abcdefABCDEF'", r"repr: 'a\n***'"),
        (r"key_sk-abcdefghijklmnop, a\nsk-abcdefghijk", r"key_***, a\n***"),
        ("glptt-0123456789abcdefABCD and gsk_0123456789abcdefABCD", "*** and ***"),
        ("password='correct horse battery' x", "password='***' x"),
        ('{"secret": ["abcd efgh"]}', '{"secret": ["***"]}'),
        ("get /x?key=abcd1234&a=b", "get /x?key=***&a=b"),
        ("DB_PASS=hunter22 run", "DB_PASS=*** run"),
        ("curl -u bob:hunter22 x", "curl -u bob:*** x"),
        ("sshpass -p hunter22 ssh", "sshpass -p *** ssh"),
        ("bob:hunter22@db.example.org", "***@db.example.org"),
        ("python:3.12@sha256:0123456789abcdef", "python:3.12@sha256:0123456789abcdef"),
        ("task-specific-regression failed", "task-specific-regression failed"),
        ("['mysql', '--password', 'hunter22'] failed", "['mysql', '--password', '***'] failed"),
        (r"{\"api_key\": \"hunter22\"}", r"{\"api_key\": \"***"),
        ("Incorrect API key provided: hunter2x", "Incorrect API key provided: ***"),
        ('invalid bearer token "abcd1234"', 'invalid bearer token "***"'),
        ("OPENAI_KEY=hunter22 x", "OPENAI_KEY=*** x"),
        ("password=b'hunter22'", "password=b'***'"),
        ("customer_key=abcd is missing", "customer_key=abcd is missing"),
        ("x" * 180 + "/ghp_0123456789abcdefABCDEF/" + "y" * 2000, "x" * 180 + "/***/" + "y" * 15),
        (" " * 30_000 + "late", "late"),
        ("a " + "b" * 980 + " ghp_0123456789abcdefABCDEF", "a " + "b" * 198),
        ("x" * 500, "x" * 200),
    ],
)
def test_credentials_are_masked(text: str, line: str | None) -> None:
    assert error_line(text) == line


def test_the_runs_own_secrets_are_masked_longest_first_and_short_words_stay() -> None:
    assert error_line("hunter2hunter2 said hunter2 to a", ["hunter2", "hunter2hunter2", "a"]) == "*** said *** to a"


NAMES = (
    "sk-learn-regression", "english-grammar-correction-a", "wrangling-csv-files-with-pandas", "SG.engine-comparison-10",
    "glossary-lookup-with-context", "pypi-package-installation-1", "xai-grok-4-fast-reasoning", "npm:react@18.2.0",
    "npm_installdependencies", "task-proj-alpha-beta-gamma-delta", "model:large@high", "claude-code@1.2.3",
    "git@github.com:a/b", "sk-proj-2024-migration-tests", "github_pat_is_rejected_when_expired", "//pkg:target@linux",
    "https://example.com:8080/@scope/pkg", "glpat-rotation-works-for-2-users-now", "xoxb-1-token-parse-test",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_keep_what_may_be_a_name(name: str) -> None:
    assert masked_name(name) == name


def test_names_lose_what_can_be_nothing_else() -> None:
    assert masked_name("https://u:pw@h/x and ghp_0123456789abcdefABCDEF") == "https://***@h/x and ***"
    assert masked_name("db://u:p@h") == "db://***@h"


@pytest.mark.parametrize("tag", ["tokens=4000", "pass=always", "team=support", "token=128000", "sk=1"])
def test_tags_keep_what_is_no_secret(tag: str) -> None:
    assert masked_tag(tag) == tag


@pytest.mark.parametrize("tag", ["api_key=hunter22", "password=correct horse", "key=sk-abcdefghijk1"])
def test_tags_lose_secrets(tag: str) -> None:
    assert masked_tag(tag).endswith("=***")


PARTS = (
    "a", ":", "//", "x@", "//a:", "'", '"', "@//:", "+", "a+:", "api-key", "token-", "token ", "signature", "eyJ",
    "eyJ-a.", "gh", "sk-", " -u ", "pass=", "basic ", "\\n", "[", "secret=\"", "https://a:b", "[[", "\n", "=",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_no_text_takes_long(part: str) -> None:
    text = part * (20_000 // len(part))
    with no_hang(2.0):
        for mask in (masked_name, masked, masked_tag, error_line):
            mask(text)
        list(secrets_in(json.dumps({"env": {"A": text, "B": [text, text[:9000]]}}).encode()))


def test_json_in_arguments_may_be_nested_deep() -> None:
    value: object = "hunter22"
    for _ in range(8):
        value = json.dumps([[[[[[[[[[value]]]]]]]]]])
    assert isinstance(secrets_in(json.dumps({"env": {"A": value}}).encode()), list)


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        ({"env": {"A": "hunter22"}}, "hunter22"),
        ({"ENV": ["A=hunter22"]}, "hunter22"),
        ({"argv": ["--ak=foo=hunter22"]}, "hunter22"),
        ({"headers": {"X": "X-Auth: hunter22"}}, "hunter22"),
        ({"kwargs": {"auth": "Bearer hunter22"}}, "hunter22"),
        ({"env": {"KEY": "first line\nhunter22"}}, "hunter22"),
        ({"env": {"JSON": '{"a": {"b": "hunter22"}}'}}, "hunter22"),
        ({"kwargs": {"pin": 8172635405}}, "8172635405"),
        ({"task": {"git_url": "https://bob:hunter22@h/x"}}, "hunter22"),
    ],
)
def test_what_a_run_was_given_is_secret(given: object, secret: str) -> None:
    assert secret in secrets_in(json.dumps(given).encode())
    assert error_line(f"failed: {secret}!", secrets_in(json.dumps(given).encode())) == "failed: ***!"


@pytest.mark.parametrize("written", [repr, json.dumps, quote, quote_plus])
def test_a_secret_is_masked_however_it_is_written(written: Callable[[str], str]) -> None:
    secret = 'pä"ss/wo\trd'
    assert error_line(f"failed: {written(secret)}!", [secret]) in ("failed: ***!", "failed: '***'!", 'failed: "***"!')


def test_the_path_of_a_secret_url_is_masked() -> None:
    assert (
        error_line("url: /services/T0/B0/abcdef (host x)", ["https://h/services/T0/B0/abcdef"]) == "url: *** (host x)"
    )


def test_an_encoded_secret_is_masked() -> None:
    assert error_line("get /x?a=p%2Fw%20%C3%A9s!", ["p/w és"]) == "get /x?a=***!"


def test_a_secret_across_the_cut_leaves_no_half() -> None:
    secret = "s3cret-value-of-some-length"
    line = error_line("x" * (LENGTH - 10) + secret, [secret])
    assert line is not None
    assert "s3cret" not in line
    assert len(line) <= LENGTH
