"""Which columns look like personal data: detectors that propose, never decide."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

LOOKED_AT = 5_000
"""Distinct values of a column that the detectors read."""
LEAST_SHARE = 0.6
"""Share of values of one kind from which a column is proposed."""
SOME_SHARE = 0.01
"""Share of texts with an address or a number inside from which free text is proposed."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A column that looks like personal data, and why."""

    table: str
    column: str
    pii: str
    """One of `CLASSES`."""
    share: float
    """Of the distinct values that were read, those of this class; 0 when only the name speaks."""
    why: str


_EMAIL = re.compile(r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}")
_PHONE = re.compile(r"\+?\(?\d[\d ()./-]{6,20}\d")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_SSN = re.compile(r"(?!000|666|9\d\d)(\d{3})-(?!00)(\d{2})-(?!0000)(\d{4})")
_DNI = re.compile(r"(\d{8}|[XYZ]\d{7})([A-Z])")
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_IBAN_LENGTHS = {
    "AT": 20, "BE": 16, "BG": 22, "CH": 21, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "EE": 20, "ES": 24, "FI": 18,
    "FR": 27, "GB": 22, "GR": 27, "HR": 21, "HU": 28, "IE": 22, "IS": 26, "IT": 27, "LI": 21, "LT": 20, "LU": 20,
    "LV": 21, "MT": 31, "NL": 18, "NO": 15, "PL": 28, "PT": 25, "RO": 24, "SE": 24, "SI": 19, "SK": 24,
}  # fmt: skip
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"


def is_email(text: str) -> bool:
    """Whether `text` is an address as mail uses it."""
    return _EMAIL.fullmatch(text) is not None


def is_credit_card(text: str) -> bool:
    """Whether `text` is 13 to 19 digits (spaces and dashes apart) whose last one is Luhn's check digit.

    ISO/IEC 7812-1, annex B. A tenth of all numbers pass, so the first digits must be those of a card network too.
    """
    digits = text.replace(" ", "").replace("-", "")
    return digits.isascii() and digits.isdigit() and 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn(digits)


def luhn(digits: str) -> bool:
    """Whether the last of `digits` is the check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` is an account number with the length of its country and the check of ISO 13616 (mod 97)."""
    plain = text.replace(" ", "").upper()
    if _IBAN.fullmatch(plain) is None or len(plain) != _IBAN_LENGTHS.get(plain[:2], len(plain)):
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


def is_ip(text: str) -> bool:
    """Whether `text` is an address of the Internet protocol, version 4 or 6."""
    if text.count(".") != 3 and ":" not in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_phone(text: str) -> bool:
    """Whether `text` reads as a telephone number: 8 to 15 digits (ITU-T E.164) with a plus sign or separators."""
    if _PHONE.fullmatch(text) is None or _DATE.fullmatch(text) is not None or is_ip(text):
        return False
    digits = sum(char.isdigit() for char in text)
    return 8 <= digits <= 15 and (text[0] == "+" or any(char in " ()/-" for char in text))


def is_national_id(text: str) -> bool:
    """Whether `text` is a national number that can be told by its form or its check digit.

    The social security number of the United States (form and excluded ranges; it has no check digit), the DNI and
    NIE of Spain (mod 23), the tax number of Germany (ISO 7064 mod 11,10), the personal number of Sweden (Luhn with a
    date), the number of France (mod 97).
    """
    plain = text.strip()
    return _SSN.fullmatch(plain) is not None or _dni(plain) or _steuer_id(plain) or _personnummer(plain) or _nir(plain)


def _dni(text: str) -> bool:
    match = _DNI.fullmatch(text.replace("-", "").upper())
    if match is None:
        return False
    return _DNI_LETTERS[int(match[1].translate(str.maketrans("XYZ", "012"))) % 23] == match[2]


