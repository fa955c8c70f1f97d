"""Texts that are safe to keep: no secrets, and of an error one line of at most 200 characters.

Secrets turn up in error messages of every tool: credentials in URLs, tokens in command lines. They are
masked before the text is cut, so that no half of one is left at the edge. Names, which tell things apart, lose
only what can be nothing else: a test may well be called `sk-learn-regression`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from pydantic_core import from_json

MASK = "***"
LENGTH = 200
SHORTEST_SECRET = 6
_READ, _LINE = 20_000, 1_000  # characters of a message, and of its first line, that are looked at

_URL_CREDENTIALS = re.compile(r"(?<=//)(?:[^\s:/]*:\S*(?=@)|[^\s/@]+(?=@))")
_CREDENTIALS = re.compile(r"(?<![\w@./-])[\w.+-]+:[^\s@:/]{3,}(?=@[A-Za-z0-9])(?!@sha256:)")  # user:password@host
# nothing else looks like these
_SURE_TOKENS = re.compile(
    r"""
      sk-(?:ant|proj|svcacct|or-v1)-[A-Za-z0-9_-]{16,}  # Anthropic, OpenAI, OpenRouter
    | gh[oprsu]_[A-Za-z0-9]{16,} | github_pat_\w{16,}  # GitHub
    | gl[a-z]{2,8}-[\w-]{16,} | hf_[A-Za-z0-9]{16,} | npm_[A-Za-z0-9]{16,} | pypi-[\w-]{16,}  # GitLab, Hugging Face
    | xox[abeoprs]-[\w-]{8,} | xapp-[\w-]{8,} | hooks\.slack\.com/services/[\w/]+  # Slack
    | \bA(?:KI|SI)A[A-Z0-9]{16}\b | AIza[\w-]{30,} | ya29\.[\w-]{16,}  # AWS, Google
    | \b(?:gsk_|xai-|tvly-|sntrys_|SG\.)[\w.-]{16,} | ATATT[\w-]{16,}  # Groq, xAI, Tavily, Sentry, SendGrid, Atlassian
    | eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?  # JSON web token
    """,
    re.VERBOSE,
)
_TOKENS = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}")  # OpenAI, Stripe and others
_SHORTEST_TOKEN = 12
_NAMED = re.compile(
    r"""
    ( (?:api[-_]?key|token|secret|passw(?:or)?d|passwd|passphrase|pwd|credentials?|authorization|cookie
        |(?:access|private|account)[-_]?key|signature)[\w-]*
      ["']? (?: \s*[:=]\s* | \s+(?=\S*\d) ) \[?
      ["']? (?:(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)\s+)? ["']?
    | \b(?:bearer|basic)\s+ ["']?
    | [?&](?:key|sig|code)= | \b\w*(?:pass|_pw)=["']? | \bsshpass\s+-p\s* | \s-u\s+[^\s:]+: )
    (?: (?<=")[^"]{4,} | (?<=')[^']{4,} | [^\s"'&;,]{4,} )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TYPE = re.compile(r"[A-Za-z_][\w.:-]{0,99}")

_SECRET_KEYS = frozenset(
    {"kwargs", "env", "headers", "invocation", "argv", "args", "extra_args", "command", "api_key", "bearer_token"}
)
_PASSWORD = re.compile(r"//[^\s:/@]*:(\S+)@")


def secrets_in(data: bytes | None) -> list[str]:
    """The texts that a document holds as arguments and environment of what was run; empty if it is no JSON.

    Of NAME=secret, `Header: secret` and URLs with a password it is also the secret alone.
    """
    try:
        return list(_texts(from_json(data or b"null"), within=False))
    except ValueError:
        return []


def _texts(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _texts(inside, within or name.lower() in _SECRET_KEYS)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside, within)
    elif isinstance(value, str):
        yield from _PASSWORD.findall(value)
        if within:
            yield value
            for line in value.splitlines():
                yield from (line, line.partition("=")[2], line.rpartition("=")[2], line.partition(":")[2].strip())
                yield line.partition(" ")[2] if line.startswith(("Bearer ", "Basic ", "Token ")) else ""
            if value[:1] in ("{", "["):
                yield from secrets_in(b'{"env": %s}' % value.encode("utf-8", "surrogatepass"))
    elif within and not isinstance(value, bool) and value is not None:
        yield str(value)


def masked_name(text: str) -> str:
    """A name without the user and password of a URL, and without what can be nothing but a token."""
    if len(text) < _SHORTEST_TOKEN:
        return text
    return _SURE_TOKENS.sub(MASK, _URL_CREDENTIALS.sub(MASK, text) if "@" in text else text)


def masked(text: str) -> str:
    """Words of people or tools, without credentials and what looks like a token."""
    text = masked_name(text)
    return _NAMED.sub(rf"\1{MASK}", _TOKENS.sub(MASK, _CREDENTIALS.sub(MASK, text)))


def error_line(text: str | None, secrets: Iterable[str] = ()) -> str | None:
    """The first line of an error message, masked, then cut; None if there is none.

    `secrets` are values of the run's own arguments and environment; shorter ones than six characters
    are left, since masking them would eat ordinary words.
    """
    if not text:
        return None
    text = text.lstrip()[:_READ]
    known = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
    for secret in sorted(known | {quote(secret, safe="") for secret in known}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    line = next(iter(text.strip().splitlines()), "")
    if len(line) > _LINE:
        line = line[:_LINE].rpartition(" ")[0] or line[:LENGTH]  # the last word is not whole
    return masked(line).rstrip()[:LENGTH] or None


def error_type(text: str | None) -> str | None:
    """The name of a kind of error, such as `AgentTimeoutError`; None for free text, which may hold anything."""
    return text if text and _TYPE.fullmatch(text) and masked(text) == text else None
