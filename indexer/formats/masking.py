"""Error texts that are safe to keep: one line, no secrets, at most 200 characters.

Secrets turn up in error messages of every tool: credentials in URLs, tokens in command lines. They are
masked before the text is cut, so that no half of one is left at the edge.
"""

import re
from collections.abc import Iterable

MASK = "***"
LENGTH = 200
SHORTEST_SECRET = 6
_READ = 20_000  # characters of a message that are looked at

_URL_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+(?:@[^\s/@]+)*(?=@)")
_TOKENS = re.compile(
    r"""
      \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}                 # OpenAI, Anthropic, Stripe
    | \bgh[oprsu]_[A-Za-z0-9]{16,} | \bgithub_pat_\w{16,}  # GitHub
    | \bglpat-[\w-]{16,} | \bhf_[A-Za-z0-9]{16,}           # GitLab, Hugging Face
    | \bxox[abeoprs]-[\w-]{8,}                             # Slack
    | \bA(?:KI|SI)A[A-Z0-9]{16}\b | \bAIza[\w-]{30,}       # AWS, Google
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?               # JSON web token
    | (?<=bearer\ )[\w.~+/=-]{6,} | (?<=basic\ )[\w+/=-]{8,}
    | (?:(?<=token=)|(?<=key=)|(?<=secret=)|(?<=password=)|(?<=passwd=)|(?<=pwd=)|(?<=auth=)
        |(?<=token:)|(?<=key:)|(?<=secret:)|(?<=password:))[^\s&;,'"]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


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
    text = _TOKENS.sub(MASK, _URL_CREDENTIALS.sub(MASK, text)).strip()
    return text.splitlines()[0].rstrip()[:LENGTH] if text else None
