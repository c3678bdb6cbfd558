"""Writing the Python text of a row program.

A node becomes a piece: an expression, and the conditions under which its value is null. Pieces are
joined as long as nobody needs their value twice; then they get a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log1p, nan
from struct import Struct, error
from typing import Any
from zoneinfo import ZoneInfo

from loopline.features.expr import ARITHMETIC, COMPARISONS, EXACT, LEAVES, Expr
from loopline.features.operators import BLANKS, OPERATORS, ZONES, Kind, common, fits, of_value


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of an expression that is null when one of `nulls` holds, and else what `kind` says.

    `floating`: a number that is always a float. `loose`: it may have left the finite numbers.
    """

    text: str
    kind: Kind
    nulls: tuple[str, ...] = ()
    floating: bool = False
    loose: bool = False
    constant: Any = None


@dataclass(slots=True)
class _Read:
    """A column or leaf, and what is asked of it."""

    source: str
    label: str
    kind: Kind = "any"
    raw: bool = False
    floating: bool = False


class Code:
    """The text of one program while it is written; `names` are the objects that it refers to."""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = places
        self._reads: dict[str, _Read] = {}
        self._lines: list[str] = []
        self._known: dict[str, Piece] = {}
        self.names: dict[str, Any] = {
            "UTC": UTC, "US": timedelta(microseconds=1), "log1p": log1p, "nan": nan, "datetime": datetime,
            "FIRST": ZONES[0], "END": ZONES[1], "BLANKS": BLANKS,
        }  # fmt: skip

    def feature(self, tree: Expr) -> tuple[str, bool]:
        """Name of a feature's value, and whether it is text. Unknown numbers are NaN."""
        if tree.op == "category":
            return self._named(self._piece(tree, "text")).text, True
        piece = self._piece(tree, "number")
        fits(tree.op, piece.kind, "number", *tree.args[:1])
        test = " or ".join(piece.nulls)
        return self._line(f"nan if {test} else {piece.text}" if test else piece.text), False

    def program(self, results: Sequence[tuple[str, bool]]) -> str:
        """The whole text."""
        numbers = [name for name, text in results if not text]
        lines = ["def row(row, at, leaves):", "    get = row.get", *self._reading(), *self._lines]
        places = {n: f"s{i}" for i, n in enumerate(k for k, (_, text) in enumerate(results) if not text)}
        if numbers:
            self.names |= {"pack": Struct(f"{len(numbers)}f").pack, "unpack": Struct(f"{len(numbers)}f").unpack}
            self.names["error"] = error
            names = ", ".join(places.values())
            given = ", ".join(numbers)
            lines += ["    try:", f"        {names}, = unpack(pack({given}))", "    except (OverflowError, error):"]
            lines += [f"        {names}, = singles(({given},))"]
        made = [
            name if text else f"({places[n]} if {places[n]} - {places[n]} == 0.0 else None)"
            for n, (name, text) in enumerate(results)
        ]
        return "\n".join([*lines, f"    return ({', '.join(made)},)" if made else "    return ()", ""])

    def _reading(self) -> list[str]:
        lines = []
        for n, read in enumerate(self._reads.values()):
            name, label = f"c{n}", repr(read.label)
            lines.append(f"    {name} = {read.source}")
            lines += [f"    {line}" for line in _read(name, label, read)]
            if read.floating:
                done = read.kind == "number" and not read.raw
                lines.append(f"    f{n} = {name}" if done else f"    f{n} = None if {name} is None else float({name})")
        return lines

    def _line(self, text: str) -> str:
        name = f"v{len(self._lines)}"
        self._lines.append(f"    {name} = {text}")
        return name

    def _named(self, piece: Piece) -> Piece:
        """A piece under a name of its own, so that it may be used twice; null where not finite."""
        bare = piece.text.isidentifier() and piece.nulls in ((), (f"{piece.text} is None",))
        if piece.constant is not None or (bare and not piece.loose):
            return piece
        name = self._line(f"None if {' or '.join(piece.nulls)} else {piece.text}" if piece.nulls else piece.text)
        nulls = (f"{name} is None",)
        if piece.loose:
            test = f"{name} is not None and {name} - {name} != 0.0" if piece.nulls else f"{name} - {name} != 0.0"
            self._lines.append(f"    if {test}: {name} = None")
        return Piece(name, piece.kind, nulls if piece.nulls or piece.loose else (), piece.floating)

    def _checked(self, tree: Expr, wanted: Kind = "any", *, named: bool = False) -> Piece:
        piece = self._piece(tree, wanted)
        fits(tree.op, piece.kind, wanted, *tree.args[:1])
        return self._named(piece) if piece.loose or named else piece

    def _float(self, tree: Expr, *, named: bool = False, loose: bool = False) -> Piece:
        """A piece that is a float for certain."""
        piece = self._piece(tree, "number", floating=True)
        fits(tree.op, piece.kind, "number", *tree.args[:1])
        if not piece.floating:
            piece = Piece(f"float({piece.text})", "number", piece.nulls, True, piece.loose)
        return self._named(piece) if named or (piece.loose and not loose) else piece

    def _piece(self, tree: Expr, wanted: Kind = "any", *, floating: bool = False) -> Piece:
        if tree.op in LEAVES or tree.op == "col":
            return self._column(tree, wanted, floating)
        if tree.op == "lit":
            return self._literal(tree.args[0], wanted, floating)
        mark = repr((tree.doc(), wanted))
        if mark not in self._known:
            piece = self._made(tree, wanted)
            self._known[mark] = piece if piece.loose else self._named(piece)
        return self._known[mark]

    def _column(self, tree: Expr, wanted: Kind, floating: bool) -> Piece:
        if tree.op != "col":
            source, label = f"leaves[{self._places[id(tree)]}]", tree.op
        elif tree.args[0] == "decision_time":
            source, label = "at", "the decision time"
        else:
            source, label = f"get({tree.args[0]!r})", tree.args[0]
        read = self._reads.setdefault(source, _Read(source, label))
        if wanted != "any" and {read.kind, wanted} != {"truth", "number"}:
            fits("col", read.kind, wanted, tree.args[0])
            read.kind = wanted
        elif read.kind == "any":
            read.kind = wanted
        elif wanted == "truth":
            read.kind = "truth"
        place = list(self._reads).index(source)
        if floating:
            read.floating = True
        else:
            read.raw = True
        name = f"{'f' if floating else 'c'}{place}"
        kind: Kind = "number" if floating else wanted
        return Piece(name, kind, (f"{name} is None",), floating)

    def _literal(self, value: Any, wanted: Kind, floating: bool) -> Piece:
        if value is None:
            return Piece("None", wanted, ("True",))
        if isinstance(value, datetime):
            name = f"m{len(self.names)}"
            self.names[name] = value.astimezone(UTC)
            return Piece(name, "moment")
        if floating and not isinstance(value, str):
            return Piece(repr(float(value)), "number", (), True, constant=value)
        return Piece(repr(value), of_value(value), (), isinstance(value, float), constant=value)

    def _made(self, tree: Expr, wanted: Kind) -> Piece:
        op, args = tree.op, tree.args
        if op in ARITHMETIC:
            return self._arithmetic(op, *args)
        if op in COMPARISONS:
            return self._compared(op, *args)
        if op in ("fill", "when"):
            return self._chosen(tree, wanted)
        if op in ("and", "or"):
            return self._logic(op, *args)
        if op in ("abs", "floor", "log1p", "least", "greatest"):
            return self._numeric(op, args)
        if op in ("minutes", "local"):
            return self._timed(op, args)
        return self._other(op, args)

    def _arithmetic(self, op: str, one: Expr, other: Expr) -> Piece:
        left = self._float(one, loose=op != "%", named=op == "%")
        if op in "/%":
            right = self._float(other, named=True)
            zero = (f"not {right.text}",) if right.constant is None else ("True",) if not right.constant else ()
            nulls = tuple(dict.fromkeys((*left.nulls, *zero)))
            if op == "/":
                return Piece(f"({left.text} / {right.text})", "number", nulls, True, True)
            text = f"({left.text} - {left.text} / {right.text} // 1.0 * {right.text})"
            return Piece(text, "number", nulls, True, True)
        right = self._float(other, loose=True)
        nulls = tuple(dict.fromkeys((*left.nulls, *right.nulls)))
        return Piece(f"({left.text} {op} {right.text})", "number", nulls, True, True)

    def _compared(self, op: str, one: Expr, other: Expr) -> Piece:
        kind, with_ = self._kind(one), self._kind(other)
        both = common(op, kind, with_, "any")
        left = self._checked(one, both if kind == "any" else kind)
        right = self._checked(other, both if with_ == "any" else with_)
        nulls = tuple(dict.fromkeys((*left.nulls, *right.nulls)))
        if both == "any":
            left, right = self._named(left), self._named(right)
            test = f"{left.text} is None or {right.text} is None"
            pair = self._named(Piece(f"ordered({left.text}, {right.text})", "any", (test,)))
            return Piece(f"({pair.text}[0] {op} {pair.text}[1])", "truth", pair.nulls)
        if both == "number" and not _exact(left, right):
            if left.floating or right.floating:
                left, right = self._float(one), self._float(other)
            else:
                left, right = self._named(left), self._named(right)
                same = f"{left.text}.__class__ is not float and {right.text}.__class__ is not float"
                text = f"({left.text} {op} {right.text} if {same} else float({left.text}) {op} float({right.text}))"
                return Piece(text, "truth", nulls)
            nulls = tuple(dict.fromkeys((*left.nulls, *right.nulls)))
        return Piece(f"({left.text} {op} {right.text})", "truth", nulls)

    def _kind(self, tree: Expr, wanted: Kind = "any") -> Kind:
        """What a node is, as far as it can be told without rows."""
        op, args = tree.op, tree.args
        if op == "lit":
            return of_value(args[0])
        if op == "call":
            return args[0].returns  # type: ignore[no-any-return]
        if op == "cast":
            return "text" if args[1] == "text" else "number"
        if op in ("fill", "when"):
            return common(op, self._kind(args[-2], wanted), self._kind(args[-1], wanted), wanted)
        return OPERATORS[op].gives

    def _chosen(self, tree: Expr, wanted: Kind) -> Piece:
        *condition, one, other = tree.args
        kind = common(tree.op, self._kind(one, wanted), self._kind(other, wanted), wanted)
        kind = wanted if kind == "any" else kind
        if kind == "number":
            left, right = self._float(one, named=True), self._float(other, named=True)
        else:
            left, right = self._checked(one, kind, named=True), self._checked(other, kind, named=True)
        if kind == "any":
            left, right = (self._named(Piece(f"chosen({p.text})", kind, p.nulls)) for p in (left, right))
        floating = kind == "number"
        if condition:
            test = self._checked(condition[0], "truth", named=True)
            name = self._line(f"{left.text} if {test.text} else {right.text}")
            return Piece(name, kind, (f"{name} is None",) if left.nulls or right.nulls else (), floating)
        name = self._line(f"{right.text} if {left.text} is None else {left.text}") if left.nulls else left.text
        return Piece(name, kind, (f"{name} is None",) if left.nulls and right.nulls else (), floating)

    def _logic(self, op: str, one: Expr, other: Expr) -> Piece:
        left, right = self._checked(one, "truth", named=True), self._checked(other, "truth", named=True)
        a, b = left.text, right.text
        if not left.nulls and not right.nulls:
            return Piece(f"({a} {op} {b})", "truth")
        ends = "False" if op == "and" else "True"
        rest = "True" if op == "and" else "False"
        unknown = " or ".join((*left.nulls, *right.nulls))
        name = self._line(f"{ends} if {a} is {ends} or {b} is {ends} else None if {unknown} else {rest}")
        return Piece(name, "truth", (f"{name} is None",))

    def _numeric(self, op: str, args: Sequence[Expr]) -> Piece:
        parts = [self._float(arg, named=True) for arg in args]
        nulls = tuple(dict.fromkeys(null for part in parts for null in part.nulls))
        a = parts[0].text
        if op == "abs":
            return Piece(f"abs({a})", "number", nulls, True)
        if op == "floor":
            return Piece(f"({a} // 1.0 if {a} - {a} == 0.0 else {a})", "number", nulls, True)
        if op == "log1p":
            return Piece(f"log1p({a})", "number", (*nulls, f"{a} <= -1.0"), True)
        sign, b = "<=" if op == "least" else ">=", parts[1].text
        return Piece(f"({a} if {a} {sign} {b} else {b})", "number", nulls, True)

    def _timed(self, op: str, args: Sequence[Any]) -> Piece:
        if op == "minutes":
            start, end = (self._checked(arg, "moment") for arg in args)
            nulls = tuple(dict.fromkeys((*start.nulls, *end.nulls)))
            return Piece(f"(({end.text} - {start.text}) // US / 60e6)", "number", nulls, True)
        moment, (part, zone) = self._checked(args[0], "moment", named=True), args[1:]
        mark = f"wall {moment.text} {zone}"
        if mark not in self._known:
            place = f"z{len(self.names)}"
            self.names[place] = ZoneInfo(zone)
            nulls = (*moment.nulls, f"not FIRST <= {moment.text} < END")
            wall = f"{moment.text}.astimezone({place})" if zone != "UTC" else moment.text
            self._known[mark] = self._named(Piece(f"({wall})", "moment", nulls))
        wall = self._known[mark].text
        return Piece(_PARTS[part].format(w=wall), "number", self._known[mark].nulls)

    def _other(self, op: str, args: Sequence[Any]) -> Piece:
        if op == "not":
            piece = self._checked(args[0], "truth")
            return Piece(f"(not {piece.text})", "truth", piece.nulls)
        if op == "is_null":
            piece = self._checked(args[0], named=True)
            return Piece(f"({piece.text} is None)" if piece.nulls else "False", "truth")
        if op == "category":
            return self._text_of(args[0])
        if op == "cast":
            return self._cast(args[0], args[1])
        if op == "is_in":
            return self._is_in(args[0], args[1:])
        if op == "call":
            return self._call(args[0], args[1:])
        piece = self._checked(args[0], "text")
        if op == "length":
            return Piece(f"len({piece.text})", "number", piece.nulls)
        if op == "starts_with":
            return Piece(f"{piece.text}.startswith({args[1]!r})", "truth", piece.nulls)
        return Piece(f"{piece.text}.{'lower()' if op == 'lower' else 'strip(BLANKS)'}", "text", piece.nulls)

    def _text_of(self, tree: Expr) -> Piece:
        piece = self._checked(tree)
        fits("category", piece.kind, "number" if piece.kind == "moment" else piece.kind)
        return piece if piece.kind == "text" else Piece(f"digits({piece.text})", "text", piece.nulls)

    def _cast(self, tree: Expr, to: str) -> Piece:
        if to == "text":
            return self._text_of(tree)
        piece = self._checked(tree, named=True)
        fits("cast", piece.kind, "number" if piece.kind == "moment" else piece.kind)
        made = f"{'decimal' if to == 'float' else 'integer'}({piece.text})"
        return Piece(
            self._line(f"None if {piece.text} is None else {made}"),
            "number",
            (f"v{len(self._lines) - 1} is None",),
            to == "float",
        )

    def _is_in(self, tree: Expr, values: Sequence[Any]) -> Piece:
        kind = of_value(values[0])
        name = f"among{len(self.names)}"
        self.names[name] = frozenset(float(v) if kind == "number" else v for v in values)
        piece = self._float(tree) if kind == "number" else self._checked(tree, kind)
        return Piece(f"({piece.text} in {name})", "truth", piece.nulls)

    def _call(self, function: Any, inputs: Sequence[Expr]) -> Piece:
        parts = [self._checked(tree, named=True).text for tree in inputs]
        name = f"call{len(self.names)}"
        self.names[name] = function.of
        given = "".join(f"chosen({part}), " for part in parts)
        made = self._line(f"{name}(({given}))")
        return Piece(made, function.returns, (f"{made} is None",), function.returns == "number")