def _steuer_id(text: str) -> bool:
    digits = text.replace(" ", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) == 11) or digits[0] == "0":
        return False
    times = [digits[:10].count(digit) for digit in set(digits[:10])]
    if sorted(times)[-1] not in (2, 3) or sum(count > 1 for count in times) != 1:
        return False
    product = 10
    for digit in digits[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def _personnummer(text: str) -> bool:
    match = re.fullmatch(r"(?:\d{2})?(\d{2})(\d{2})(\d{2})[-+]\d{4}", text)
    if match is None or not 1 <= int(match[2]) <= 12 or not 1 <= int(match[3]) % 60 <= 31:
        return False
    return luhn(re.sub(r"\D", "", text)[-10:])


def _nir(text: str) -> bool:
    plain = text.replace(" ", "").upper()
    if re.fullmatch(r"[12]\d{4}(?:\d{2}|2[AB])\d{8}", plain) is None:
        return False
    body = plain[:13].replace("2A", "19").replace("2B", "18")
    return body.isdigit() and 97 - int(body) % 97 == int(plain[13:])


VALUES: Mapping[str, Callable[[str], bool]] = {
    "email": is_email,
    "iban": is_iban,
    "national_id": is_national_id,
    "credit_card": is_credit_card,
    "ip": is_ip,
    "phone": is_phone,
}
"""Classes told by their values, the surest first."""

_TEXT, _DIGITS = pl.col("text"), pl.col("text").str.count_matches(r"\d")
MAY: Mapping[str, pl.Expr] = {
    "email": _TEXT.str.contains("@", literal=True),
    "iban": _DIGITS >= 2,
    "national_id": (_DIGITS >= 7) & (_TEXT.str.count_matches(r"[^\d\s+-]") <= 2),
    "credit_card": _TEXT.str.count_matches(r"[0-9]") >= 13,
    "ip": _TEXT.str.contains(r"[.:]"),
    "phone": _TEXT.str.contains(r"^\+?\(?\d"),
}
"""What a text needs at least to pass the test of its class: a whole column is asked this first."""

NAMES: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(r"e_?mail|mail_?address"),
    "phone": re.compile(r"(tele)?phone|mobile(_?(no|number))?|fax|msisdn"),
    "iban": re.compile(r"iban|account_?(no|number)|bank_?account"),
    "credit_card": re.compile(r"(credit_?)?card_?(no|number)|pan"),
    "ip": re.compile(r"ip|ip_?addr(ess)?|client_?ip|remote_?addr"),
    "national_id": re.compile(
        r"ssn|social_?security.*|passport.*|national_?id|tax_?(id|number)|nif|dni|nie|nir|personnummer|steuer_?id"
    ),
    "name": re.compile(
        r"(first|last|full|given|family|middle|maiden|customer|patient|person|user|employee|contact)_?name"
        r"|sur_?name|forename"
    ),
    "birth_date": re.compile(r"(date_?of_?)?birth(_?da(y|te))?|dob|born(_?on)?"),
    "address": re.compile(r"(home_?|postal_?|street_?|mailing_?)?address(_?line_?\d)?|street(_?name)?|house_?number"),
    "location": re.compile(r"lat(itude)?|lon(gitude)?|lng|geo_?(location|point)|post_?code|zip(_?code)?"),
    "special": re.compile(
        r"race|racial.*|ethnic(ity|_?group|_?origin)?|religion|religious.*|faith|sexual_?orientation|political.*"
        r"|diagnos(is|es)|disab(ility|ilities|led)|handicap(ped)?|health_?.*|union_?member(ship)?"
    ),
    "protected": re.compile(
        r"sex|gender(_?identity)?|ages?|age_?(years|group|band|bracket|range)|marital(_?status)?|married"
        r"|civil_?status|pregnan(t|cy)|national_?origin|nationality|citizenship|native_?country|skin_?colou?r|veteran"
    ),
}
"""Classes told by the name of their column.

`special` are those of GDPR article 9; `protected` are others by which people must not be treated differently
(the directives 2000/78/EC, 2004/113/EC and 2006/54/EC of the EU, title VII of the Civil Rights Act of the US).
"""

_OF_THINGS = frozenset({"age", "ages"})
"""Names that speak of people alone, or after a word for one: the age of an account says nothing of a person."""
_OF_PEOPLE = frozenset({"customer", "patient", "person", "user", "employee", "applicant", "driver", "member", "client"})

