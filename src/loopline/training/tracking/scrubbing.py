"""Secrets are taken out of everything that is recorded by itself.

Three ways: a value that stands in the environment under the name of a secret, wherever it turns up; what follows such
a name; and what looks like a key by its known beginning or by how random it is. Some harmless texts go with them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from loopline.base import settings

GONE = "[secret]"
_WORDS = (
    r"(?:[a-z0-9_.\-]{0,60}(?:secret|passwd|password|passphrase|credential)[a-z0-9_.\-]{0,60}"
    r"|(?:[a-z0-9_.\-]{0,60}[_.\-])?(?:token|pwd|auth|authorization|bearer|cookie|dsn)"
    r"|[a-z0-9_.\-]{0,60}(?:api|access|account|private|signing|encryption|master|ssh|auth)[_.\-]?(?:key|token)"
    r"(?:[_.\-]?id)?)"
)
_NAME = re.compile(_WORDS, re.IGNORECASE)
_NAMED = re.compile(
    rf"(?<![A-Za-z0-9_.\-])(?P<before>[\"']?(?:--?)?{_WORDS}[\"']?\]?\s*(?:[:=]{{1,2}}>?|\s(?=[\"'])|,(?=\s*[\"']))\s*)"
    r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|(?:Bearer |Basic )?[^\s\"',;&]{1,4000})",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"--?{_WORDS}", re.IGNORECASE)
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=\-]{8,}", re.IGNORECASE)
_URL = re.compile(
    r"(?<![A-Za-z0-9+.\-])(?P<before>[a-z][a-z0-9+.\-]{0,20}://[^\s/:@\"']{0,200}:)[^\s/@\"']{1,500}(?=@)",
    re.IGNORECASE,
)
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL
)
_KNOWN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12,}"
    r"|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,}|gl(?:pat|dt|rt)-[A-Za-z0-9_\-]{16,}"
    r"|sk-[A-Za-z0-9_\-]{16,}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|xox[abeoprs]-[A-Za-z0-9\-]{10,}"
    r"|AIza[A-Za-z0-9_\-]{30,}|ya29\.[A-Za-z0-9_\-]{20,}|hf_[A-Za-z0-9]{16,}|npm_[A-Za-z0-9]{20,}"
    r"|pypi-[A-Za-z0-9_\-]{20,}|dop_v1_[a-f0-9]{20,}|SG\.[A-Za-z0-9_\-]{10,200}\.[A-Za-z0-9_\-]{10,}"
    r"|eyJ[A-Za-z0-9_\-]{8,2000}\.[A-Za-z0-9_\-]{8,4000}(?:\.[A-Za-z0-9_\-]*)?"
    r")"
)
_DENSE = re.compile(r"(?<![A-Za-z0-9+/_=\-])[A-Za-z0-9+/_\-]{20,}={0,2}(?![A-Za-z0-9+/_=\-])")
_HARMLESS = frozenset({"", "none", "null", "true", "false", "nan", "auto", "yes", "no", GONE})
LEAST_BITS = 3.6
"""Bits a character from which a word of capitals, small letters and digits is taken for a key."""
SHORTEST = 6
FOLDERS = frozenset({"PWD", "OLDPWD"})
"""Where a shell stands and stood: named like passwords, and part of most paths."""


class Scrubber:
    """Takes secrets out of texts.

    Parameters
    ----------
    values : sequence of str
        Secrets that are known; those of fewer than six characters are not looked for.
    """

    def __init__(self, values: Sequence[str] = ()) -> None:
        known = sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    @classmethod
    def of_this_process(cls) -> Scrubber:
        """One that knows the values of the environment whose names are those of secrets, or that look like some."""
        bare, found = cls(), []
        for name, value in settings.named_values().items():
            if value.lower() in _HARMLESS or value.isdigit() or name in FOLDERS:
                continue
            if is_secret_name(name) or bare._looks(value):
                found.append(value)
        return cls(found)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        text = _KEY_BLOCK.sub(GONE, text)
        if self._known is not None:
            text = self._known.sub(GONE, text)
        text = _URL.sub(rf"\g<before>{GONE}", text)
        text = _NAMED.sub(_keep_name, text)
        text = _HEADER.sub(rf"\1 {GONE}", text)
        text = _KNOWN.sub(GONE, text)
        return _DENSE.sub(lambda found: GONE if _random(found[0]) else found[0], text)

    def value(self, name: str, text: str) -> str:
        """A value that has a name: gone where the name is that of a secret, else without what is known to be one."""
        if is_secret_name(str(name)) and not _number(text) and text.lower() not in _HARMLESS:
            return GONE
        text = _KEY_BLOCK.sub(GONE, text)
        if self._known is not None:
            text = self._known.sub(GONE, text)
        return _KNOWN.sub(GONE, _URL.sub(rf"\g<before>{GONE}", text))

    def arguments(self, given: Sequence[str]) -> list[str]:
        """A command line: what follows an option with the name of a secret goes too."""
        found: list[str] = []
        hide = False
        for one in given:
            found.append(GONE if hide and not one.startswith("-") else self(one))
            hide = _OPTION.fullmatch(one) is not None
        return found

    def _looks(self, value: str) -> bool:
        return _KNOWN.search(value) is not None or (_DENSE.fullmatch(value) is not None and _random(value))


def is_secret_name(name: str) -> bool:
    """Whether a name is one that secrets have: `DB_PASSWORD`, `api_key`, `HF_TOKEN`; not `max_tokens`."""
    return _NAME.fullmatch(name) is not None


def _keep_name(found: re.Match[str]) -> str:
    value = found["value"].strip("\"'")
    return found[0] if value.lower() in _HARMLESS or _number(value) or _code(found["value"]) else found["before"] + GONE


def _code(value: str) -> bool:
    """Whether an unquoted value is an expression, such as a lookup or `read(...)`, not a secret itself."""
    return value[:1] not in "\"'" and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*[(\[].*|str|bytes|int", value) is not None


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,5}(\.\d*)?|[+-]?\d*\.\d+(e-?\d+)?", text) is not None


def _random(word: str) -> bool:
    bare = word[:400].rstrip("=")
    kinds = (any(c.isdigit() for c in bare), any(c.isupper() for c in bare), any(c.islower() for c in bare))
    if not all(kinds) or sum(c.isdigit() for c in bare) < 2 or bare.count("/") > len(bare) / 12:
        return False
    counts = Counter(bare)
    bits = -sum(n / len(bare) * math.log2(n / len(bare)) for n in counts.values())
    return bits >= LEAST_BITS