def _exact(left: Piece, right: Piece) -> bool:
    """Whether Python's own comparison of two numbers is the one that is meant."""
    if left.floating and right.floating:
        return True
    return any(piece.constant is not None and abs(piece.constant) <= EXACT for piece in (left, right))


def _read(name: str, label: str, read: _Read) -> list[str]:
    """Lines that look at a value once: NaN is null, and what is of another kind is refused."""
    if read.kind == "number" and not read.raw:
        return [
            f"if {name}.__class__ is float:",
            f"    if {name} != {name}: {name} = None",
            f"elif {name}.__class__ is int: {name} = float({name}) if LOW <= {name} <= HIGH else wide({name})",
            f"elif {name} is not None:",
            f"    {name} = number({name}, {label})",
            f"    if {name} is not None: {name} = float({name})",
        ]
    if read.kind == "number":
        return [
            f"if {name}.__class__ is float:",
            f"    if {name} != {name}: {name} = None",
            f"elif {name}.__class__ is int:",
            f"    if not LOW <= {name} <= HIGH: {name} = wide({name})",
            f"elif {name} is not None: {name} = number({name}, {label})",
        ]
    if read.kind == "any":
        return [f"if {name} is not None and {name}.__class__ is not str: {name} = anything({name}, {label})"]
    if read.kind == "moment":
        test = f"{name}.__class__ is not datetime or {name}.tzinfo is not UTC"
        return [f"if {name} is not None and ({test}): {name} = moment({name}, {label})"]
    kind = {"truth": "bool", "text": "str"}[read.kind]
    return [f"if {name}.__class__ is not {kind} and {name} is not None: {name} = {read.kind}({name}, {label})"]


_PARTS = {
    "hour": "{w}.hour",
    "minute_of_day": "({w}.hour * 60 + {w}.minute)",
    "weekday": "{w}.isoweekday()",
    "month": "{w}.month",
    "day_of_year": "({w}.toordinal() - datetime({w}.year, 1, 1).toordinal() + 1)",
}
