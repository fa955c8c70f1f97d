import json
import random
import string
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from indexer.masking import LENGTH, error_line, masked, masked_name, masked_tag
from indexer.masking.given import secrets_in
from indexer.masking.token_shapes import is_random
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
        (r"key_sk-abcdefghijklmnop, a\nsk-4bC9dE2fG7hJ", r"key_***, a\n***"),
        ("no test sk-learn-regression", "no test sk-learn-regression"),
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


@pytest.mark.parametrize("tag", ["api_key=hunter22", "password=correct horse", "key=sk-4bC9dE2fG7hJ"])
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
        ({"env": {"API_KEY": "hunter22"}}, "hunter22"),
        ({"ENV": ["A_TOKEN=hunter22"]}, "hunter22"),
        ({"env": [{"name": "DB_PASSWORD", "value": "hunter22"}]}, "hunter22"),
        ({"argv": ["--ak=apiKey=hunter22"]}, "hunter22"),
        ({"argv": ["--ak", "api_key=hunter22"]}, "hunter22"),
        ({"argv": ["--auth-token", "hunter22"]}, "hunter22"),
        ({"command": "run --password 'hunter22' -x"}, "hunter22"),
        ({"headers": {"X": "X-Auth: hunter22"}}, "hunter22"),
        ({"kwargs": {"auth": "Bearer hunter22"}}, "hunter22"),
        ({"env": {"KEY": "first line\nhunter22"}}, "hunter22"),
        ({"env": {"JSON": '{"cookie": {"b": "hunter22"}}'}}, "hunter22"),
        ({"env": {"JSON": json.dumps({"a": json.dumps({"secret": "hunter22"})})}}, "hunter22"),
        ({"task": {"git_url": "https://bob:hunter22@h/x"}}, "hunter22"),
        ({"env": {"PGPASSWORD": "hunter22"}}, "hunter22"),
        ({"env": {"GITHUBTOKEN": "hunter22"}}, "hunter22"),
        ({"env": {"AWS_ACCESS_KEY_ID": "hunter22"}}, "hunter22"),
        ({"env": {"API_KEY": "'hunter22'\n"}}, "hunter22"),
        ({"env": {"API_KEYS": "hunter22,hunter33"}}, "hunter22"),
        ({"cmd": 'export API_KEY="hunter22"; run'}, "hunter22"),
        ({"argv": ["--ak", 'cfg={"api_key": "hunter22"}']}, "hunter22"),
        ({"url": "https://h/x?a=1&token=hunter22&b=2"}, "hunter22"),
        ({"env": [["API_KEY", "hunter22"]]}, "hunter22"),
        ({"env": {"CONNECTION_STRING": "Server=x;Password=hunter22;"}}, "hunter22"),
        ({"argv": ["curl", "-u", "me:hunter22"]}, "hunter22"),
        ({"a": "sshpass -p hunter22 ssh x"}, "hunter22"),
        ({"env": {"HTTP_PROXY": "http://hunter22@p:80"}}, "hunter22"),
    ],
)
def test_what_a_run_was_given_under_a_name_that_says_secret_is_secret(given: object, secret: str) -> None:
    assert secret in secrets_in(json.dumps(given).encode())
    assert error_line(f"failed: {secret}!", secrets_in(json.dumps(given).encode())) == "failed: ***!"


@pytest.mark.parametrize(
    "given",
    [
        {
            "env": {
                "MODEL": "gpt-5-mini",
                "MAX_TOKENS": "128000",
                "TOKENIZER": "cl100k_base",
                "TOKEN_LIMIT": "none-at-all",
            }
        },
        {"argv": ["run", "-m", "anthropic/claude-fake-4", "--job-name", "nightly-eval", "--n-tokens", "200000"]},
        {
            "kwargs": {
                "api_key": "${API_KEY}",
                "token": "****",
                "auth_mode": "oauth-device",
                "secret": True,
                "key": "short",
            }
        },
        {"argv": ["--ak=effort=highest", "--task", "hello-world", "--no-auth", "--verbose"]},
    ],
)
def test_what_is_called_otherwise_is_no_secret(given: object) -> None:
    assert secrets_in(json.dumps(given).encode()) == []


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


ALPHABET = string.ascii_letters + string.digits
DRAWN = random.Random(23)


def drawn(length: int, alphabet: str = ALPHABET) -> str:
    return "".join(DRAWN.choices(alphabet, k=length))


