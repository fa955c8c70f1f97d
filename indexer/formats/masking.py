"""Error texts that are safe to keep: one line, no secrets, at most 200 characters.

Secrets turn up in error messages of every tool: credentials in URLs, tokens in command lines. They are
masked before the text is cut, so that no half of one is left at the edge.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import from_json

MASK = "***"
LENGTH = 200
SHORTEST_SECRET = 6
_READ, _LINE = 20_000, 1_000  # characters of a message, and of its first line, that are looked at

_URL_CREDENTIALS = re.compile(r"(?<=://)(?:[^\s:/]*:\S*(?=@)|[^\s/@]+(?=@))")
_TOKENS = re.compile(
    r"""
      \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}                 # OpenAI, Anthropic, Stripe
    | \bgh[oprsu]_[A-Za-z0-9]{16,} | \bgithub_pat_\w{16,}  # GitHub
    | \bglpat-[\w-]{16,} | \bhf_[A-Za-z0-9]{16,} | \bnpm_[A-Za-z0-9]{16,}  # GitLab, Hugging Face, npm
    | \bxox[abeoprs]-[\w-]{8,}                             # Slack
    | \bA(?:KI|SI)A[A-Z0-9]{16}\b | \bAIza[\w-]{30,}       # AWS, Google
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?               # JSON web token
    """,
    re.VERBOSE,
)
_NAMED = re.compile(
    r"""
    ( (?:api[-_]?key|token|secret|passw(?:or)?d|passwd|pwd|credentials?|authorization|access[-_]?key)[\w-]*
      ["']? (?: \s*[:=]\s* | \s+(?=\S*\d) ) (?:(?:bearer|basic)\s+)? ["']?
    | \b(?:bearer|basic)\s+ )
    [^\s"'&;,]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TYPE = re.compile(r"[A-Za-z_][\w.:-]{0,99}")

_SECRET_KEYS = frozenset({"kwargs", "env", "invocation", "extra_args", "api_key", "bearer_token"})


def secrets_in(data: bytes | None) -> list[str]:
    """The texts that a document holds as arguments and environment of what was run; empty if it is no JSON."""
    try:
        return list(_texts(from_json(data or b"null"), within=False))
    except ValueError:
        return []


def _texts(value: Any, within: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _texts(inside, within or name in _SECRET_KEYS)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside, within)
    elif within and isinstance(value, str):
        yield value
        yield value.partition("=")[2]  # NAME=secret


def error_line(text: str | None, secrets: Iterable[str] = ()) -> str | None:
    """The first line of an error message, masked, then cut; None if there is none.

    `secrets` are values of the run's own arguments and environment; shorter ones than six characters
    are left, since masking them would eat ordinary words.
    """
    if not text:
        return None
    text = text[:_READ]
    for secret in sorted({s for s in secrets if len(s) >= SHORTEST_SECRET}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    line = next(iter(text.strip().splitlines()), "")[:_LINE]
    line = _NAMED.sub(rf"\1{MASK}", _TOKENS.sub(MASK, _URL_CREDENTIALS.sub(MASK, line)))
    return line.rstrip()[:LENGTH] or None


def error_type(text: str | None) -> str | None:
    """The name of a kind of error, such as `AgentTimeoutError`; None for free text, which may hold anything."""
    return text if text and _TYPE.fullmatch(text) and not _TOKENS.search(text) else None
