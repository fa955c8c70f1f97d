"""Texts that are safe to keep: no secrets, and of an error one line of at most 200 characters.

Secrets turn up in error messages of every tool: credentials in URLs, tokens in command lines. They are
masked before the text is cut, so that no half of one is left at the edge. Names, which tell things apart, lose
only what can be nothing else: a test may well be called `sk-learn-regression`.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic_core import from_json

MASK = "***"
LENGTH = 200
SHORTEST_SECRET = 6
_READ, _LINE = 20_000, 1_000  # characters of a message, and of its first line, that are looked at
_LONG_VALUE = 10_000  # characters of an argument of whose lines each may be a secret

# every repetition has a limit, so that no text takes long
_URL_OF_NAME = re.compile(r"(?<=://)[^\s/@]{1,300}(?=@)")
_URL_CREDENTIALS = re.compile(r"(?<=//)(?:[^\s:/]{0,200}:\S{0,500}(?=@)|[^\s/@]{1,200}(?=@))")
_PASSWORD = re.compile(r"//[^\s:/@]{0,200}:([^\s/@]{1,500})@")
_LOGIN = re.compile(  # user:password@host
    r"(?<![\w@./+:-])[\w.+-]{1,100}:(?=[^\s@]{0,100}\d|[^\s@]{8})[^\s@:/]{3,200}(?=@[A-Za-z])(?!@sha256:)"
)
_AT = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"  # where a token begins, also after an escaped line break
_UNMISTAKABLE = re.compile(
    rf"""{_AT}(?:
      (?:sk-(?:ant|proj|svcacct|or-v1)-|github_pat_|glpat-)  # Anthropic, OpenAI, OpenRouter, GitHub, GitLab
      (?=[\w-]{{0,100}}\d)(?=[\w-]{{0,100}}[A-Z])[\w-]{{16,400}}
    | gh[oprsu]_[A-Za-z0-9]{{16,400}} | xox[abeoprs]-\d{{6}}[\w-]{{4,400}}  # GitHub, Slack
    | A(?:KI|SI)A[A-Z0-9]{{16}}(?![A-Za-z0-9]) | AIza[\w-]{{30,400}}  # AWS, Google
    | eyJ[\w-]{{8,2000}}\.[\w-]{{8,2000}}(?:\.[\w-]{{0,2000}})?  # JSON web token
    )""",
    re.VERBOSE,
)
_LIKELY = re.compile(
    rf"""{_AT}(?:
      (?:sk|pk|rk)[-_][\w-]{{8,400}}  # OpenAI, Stripe and others
    | (?=[\w.-]{{0,100}}\d)(?:
        gl(?:pat|dt|rt|ptt|cbt|ft|soat|imt|agent|oas)-[\w-]{{16,400}}  # GitLab
      | (?:github_pat_|dapi|r8_|dckr_pat_|hvs\.|nvapi-|shpat_|whsec_|pplx-|hf_|npm_|gsk_|pypi-|xai-|tvly-|sntrys_
          |SG\.|ATATT|ya29\.|xox[abeoprs]-|xapp-)[\w.-]{{8,2000}} )
    | hooks\.slack\.com/services/[\w/]{{1,200}}
    )""",
    re.VERBOSE,
)
_QUOTED = r"""(?: (?<=")(?:\\.|[^"\\]){4,1000} | (?<=')(?:\\.|[^'\\]){4,1000} | [^\s"'&;,]{4,1000} )"""
_NAMED = re.compile(
    rf"""
    ( (?:api[-_\s]?key|token|secret|passw(?:or)?d|passwd|passphrase|pwd|credentials?|authorization|cookie
        |(?:access|private|account)[-_]?key|signature)[\w-]{{0,40}}
      \\?["']? (?: \s{{0,20}}(?:[:=]|=>|==|:=)\s{{0,20}} | \s{{1,20}}(?:is|provided:)\s{{1,20}} | ,\s{{1,20}}(?=["'])
        | \s{{1,20}}(?=\S{{0,100}}\d) ) [\[(]{{0,2}} (?:[brf](?=["'])|\\)?
      ["']? (?:(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)\s{{1,20}})? ["']?
    | \bbearer\s{{1,20}}(?:token\s{{1,20}})?["']? | \bbasic\s{{1,20}}(?=\S{{0,100}}[\d=])
    | (?<!\w)(?-i:[A-Z][A-Z0-9_]{{0,60}}_(?:KEY|PAT|SK))=["']? | (?<!\w)(?:\w{{1,40}}_)?(?:pass|pw)=["']?
    | [?&](?:key|sig|code)= | \bsshpass\s{{1,20}}-p\s{{0,20}}
    | \s(?:-u\s{{0,20}}|--user[\s=]{{1,20}})[^\s:]{{1,100}}: )
    {_QUOTED}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NAMED_TAG = re.compile(r"((?:api|access|private)[-_]?key|passw(?:or)?d|secret|token)=(?=.{0,100}\D).{6,1000}", re.I)
_SHORTEST_TOKEN = 12
_TYPE = re.compile(r"[A-Za-z_][\w.:-]{0,99}")

_SECRET_KEYS = frozenset(
    {"kwargs", "env", "headers", "invocation", "argv", "args", "extra_args", "command", "api_key", "bearer_token"}
)


def secrets_in(data: bytes | None) -> list[str]:
    """The texts that a document holds as arguments and environment of what was run; empty without a document.

    Of NAME=secret, `Header: secret` and URLs with a password it is also the secret alone. Raises ValueError for what
    is no JSON: nobody knows then what has to be masked.
    """
    return list(_texts(from_json(data or b"null"), within=False))


def _texts(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _texts(inside, within or name.lower() in _SECRET_KEYS)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside, within)
    elif isinstance(value, str):
        if "@" in value:
            yield from _PASSWORD.findall(value[:_LONG_VALUE])
        if within and len(value) <= _READ:
            yield from _forms(value)
            if value[:1] in ("{", "["):
                yield from _texts_in_text(value)
    elif within and value is not None and not isinstance(value, bool):
        yield str(value)


def _forms(value: str) -> Iterator[str]:
    """How a value may be told in an error: whole, one of its lines, or the secret in `NAME=secret` and the like."""
    yield value
    for line in value.splitlines() if len(value) <= _LONG_VALUE else ():
        yield from (line, line.partition("=")[2], line.rpartition("=")[2], line.partition(":")[2].strip())
        yield line.partition(" ")[2] if line.startswith(("Bearer ", "Basic ", "Token ")) else ""


def _texts_in_text(value: str) -> Iterator[str]:
    """The texts of JSON inside a value."""
    try:
        waiting = [from_json(value.encode("utf-8", "surrogatepass"))]
    except ValueError:
        return
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            waiting.extend(each.values() if isinstance(each, dict) else each)
        elif isinstance(each, str):
            yield from _forms(each)


@lru_cache(8192)
def masked_name(text: str) -> str:
    """A name without the user and password of a URL, and without what can be nothing but a token."""
    if "@" in text:
        text = _URL_OF_NAME.sub(MASK, text)
    return text if len(text) < _SHORTEST_TOKEN else _UNMISTAKABLE.sub(MASK, text)


@lru_cache(8192)
def masked(text: str) -> str:
    """Words of people or tools, without credentials of URLs and what looks like a token."""
    text = masked_name(_URL_CREDENTIALS.sub(MASK, text) if "@" in text else text)
    return text if len(text) < _SHORTEST_TOKEN else _LIKELY.sub(MASK, text)


def masked_tag(tag: str) -> str:
    """A tag, without a token, and without the value that it is given as a secret's."""
    return _NAMED_TAG.sub(rf"\1={MASK}", masked(tag))


def error_line(text: str | None, secrets: Iterable[str] | None = ()) -> str | None:
    """The first line of an error message, masked, then cut; None if there is none.

    `secrets` are values of the run's own arguments and environment; shorter ones than six characters
    are left, since masking them would eat ordinary words. None stands for values that nobody knows: then nothing of
    the text may be kept.
    """
    if not text or secrets is None:
        return None
    text = text.lstrip()[:_READ]
    forms = {form for secret in set(secrets) if len(secret) >= SHORTEST_SECRET for form in _written(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    whole = next(iter(text.strip().splitlines()), "")
    line = _NAMED.sub(rf"\1{MASK}", _LOGIN.sub(MASK, masked(whole[:_LINE])))
    if len(whole) > _LINE and len(line) <= LENGTH:
        line = line.rpartition(" ")[0]  # the last word is not whole
    return line.rstrip()[:LENGTH] or None


def _written(secret: str) -> set[str]:
    """How programs write a text: as it is, escaped, in a URL, and of a URL what follows the host."""
    host, _, path = secret.partition("://")[2].partition("/")
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
    }
    return forms | ({f"/{path}"} if host and len(path) >= 2 * SHORTEST_SECRET else set())


def error_type(text: str | None) -> str | None:
    """The name of a kind of error, such as `AgentTimeoutError`; None for free text, which may hold anything."""
    return text if text and _TYPE.fullmatch(text) and masked(text) == text else None