CAPITALS, SMALL, HEX = (
    string.ascii_uppercase + string.digits,
    string.ascii_lowercase + string.digits,
    "0123456789abcdef",
)
HOOK = f"T{drawn(8, CAPITALS)}/B{drawn(8, CAPITALS)}/{drawn(24)}"
SECRETS = {
    "openai": f"sk-proj-{drawn(48)}",
    "openai legacy": f"sk-{drawn(20)}T3BlbkFJ{drawn(20)}",
    "anthropic": f"sk-ant-api03-{drawn(93, ALPHABET + '-_')}AA",
    "openrouter": f"sk-or-v1-{drawn(64, HEX)}",
    "hugging face": f"hf_{drawn(34)}",
    "groq": f"gsk_{drawn(52)}",
    "xai": f"xai-{drawn(80)}",
    "replicate": f"r8_{drawn(37)}",
    "langfuse": f"sk-lf-{drawn(8, SMALL)}-{drawn(12, SMALL)}",
    "github": f"ghp_{drawn(36)}",
    "github fine-grained": f"github_pat_{drawn(22)}_{drawn(59)}",
    "gitlab": f"glpat-{drawn(20)}",
    "npm": f"npm_{drawn(36)}",
    "pypi": f"pypi-AgEIcHlwaS5vcmc{drawn(70)}",
    "docker": f"dckr_pat_{drawn(27)}",
    "aws id": f"AKIA{drawn(16, CAPITALS)}",
    "google": f"AIza{drawn(35)}",
    "google oauth": f"ya29.{drawn(60)}",
    "slack": f"xoxb-{drawn(11, '123456789')}-{drawn(24)}",
    "slack hook": f"https://hooks.slack.com/services/{HOOK}",
    "stripe": f"sk_live_{drawn(24)}",
    "sendgrid": f"SG.{drawn(22)}.{drawn(43)}",
    "databricks": f"dapi{drawn(32, HEX)}",
    "digitalocean": f"dop_v1_{drawn(64, HEX)}",
    "vault": f"hvs.{drawn(90)}",
    "sentry": f"sntrys_{drawn(60)}",
    "jwt": f"eyJ{drawn(20)}.eyJ{drawn(40)}.{drawn(43)}",
    "telegram": f"{drawn(9, '123456789')}:AA{drawn(33)}",
    "random": drawn(40),
    "random url-safe": drawn(43, ALPHABET + "-_"),
    "named": "api_key=correct-horse",
    "header": "Authorization: Bearer battery-staple",
    "url": "postgres://app:t0p-s3cret@db/x",
    "option": "--password open-sesame",
    "login": "deploy:hunter2-22@proxy.example.org",
}
"""One made-up secret of each kind; no kind may get into the index."""


def told_part(secret: str) -> str:
    """The part of a made-up secret that may not be told."""
    for before in ("Bearer ", "api_key=", "--password ", "services/", "app:", "deploy:"):
        secret = secret.rpartition(before)[2]
    return secret.partition("@")[0]


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize(
    "message", ["{}", "401 from the model: {} is not valid", "key '{}'.", 'said "{}"', "url?k={}", "({})"]
)
def test_no_kind_of_secret_is_told(kind: str, message: str) -> None:
    line = error_line(message.format(SECRETS[kind]))
    assert line is not None
    assert told_part(SECRETS[kind]) not in line
    assert "***" in line


