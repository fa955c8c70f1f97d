"""The secrets a run was given: values that have to be masked wherever an error repeats them.

A tool's document holds the arguments and the environment of what it ran, often in plain text. A value is secret if its
name says so (`api_key`, `OPENAI_API_KEY=…`, `--auth-token …`, `Authorization: …`), or if it is the password of a URL.
All other values are names that errors need: models, jobs, tasks, paths.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

SHORTEST_SECRET = 6
"""Characters; masking shorter values would eat ordinary words."""
_LONGEST_LINE, _LONGEST_TEXT = 10_000, 20_000  # characters of a value that are looked into

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_ENDS = (
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accountkey",
    "token",
    "password",
    "passwd",
    "secret",
    "pass",
)
"""Suffixes of secret names without a separator: PGPASSWORD, authtoken; but not compass or bypass."""
_NO_SECRETS = frozenset({"compass", "bypass", "trespass", "encompass", "overpass", "underpass"})
_SECRET_WORDS = frozenset(
    {"key", "keys", "apikey", "token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "passphrase",
     "pass", "pwd", "pat", "auth", "authorization", "credential", "credentials", "cookie", "cookies", "bearer"}
)  # fmt: skip
_FACTS = frozenset(
    {"name", "type", "kind", "count", "limit", "max", "min", "path", "file", "dir", "usage", "budget", "length",
     "size", "window", "expiry", "expires", "ttl", "format", "mode", "method", "provider"}
)  # fmt: skip
"""Last words of names that describe a secret, but do not hold it."""
_PASSWORD = re.compile(r"//(?:[^\s:/@]{0,200}:)?([^\s:@]{1,500})@")
_LOGIN = re.compile(r"(?:^|\s)(?:-u|--user)[\s=]{1,20}[^\s:]{1,100}:(\S{1,500})|\bsshpass\s{1,20}-p\s{0,20}(\S{1,500})")
_PLAIN = re.compile(r"[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?|true|false|null|none|\*+|\[?redacted\]?|\$\{?\w+\}?", re.I)
_ASSIGNED = re.compile(r"[\s\"']*-{0,2}([\w.-]{1,100})[\"']?\s*[=:]\s*(.+)", re.DOTALL)
_PART = re.compile(r"[;&?,]")  # between the settings of a connection, the parameters of an address, several keys
_SCHEME = re.compile(r"(?:bearer|basic|token|apikey|digest)\s+", re.I)


def secrets_in(data: bytes | None) -> list[str]:
    """The secret texts that a JSON document holds; empty without a document.

    Raises ValueError for invalid JSON: it is then unknown what has to be masked.
    """
    return [text for text in _values(from_json(data or b"null"), secret=False) if is_secret(text)]


@lru_cache(4096)
def says_secret(name: str) -> bool:
    """Whether a name means a secret: `api_key`, `authToken`, `X-Auth`; but not `token_limit` or `tokenizer`."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _FACTS:
        return False
    return not _SECRET_WORDS.isdisjoint(words) or any(
        word.endswith(_ENDS) and word not in _NO_SECRETS for word in words
    )


def is_secret(text: str) -> bool:
    """Whether a value with a secret's name is one: not a number, boolean or placeholder, and not short."""
    return len(text) >= SHORTEST_SECRET and _PLAIN.fullmatch(text) is None


def _values(value: Any, *, secret: bool) -> Iterator[str]:
    """The texts that are secret; all of them where the name above says so."""
    if isinstance(value, dict):
        named = next((value[each] for each in ("name", "key", "Name", "Key") if each in value), None)
        for name, inside in value.items():
            is_value = name in ("value", "Value") and isinstance(named, str) and says_secret(named)
            yield from _values(inside, secret=secret or is_value or says_secret(name))
    elif isinstance(value, list):
        follows = False
        is_pair = len(value) == 2 and isinstance(value[0], str) and not value[0].startswith("-")
        if all(isinstance(word, str) for word in value) and sum(map(len, value)) <= _LONGEST_LINE:
            yield from _logins(" ".join(value))
        for inside in value:
            is_option = isinstance(inside, str) and inside.startswith("--")
            yield from _values(inside, secret=secret or (follows and not is_option))
            follows = isinstance(inside, str) and (_is_option(inside) or (is_pair and says_secret(inside)))
    elif isinstance(value, str):
        yield from _in_text(value, secret=secret)


def _is_option(word: str) -> bool:
    """Whether the next word of a command is a secret."""
    is_switch = word.startswith("--no-")
    return len(word) <= 100 and word.startswith("-") and "=" not in word and not is_switch and says_secret(word)


def _in_text(text: str, *, secret: bool) -> Iterator[str]:
    if "@" in text:
        yield from _PASSWORD.findall(text[:_LONGEST_LINE])
    if len(text) > _LONGEST_TEXT:
        return
    if text[:1] in ("{", "["):
        yield from _in_json(text, secret=secret)
    if secret:
        yield from _forms(text)
    if len(text) <= _LONGEST_LINE:
        lines = text.splitlines()
        for line in lines:
            if secret and len(lines) > 1:
                yield line
            yield from _in_line(line)


def _forms(text: str) -> Iterator[str]:
    """A secret as given, without quotes or a scheme around it, and its parts if it holds several."""
    bare = text.strip().strip("\"'`;,").strip()
    yield from {text, bare, _SCHEME.sub("", bare, count=1)}
    parts = _PART.split(bare)
    yield from (part.strip("\"' ") for part in parts if len(parts) > 1 and len(part) > SHORTEST_SECRET)


def _in_line(line: str) -> Iterator[str]:
    """The secret in `NAME=secret`, `--option secret` or `Header: secret`, alone or inside a command."""
    yield from _logins(line)
    follows = False
    for word in (line, *line.split()) if " " in line else (line,):
        if follows and not word.startswith("--"):
            yield from _forms(word)
        follows = _is_option(word)
        for part in {word, *_PART.split(word)}:
            for bare in {part.strip("\"'"), part.strip("\"'{}")}:
                yield from _assigned(bare)


def _logins(command: str) -> Iterator[str]:
    for password in _LOGIN.findall(command):
        yield from _forms("".join(password))


def _assigned(text: str) -> Iterator[str]:
    """The secret in `NAME=secret`, also in `--ak api_key=secret`, written `--ak=api_key=secret`."""
    while match := _ASSIGNED.fullmatch(text):
        name, text = match[1], match[2]
        if says_secret(name):
            yield from _forms(text)
            return
        if text[:1] in ("{", "["):
            yield from _in_json(text, secret=False)


def _in_json(text: str, *, secret: bool) -> Iterator[str]:
    """The secrets of JSON inside a value, which may hold JSON itself."""
    waiting = [(text, secret)]
    while waiting:
        each, known = waiting.pop()
        try:
            value = from_json(each.encode("utf-8", "surrogatepass"))
        except ValueError:
            continue
        for found, is_known in _texts_of(value, known):
            if found[:1] in ("{", "[") and len(found) < len(each):
                waiting.append((found, is_known))
            elif is_known:
                yield found
            else:
                yield from _in_line(found)


def _texts_of(value: Any, secret: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(value, dict):
        for name, inside in value.items():
            yield from _texts_of(inside, secret or says_secret(name))
    elif isinstance(value, list):
        for inside in value:
            yield from _texts_of(inside, secret)
    elif isinstance(value, str):
        yield value, secret
