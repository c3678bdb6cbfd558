r"""Patterns that mean the same in Rust (batch) and in Python (request).

The two regular-expression engines differ in more places than people expect:
`\d`, `\w` and `\s` cover different characters, `$` accepts a trailing newline in
one of them, classes nest in one and not in the other. So a closed grammar is
read here and written again in a form on which both agree:

- literals, `.` (any character but a newline), groups `(...)` and `(?:...)`, `|`
- `*`, `+`, `?`, `{m}`, `{m,}`, `{m,n}` up to 1000, each also lazy
- `[...]` and `[^...]` with ranges; `\d`, `\w`, `\s` and their opposites, which
  mean ASCII; `\n`, `\t`, `\r`, `\f`, `\v`; any escaped punctuation

The whole text must match, so `^` at the start and `$` at the end are allowed and
add nothing. Everything else (look-around, references, flags, `\b`, `\p`) is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from loopline.data.language import linear

ASCII_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": "\\t-\\r "}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_META = set("\\.+*?()|[]{}^$#&-~")
_COUNT = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")


def portable(pattern: str) -> str:
    """`pattern` in the common form, to be matched against a whole text.

    Raises
    ------
    ValueError
        With the place, if the pattern leaves the common ground.
    """
    body = pattern[1:] if pattern.startswith("^") else pattern
    offset = len(pattern) - len(body)
    before = body[:-1]
    if body.endswith("$") and (len(before) - len(before.rstrip("\\"))) % 2 == 0:
        body = before
    if offset or len(body) + offset < len(pattern):
        reader = _Reader(pattern, body, offset)
        text = reader.read()
        if reader.top_alternatives:
            raise ValueError(f"{pattern!r} mixes ^ or $ with |; put the alternatives in (...)")
        return text
    return _Reader(pattern, body, offset).read()


@lru_cache(maxsize=512)
def matcher(pattern: str) -> Callable[[str], object]:
    """A function that is true of the texts that match as a whole, in time linear in the text.

    Raises
    ------
    ValueError
        As `portable`, or if the pattern is too large once its repetitions are written out.
    """
    try:
        return linear.matcher(portable(pattern))
    except RecursionError as error:
        raise ValueError(f"{pattern[:40]!r}... is nested too deeply") from error


class _Reader:
    def __init__(self, pattern: str, body: str, offset: int) -> None:
        self.pattern, self.body, self.offset = pattern, body, offset
        self.at = 0
        self.depth = 0
        self.top_alternatives = False

    def refuse(self, why: str) -> ValueError:
        return ValueError(f"{self.pattern!r} at {self.at + self.offset + 1}: {why}")

    def read(self) -> str:
        out: list[str] = []
        can_repeat = False
        while self.at < len(self.body):
            char = self.body[self.at]
            if char in "*+?{":
                if not can_repeat:
                    raise self.refuse(f"{char!r} repeats nothing; write \\{char} for the character")
                out.append(self.repeat())
                can_repeat = False
                continue
            can_repeat = True
            if char == "(":
                self.depth += 1
                self.at += 1
                if self.body.startswith("?", self.at):
                    if not self.body.startswith("?:", self.at):
                        raise self.refuse("only plain groups (...) and (?:...) mean the same everywhere")
                    self.at += 2
                out.append("(?:")
                can_repeat = False
            elif char == ")":
                if not self.depth:
                    raise self.refuse("this ) closes nothing")
                self.depth -= 1
                self.at += 1
                out.append(")")
            elif char == "|":
                self.top_alternatives |= self.depth == 0
                self.at += 1
                out.append("|")
                can_repeat = False
            elif char == ".":
                self.at += 1
                out.append("[^\\n]")
            elif char == "[":
                out.append(self.character_class())
            elif char in "^$":
                raise self.refuse(f"{char} inside a pattern; the whole text must match anyway")
            elif char in "]}":
                raise self.refuse(f"write \\{char} for the character")
            elif char == "\\":
                out.append(self.escape())
            else:
                self.at += 1
                out.append(_literal(char))
        if self.depth:
            raise self.refuse("a ( is not closed")
        return "".join(out)

    def repeat(self) -> str:
        if self.body[self.at] == "{":
            match = _COUNT.match(self.body, self.at)
            if match is None:
                raise self.refuse("write {m}, {m,} or {m,n}, or \\{ for the character")
            least, most = int(match[1]), int(match[3]) if match[3] else None
            if max(least, most or 0) > 1000 or (most is not None and most < least):
                raise self.refuse("counts go up to 1000, the smaller first")
            self.at = match.end()
            text = match[0]
        else:
            text = self.body[self.at]
            self.at += 1
        if self.at < len(self.body) and self.body[self.at] == "?":
            self.at += 1
            text += "?"
        if self.at < len(self.body) and self.body[self.at] in "*+?{":
            raise self.refuse("a repetition of a repetition; group it")
        return text

    def escape(self) -> str:
        if self.at + 1 >= len(self.body):
            raise self.refuse("a \\ at the end")
        char = self.body[self.at + 1]
        if char.lower() in ASCII_CLASSES:
            text = f"[{'^' if char.isupper() else ''}{ASCII_CLASSES[char.lower()]}]"
        elif char in CONTROLS:
            text = _literal(CONTROLS[char])
        elif char.isascii() and not char.isalnum() and char.isprintable():
            text = _literal(char)
        else:
            raise self.refuse(f"\\{char} does not mean the same everywhere")
        self.at += 2
        return text

    def character_class(self) -> str:
        self.at += 1
        out = ["["]
        if self.body.startswith("^", self.at):
            out.append("^")
            self.at += 1
        empty = True
        while True:
            if self.at >= len(self.body):
                raise self.refuse("a [ is not closed")
            if self.body[self.at] == "]":
                if empty:
                    raise self.refuse("an empty class; write \\] for the character")
                self.at += 1
                return "".join([*out, "]"])
            empty = False
            low = self.member()
            if len(low) > 1:
                out.append(low)
                continue
            if self.body.startswith("-", self.at) and not self.body.startswith("-]", self.at):
                self.at += 1
                if self.at >= len(self.body):
                    raise self.refuse("a [ is not closed")
                high = self.member()
                if len(high) > 1 or high < low:
                    raise self.refuse("a range runs from one character up to another")
                out.append(f"{_literal(low)}-{_literal(high)}")
            else:
                out.append(_literal(low))

    def member(self) -> str:
        """One character of a class, or the longer text of an ASCII class."""
        char = self.body[self.at]
        if char == "[":
            raise self.refuse("write \\[ for the character; classes do not nest")
        if char != "\\":
            self.at += 1
            return char
        if self.at + 1 >= len(self.body):
            raise self.refuse("a [ is not closed")
        char = self.body[self.at + 1]
        if char in ASCII_CLASSES:
            self.at += 2
            return ASCII_CLASSES[char]
        if char in CONTROLS:
            self.at += 2
            return CONTROLS[char]
        if char.isascii() and not char.isalnum() and char.isprintable():
            self.at += 2
            return char
        raise self.refuse(f"\\{char} does not mean the same everywhere")


def _literal(char: str) -> str:
    return f"\\{char}" if char in _META else char