ORDINARY = """
model {model} is not found at {host}
task {task} of job {job} timed out after 600 seconds
AgentTimeoutError: {task} ({model}) did not end in 1800.0 s
cannot open {path}: no such file or directory
HTTP 429 from https://{host}:8080/v1/chat/{model}@latest
token limit 200000 exceeded by {model} in {task}
max_tokens=4096 is too large for {model}
tokenizer: {model} has no vocabulary at {path}
invalid api key for {model}
secret {task} not found on {host}
docker run -u 1000:1000 {task}: exit 125
verifier of {task} wrote no reward to {path}
basic test {task} failed on {host}
key {task} is missing in {path}
invalid bearer token for {host}
{job}/{task}: RewardFileNotFoundError: {path}
password of {host} has expired, {task}
cost of {job} by {model}: input_tokens: 120034
ssh: connect to host {host} port 22: refused, {job}
sha256:{hex} of {task} differs, {uuid}
""".strip().splitlines()
NAMED = [
    dict(zip(("model", "job", "task", "path", "host"), line.split(), strict=True))
    for line in """
claude-sonnet-4-5-20250929 nightly-2026-11-20 fix-git__7E4yD34 /work/jobs/n/fix-git__7E4yD34/result.json api.a.com
gpt-5-mini-2025-08-07 2026-01-05__09-00-00-exp0 count-dataset-tokens__25PPWGh jobs/a/verifier/reward.txt 10.0.0.12
Qwen3-Coder-480B-A35B-Instruct-FP8 regression swe-bench_astropy__astropy-12907 ./tasks/12907/task.toml gpu-07.internal
Llama-4-Maverick-17B-128E-Instruct terminal-bench-2.0-sweep sk-learn-regression C:/evals/sk-learn/run.log localhost
us.anthropic.claude-3-7-sonnet-20250219-v1:0 api-key-rotation secret-santa-scheduling ~/evals/token-stream/a.json ec2-5
DeepSeek-R1-0528-Qwen3-8B p-resumed password-reset-flow-3 /tmp/harbor/ms__cSPcfqx/steps/scaffold proxy-1.example.org
openai/gpt-4o-mini-2024-07-18 auth-refactor authorization-bug-12 logs/2026-11-26_x_NnXkTbQ8yLqWzVfPjH2aRc.eval a.docker
kimi-k2-0905-preview w47-2026 cookie-consent-banner /home/dev/evals/2026-11-21T05-35-23-788Z/index.jsonl registry.a.net
gemini-2.5-pro-preview-06-05 baseline sso-token-exchange agents/oracle/oracle.txt 192.168.4.20
mistral-large-2411 AgentTimeoutErrorInVerifierStep2 build-cython-ext runs/e::2026-01-05T09-00-00-123Z/summary.json node3
""".strip().splitlines()
]


@pytest.mark.parametrize("template", ORDINARY)
@pytest.mark.parametrize("names", NAMED)
def test_no_name_is_lost(template: str, names: dict[str, str]) -> None:
    argv = ["run", "-m", names["model"], "--job-name", names["job"], "-t", names["task"], "-p", names["path"]]
    given = {"argv": argv, "env": {"HOST": names["host"], "MODEL": names["model"]}}
    text = template.format(**names, hex=HEX * 4, uuid="23b29240-0000-4000-8000-00000000abcd")
    assert error_line(text, secrets_in(json.dumps(given).encode())) == text[:LENGTH]


@pytest.mark.parametrize(
    "text",
    [
        "SyntaxError: unexpected token: identifier",
        "API key: missing value",
        "password: required",
        "Authorization: denied",
        "key-value-store-benchmark2024",
        "hf_hub_download12345678",
        "python:3.11-slim@docker.io",
        "mailto:someone123@host.com",
        "docker run -u 1000:docker1",
        "chown -u root:wheelgroup",
    ],
)
def test_words_of_a_message_stay(text: str) -> None:
    assert error_line(text) == text


def test_no_half_of_a_secret_is_left_where_a_whole_message_is_cut() -> None:
    text = "first\n" + "ab " * 6660 + "    hunter-blue-42 tail"
    line = error_line(text, ["hunter-blue-42"], whole=True)
    assert line is not None
    assert "hunter" not in line


def test_a_name_of_the_run_stays_though_it_looks_random() -> None:
    name = drawn(24)
    assert error_line(f"log {name} is empty", names=[name]) == f"log {name} is empty"
    assert error_line(f"log {name} is empty") == "log *** is empty"


def test_a_whole_message_is_masked_line_by_line() -> None:
    assert error_line("a\n  token=abcd1234\nsee s3cr3t-x", ["s3cr3t-x"], whole=True) == "a\n  token=***\nsee ***"


@pytest.mark.parametrize(
    ("word", "random_"),
    [
        ("aB3xY9kQ2mZ7p-L4wR8tV1nC6dF5g", True),  # two pieces, none of them long
        ("aB3xY9-kQ2mZ7", False),  # too short to tell from a name
        ("gpt4-Turbo2-Preview1-Large3", False),
        ("a1b2c3d4e5f6g7h8i9j0k1l2m3n4", True),  # small letters only, but digits all over
        ("abcdefgh12ijklmnop34qrstuvwx56yz", True),
        ("abcdefghijklm12nopqrstuvwxyzabcd34", False),  # two numbers
        ("abcdefghijklmnop12qrstuvwxyzabcdef34ghijklmnopqrst56", False),  # long stretches: words
        ("a1b2c3d4e5f6-g7h8i9j0k1l2m3n4", False),  # pieces: a name
    ],
)
def test_pieces_of_a_random_word_count_together(word: str, random_: bool) -> None:
    assert is_random(word) is random_
