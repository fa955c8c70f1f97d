"""What tokens of known services look like, and how to spot random words.

The prefixes follow the default rules of gitleaks 8 (config/gitleaks.toml of github.com/gitleaks/gitleaks) and the keys
of model providers that it lacks. Lengths are looser than there: a token in an error may be cut.
"""

import re

_AT = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"  # where a token begins, also after an escaped line break

_PREFIXES = (
    "sk-ant-", "sk-proj-", "sk-svcacct-", "sk-admin-", "sk-or-", "sk-lf-", "pk-lf-", "sk-", "pk-", "rk-",  # models
    "sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "whsec_",  # Stripe
    "hf_", "api_org_", "gsk_", "xai-", "pplx-", "nvapi-", "r8_", "fw_", "tgp_v1_", "csk-", "lsv2_pt_", "lsv2_sk_",
    "tvly-", "fc-", "e2b_", "dtn_",  # models, tracing, tools of agents
    "github_pat_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_",
    "glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glft-", "glffct-", "glsoat-", "glimt-", "glagent-", "gloas-",
    "xoxa-", "xoxb-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-",  # Slack
    "npm_", "pypi-", "rubygems_", "CLOJARS_", "dckr_pat_", "dckr_oat_", "ATATT", "ATCTT", "ATBB", "AKCp",
    "dop_v1_", "doo_v1_", "dor_v1_", "dapi", "dp.pt.", "dt0c01.", "hvs.", "hvb.", "pul-", "pscale_tkn_", "pscale_pw_",
    "fo1_", "fm1_", "FlyV1 ", "HRKU-", "lin_api_", "ntn_", "PMAK-", "pnu_", "rdme_", "SG.", "xkeysib-", "xsmtpsib-",
    "sntrys_", "sntryu_", "shpat_", "shpca_", "shppa_", "shpss_", "sq0atp-", "sq0csp-", "glc_", "glsa_", "NRAK-",
    "tfp_", "ico-", "key-", "EZAK", "EZTK", "ops_", "figd_", "GOCSPX-", "ya29.", "LTAI", "1//0", "wandb_v1_",
)  # fmt: skip
_PREFIXED = re.compile(rf"{_AT}(?:{'|'.join(map(re.escape, _PREFIXES))})([\w.~+/=-]{{8,4000}})")
_EXACT = re.compile(
    rf"""{_AT}(?:
      (?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}(?![A-Za-z0-9])  # AWS
    | AIza[\w-]{{30,400}}  # Google
    | eyJ[\w-]{{8,4000}}\.[\w-]{{8,4000}}(?:\.[\w-]{{0,4000}})?  # JSON web token
    | \d{{8,10}}:AA[\w-]{{32,40}}  # Telegram
    | AGE-SECRET-KEY-1[A-Z0-9]{{20,100}} | A3-[A-Z0-9]{{6}}(?:-[A-Z0-9]{{5,11}}){{3,6}}  # age, 1Password
    | SK[0-9a-f]{{32}}(?![0-9a-f])  # Twilio
    | -----BEGIN[ A-Z0-9]{{0,40}}PRIVATE\ KEY(?:\ BLOCK)?-----.{{0,4000}}
    )
    | (?<=hooks\.slack\.com/)(?:services|workflows|triggers)/[\w/]{{8,300}}
    | (?<=discord\.com/api/webhooks/)\d{{1,30}}/[\w-]{{8,300}}
    | [A-Za-z0-9_~.]{{3}}\dQ~[\w~.-]{{31,34}}  # Azure
    """,
    re.VERBOSE,
)
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

_LONG = re.compile(r"[A-Za-z0-9_+/=~.-]{20,4000}")
_LEAST, _LEAST_OF_PIECES = 20, 24  # characters of a random word, and of one with `-` and `_` between
_RUN = re.compile(r"[A-Za-z0-9]+")
_STRETCH = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}$")


def without_tokens(text: str, mask: str) -> str:
    """A text of people or tools without what looks like a token, and without long random words."""
    text = _EXACT.sub(mask, text)
    text = _PREFIXED.sub(lambda match: mask if _is_token(match[1]) else match[0], text)
    return _LONG.sub(lambda match: _without_random(match[0], mask), text)


def without_unmistakable_tokens(name: str, mask: str) -> str:
    """A name without unmistakable tokens only: a test may well be called `sk-learn-regression`."""
    return _UNMISTAKABLE.sub(mask, name)


def _is_token(rest: str) -> bool:
    """Whether the text after a token's prefix is not a natural word: words are short and hold no digits."""
    runs = _RUN.findall(rest)
    for run in runs:
        stretches = len(_STRETCH.findall(run))
        if not run.isalpha() and len(run) >= 8 and stretches > 2 and len(run) < 2.5 * stretches:
            return True
        if len(run) >= 16 and (run.isalpha() or stretches > 2):
            return True
    return False


def _without_random(word: str, mask: str) -> str:
    if word.startswith(("/", "./", "../", "~")) or _EXTENSION.search(word):
        return word  # a path
    for piece in {word, *word.split("/")}:
        for part in {piece, *piece.split("="), *piece.split(".")}:
            if is_random(part):
                word = word.replace(part, mask)
    return word


def is_random(word: str) -> bool:
    """Whether a word looks randomly drawn from letters and digits, and is not a hexadecimal number.

    Random text changes between capitals, small letters and digits every two characters; names do so every three or
    more, or have separators between short parts.
    """
    runs = _RUN.findall(word)
    letters = "".join(runs)
    if not runs or (len(max(runs, key=len)) < _LEAST and len(letters) < max(_LEAST_OF_PIECES, 8 * len(runs))):
        return False
    if all(character in "0123456789abcdefABCDEF" for character in letters) or letters.isalpha() or letters.isdigit():
        return False
    stretches = _STRETCH.findall(word)
    if letters in (letters.lower(), letters.upper()):
        numbers = sum(stretch.isdigit() for stretch in stretches)
        return len(runs) == 1 and numbers >= 3 and len(letters) <= 5 * len(stretches)
    shortest = sum(len(stretch) <= 2 for stretch in stretches)
    return len(letters) <= 3 * len(stretches) and 2 * shortest >= len(stretches)
