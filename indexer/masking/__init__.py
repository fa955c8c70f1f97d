"""Texts that are safe to keep: no secrets, and of an error one line of at most 200 characters.

Secrets turn up in error messages of every tool: credentials in URLs, tokens in command lines. They are
masked before the text is cut, so that no half of one is left at the edge. Names identify things, so they lose
only what is certainly a secret.
"""

import json
import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus

from indexer.masking.given import is_secret
from indexer.masking.token_shapes import without_tokens, without_unmistakable_tokens

MASK = "***"
LENGTH = 200
"""Characters that are kept of an error or a reason."""
WHOLE = 20_000
"""Characters of a message that are looked at."""
_LINE = 1_000  # characters of its first line that are looked at
_SHORTEST_TOKEN = 12

# every repetition has a limit, so that no text takes long
_URL_OF_NAME = re.compile(r"(?<=://)[^\s/@]{1,300}(?=@)")
_URL_CREDENTIALS = re.compile(
    r"(?<=//)(?![^\s:/@]{0,200}:\d{1,5}(?:[/\s]|$))(?:[^\s:/]{0,200}:\S{0,500}(?=@)|[^\s/@]{1,200}(?=@))"
)
_LOGIN = re.compile(  # user:password@host
    r"(?<![\w@./+:-])(?!mailto:|npm:|docker:)[\w.+-]{1,100}:(?=[^\s@]{0,100}\d|[^\s@]{8})(?!\d[\d.]{0,9}(?:-\w{1,20})?@)"
    r"[^\s@:/]{3,200}(?=@(?:localhost|host|db|[A-Za-z][\w-]{0,100}[.:][\w]))(?!@sha256:)"
)
_QUOTED = r"""(?: (?<=")(?:\\.|[^"\\]){6,1000} | (?<=')(?:\\.|[^'\\]){6,1000} | [^\s"'&;,]{6,1000} )"""
_NAMED = re.compile(
    rf"""
    ( (?:api[-_\s]?key|token|secret|passw(?:or)?d|passwd|passphrase|pwd|credentials?|authorization|cookie
        |(?:access|private|account)[-_]?key|signature)
      (?: s | (?-i:[A-Z])\w{{0,40}} | _(?!name|id|type|count|limit|path|file|url|usage|budget|size)\w{{0,40}}
        | -(?:key|value|token|secret) )?
      \\?["']? (?: \s{{0,20}}(?:[:=]|=>|==|:=)\s{{0,20}} | \s{{1,20}}is\s{{1,20}}(?=["']|\S{{0,100}}\d)
        | \s{{1,20}}provided:\s{{1,20}} | ,\s{{1,20}}(?=["']) | \s{{1,20}}(?=["'][^"']{{0,100}}\d) )
      [\[(]{{0,2}} (?:[brf](?=["'])|\\)?
      ["']? (?:(?:bearer|basic|token|apikey|digest|negotiate|aws4-hmac-sha256)\s{{1,20}})? ["']?
    | (?<![\w-])--?[\w-]{{0,40}}(?:key|token|secret|password|passwd|auth|credential|cookie)s?\s{{1,20}}["']?(?!-)
    | \bbearer\s{{1,20}}(?:token\s{{1,20}})?["']?(?=\S{{0,100}}\d)
    | \bbasic\s{{1,20}}(?=[A-Za-z0-9+/]{{12,400}}={{0,2}}(?![\w-]))(?=\S{{0,100}}(?-i:[A-Z]))(?=\S{{0,100}}[\d=])
    | (?<!\w)(?-i:[A-Z][A-Z0-9_]{{0,60}}_(?:KEY|PAT|SK))=["']? | (?<!\w)(?:\w{{1,40}}_)?(?:pass|pw)=["']?
    | [?&](?:key|sig|code)= | \bsshpass\s{{1,20}}-p\s{{0,20}}
    | \bcurl\s(?:[^\n]{{0,200}}\s)?(?:-u\s{{0,20}}|--user[\s=]{{1,20}})[^\s:]{{1,100}}: )
    ({_QUOTED})
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NAMED_TAG = re.compile(r"((?:api|access|private)[-_]?key|passw(?:or)?d|secret|token)=(?=.{0,100}\D).{6,1000}", re.I)
_WORD = re.compile(r"[A-Za-z]{1,15}[.,:;!)]?|<[\w -]{1,30}>")
"""Words that a message puts after a secret's name without revealing it: `password: required`."""
_TYPE = re.compile(r"[A-Za-z_][\w.:-]{0,99}")


@lru_cache(8192)
def masked_name(text: str) -> str:
    """A name without the user and password of a URL, and without unmistakable tokens."""
    if "@" in text:
        text = _URL_OF_NAME.sub(MASK, text)
    return text if len(text) < _SHORTEST_TOKEN else without_unmistakable_tokens(text, MASK)


@lru_cache(8192)
def masked(text: str) -> str:
    """Free text without credentials of URLs or anything that looks like a token."""
    text = masked_name(_URL_CREDENTIALS.sub(MASK, text) if "@" in text else text)
    return text if len(text) < _SHORTEST_TOKEN else without_tokens(text, MASK)


def masked_tag(tag: str) -> str:
    """A tag without tokens, and without its value if its name means a secret."""
    return _NAMED_TAG.sub(rf"\1={MASK}", masked(tag))


def error_line(
    text: str | None, secrets: Iterable[str] | None = (), *, names: Collection[str] = (), whole: bool = False
) -> str | None:
    """The first line of an error message, masked, then cut; None if there is none. All of it if `whole`.

    `secrets` are values that the run was given (see `given`); None means that they are unknown, and then nothing of the
    text may be kept. `names` are the run's own and stay even if they look random.
    """
    if not text or secrets is None:
        return None
    text = _without(text.lstrip()[: WHOLE + _LINE], set(secrets))  # no half of a secret is left where it is cut
    if whole:
        lines = [_masked_line(line, names) for line in text[:WHOLE].rstrip().splitlines()]
        return "\n".join(lines) or None
    first = next(iter(text.strip().splitlines()), "")
    line = _masked_line(first[:_LINE], names)
    if len(first) > _LINE and len(line) <= LENGTH:
        line = line.rpartition(" ")[0]  # the last word is not whole
    return line.rstrip()[:LENGTH] or None


@lru_cache(8192)
def reason_line(text: str, *, whole: bool = False) -> str | None:
    """A grader's reason, treated like an error; cached, since many are the same."""
    return error_line(text, whole=whole)


def _without(text: str, secrets: Collection[str]) -> str:
    """A text without the values of secrets, however they are written."""
    forms = {form for secret in secrets if is_secret(secret) for form in _written(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def _masked_line(line: str, names: Collection[str]) -> str:
    kept = [name for name in names if len(name) >= _SHORTEST_TOKEN and name in line]
    for at, name in enumerate(kept):
        line = line.replace(name, f"\0{at}\0")
    line = _NAMED.sub(_masked_value, _LOGIN.sub(MASK, masked(line)))
    for at, name in enumerate(kept):
        line = line.replace(f"\0{at}\0", name)
    return line


def _masked_value(match: re.Match[str]) -> str:
    """Mask what follows a secret's name, unless it is a number, a placeholder or a word of the message."""
    quoted = match[1][-1:] in "\"'"
    assigned = "=" in match[1] or match[1].lstrip().startswith("-")
    is_word = not quoted and not assigned and _WORD.fullmatch(match[2]) is not None
    return match[0] if is_word or not is_secret(match[2]) else f"{match[1]}{MASK}"


def _written(secret: str) -> set[str]:
    """The ways programs write a text: as is, escaped, URL-encoded, and for a URL what follows the host."""
    host, _, path = secret.partition("://")[2].partition("/")
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
    }
    return forms | ({f"/{path}"} if host and len(path) >= _SHORTEST_TOKEN else set())


def error_type(text: str | None) -> str | None:
    """The name of a kind of error, such as `AgentTimeoutError`; None for free text, which may hold anything."""
    return text if text and _TYPE.fullmatch(text) and masked(text) == text else None
