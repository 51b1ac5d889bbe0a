"""Secrets told by their own form: keys of services, hashes of passwords, numbers of cards."""

import re

from shipworthy.redact.hidden import hidden

# How each begins, and the whole of it.
_KEYS = {
    "AKIA": "AKIA[A-Z0-9]{16}", "ASIA": "ASIA[A-Z0-9]{16}",  # AWS
    "ghp_": r"ghp_\w{30,255}", "gho_": r"gho_\w{30,255}", "ghu_": r"ghu_\w{30,255}",
    "ghs_": r"ghs_\w{30,255}", "ghr_": r"ghr_\w{30,255}", "github_pat_": r"github_pat_\w{22,255}",
    "glpat-": r"glpat-[\w-]{20,255}",
    "xox": r"xox[abeoprs]-[\w-]{10,255}", "xapp-": r"xapp-[\w-]{10,255}",
    "hooks.slack.com/": r"hooks\.slack\.com/(?:services|workflows)/[\w/-]{20,255}",
    "/api/webhooks/": r"/api/webhooks/\d{5,32}/[\w-]{20,255}",  # Discord
    # Stripe, and who took its form
    "_live_": r"[a-z]{2,8}_live_\w{10,255}", "_test_": r"[sr]k_test_\w{10,255}",
    "sw_": r"sw_[0-9a-f]{12}_[\w-]{43}",  # our own
    "whsec_": r"whsec_[\w+/=]{16,255}",
    "AIza": r"AIza[\w-]{35}", "ya29.": r"ya29\.[\w.-]{20,512}", "GOCSPX-": r"GOCSPX-[\w-]{20,64}",
    "sk-": r"sk-(?=[a-zA-Z_-]{0,255}\d)[\w-]{20,255}",  # OpenAI, Anthropic
    "npm_": "npm_[A-Za-z0-9]{36}", "pypi-": r"pypi-[\w-]{50,512}", "hf_": "hf_[A-Za-z0-9]{30,64}",
    "SG.": r"SG\.[\w-]{16,64}\.[\w-]{16,64}", "key-": "key-[0-9a-f]{32}",  # SendGrid, Mailgun
    "dop_v1_": "dop_v1_[0-9a-f]{64}", "shp": "shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "hvs.": r"hvs\.[\w-]{20,255}", "dapi": "dapi[0-9a-f]{32}",  # Vault, Databricks
    "AGE-SECRET-KEY-": "AGE-SECRET-KEY-1[0-9A-Z]{58}",
    ":AA": r"\d{8,10}:AA[\w-]{33}",  # Telegram
    "$2": r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}",
    "$argon2": r"""\$argon2(?:id|i|d)\$[^\s"']{20,512}""",
    "pbkdf2_": r"""pbkdf2_sha\d{1,4}\$\d{1,9}\$[^\s"']{20,512}""",
    "scrypt:": r"""scrypt:\d{1,9}:\d{1,4}:\d{1,4}\$[^\s"']{20,512}""",
}  # fmt: skip
_BEGINS = re.compile("|".join(map(re.escape, _KEYS)))
# All of them, and numbers of cards in one piece, are longer than most words.
_LONG = re.compile(r"[\w$-]{13}")
_KEY = re.compile(f"(?<![A-Za-z0-9])(?:{'|'.join(_KEYS.values())})(?![A-Za-z0-9])")

# In one piece, in fours, or as American Express and Diners group theirs.
_CARD = re.compile(
    r"[2-6](?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{3}([ -])\d{6}\2\d{4,5})(?![\w-]|\.\d)"
)
# How those of the great issuers begin, and how long they are: American Express, Diners, JCB, Visa,
# Mastercard, Discover, UnionPay. Without it, one in ten long numbers would be that of a card.
_ISSUED = re.compile(
    r"""3[47]\d{13} | 3(?:0[0-5]|[689]\d)\d{11} | 35(?:2[89]|[3-8]\d)\d{12} | 4\d{12}(?:\d{3}){0,2}
        |(?:5[1-5]|2[2-7])\d{14} | (?:6011|64[4-9]\d|65\d\d)\d{12} | 62\d{14,17}""",
    re.VERBOSE,
)
_GROUPS = re.compile(r"\d{4}[ -]\d{4,6}[ -]\d{4}")


def may_hold_keys(text: str) -> bool:
    """Tell at little cost that there is no key and no number of a card in `text`."""
    return _LONG.search(text) is not None or _GROUPS.search(text) is not None


def without_keys(text: str) -> str:
    """Return `text` without keys of well-known services and without password hashes."""
    if _BEGINS.search(text) is None:
        return text
    return _KEY.sub(lambda _: hidden("key"), text)


def without_cards(text: str) -> str:
    """Return `text` without the numbers of payment cards.

    A card's has the digits of an issuer, their number and the check digit (Luhn), and stands alone.
    """
    kept: list[str] = []
    done = at = 0
    while found := _CARD.search(text, at):
        start = found.start()
        before = text[start - 1 : start]
        if (before and (before.isalnum() or before in "_-.")) or not is_card(found[0]):
            at = start + 1
            continue
        kept += (text[done:start], hidden("card"))
        done = at = found.end()
    return "".join((*kept, text[done:])) if kept else text


def is_card(text: str) -> bool:
    """Tell whether these digits, in groups or not, can be the number of a card."""
    digits = text.replace(" ", "").replace("-", "")
    if not digits.isascii() or _ISSUED.fullmatch(digits) is None:
        return False
    doubled = [int(digit) * 2 for digit in digits[-2::-2]]
    total = sum(map(int, digits[-1::-2])) + sum(twice // 10 + twice % 10 for twice in doubled)
    return total % 10 == 0