CLASSES: tuple[str, ...] = tuple(dict.fromkeys((*VALUES, *NAMES, "free_text", "personal")))
"""What a column can be: `personal` is for people to say when no other word fits."""
IDENTIFYING = frozenset({"email", "phone", "iban", "credit_card", "national_id", "name", "personal"})
"""Classes whose value can name one person."""
NOT_HIDDEN = frozenset({"protected"})
"""Classes that name nobody and are shown; what is told of them is which features read them."""
SENSITIVE = frozenset({"special", "protected"})
"""Classes by which people must not be treated differently."""


def propose(frame: pl.DataFrame, table: str) -> list[Proposal]:
    """Columns of `frame` that look like personal data, in the order of its columns.

    A class is proposed when 60 % of the distinct values that were read (the first
    5,000, nulls and empty text apart) are of it, or when the column's name says so;
    `free_text` when long texts of several words stand in it, or an address or a
    number stands inside some of them. Nothing of the values is in the answer.
    """
    found = (_column(frame[name], table) for name in frame.columns)
    return [proposal for proposal in found if proposal is not None]


def _column(series: pl.Series, table: str) -> Proposal | None:
    dtype, name = series.dtype, series.name
    named = _named(name)
    if dtype.is_integer() or dtype == pl.String:
        # A number is text to the classes that are written as digits alone.
        kinds = VALUES if dtype == pl.String else {k: VALUES[k] for k in ("credit_card",)}
        texts = _distinct(series)
        may = texts.to_frame().select(MAY[pii].mean().alias(pii) for pii in kinds).row(0, named=True)
        for pii in (kind for kind in kinds if (may[kind] or 0.0) >= LEAST_SHARE):
            share = sum(map(kinds[pii], texts)) / len(texts)
            if share >= LEAST_SHARE:
                return Proposal(table, name, pii, share, f"{share:.0%} of its values are written as {_said(pii)}")
        if named is None and dtype == pl.String and len(texts):
            return _free_text(texts.to_list(), table, name)
    if named is None:
        return None
    if (dtype == pl.Boolean and named not in SENSITIVE) or (
        dtype.is_numeric() and named in ("name", "email", "address", "ip")
    ):
        return None
    return Proposal(table, name, named, 0.0, f"a column called {name!r} usually holds {_said(named)}")


def _distinct(series: pl.Series) -> pl.Series:
    """The first distinct texts of a column, as `text`."""
    values = series.drop_nulls().cast(pl.String).str.strip_chars()
    return values.filter(values != "").unique(maintain_order=True).head(LOOKED_AT).alias("text")


def _named(name: str) -> str | None:
    """The class that a column's name speaks of; words may be joined by `_`, `-`, spaces or capitals."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    parts = plain.split("_")
    if len(parts) > 1 and parts[-1] in _OF_THINGS and parts[-2] not in _OF_PEOPLE:
        return None
    tails = ["_".join(parts[at:]) for at in range(len(parts))]
    return next((pii for pii, pattern in NAMES.items() for tail in tails if pattern.fullmatch(tail)), None)


def _free_text(texts: list[str], table: str, name: str) -> Proposal | None:
    inside = sum(any(_inside(word) for word in text.split()) for text in texts if " " in text) / len(texts)
    if inside >= SOME_SHARE:
        return Proposal(table, name, "free_text", inside, f"{inside:.0%} of its texts have an address or number inside")
    long = sum(text.count(" ") >= 4 for text in texts) / len(texts)
    if long >= LEAST_SHARE:
        return Proposal(table, name, "free_text", long, "it holds sentences, and people write names into sentences")
    return None


def _inside(word: str) -> bool:
    word = word.strip(".,;:()<>[]\"'")
    return is_email(word) or is_iban(word) or (word.startswith("+") and is_phone(word)) or is_credit_card(word)


def _said(pii: str) -> str:
    return {
        "email": "mail addresses",
        "phone": "telephone numbers",
        "iban": "account numbers",
        "credit_card": "card numbers",
        "ip": "Internet addresses",
        "national_id": "national numbers",
        "name": "names of people",
        "birth_date": "dates of birth",
        "address": "addresses",
        "location": "places of people",
        "special": "data that the law protects specially",
        "protected": "what people must not be treated differently by",
    }.get(pii, pii)
