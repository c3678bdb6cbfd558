"""The files that a new project starts with."""

from __future__ import annotations

import contextlib
import csv
import difflib
import io
import math
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

from loopline.base.errors import Conflict, Invalid, NotFound

SAMPLE_ROWS = 20_000
LOOKED_AT = 5_000_000
COMPARED = re.compile(r"\s*(\w+)\s*(?:[<>=!]=?)\s*(.+)")
PLAIN = re.compile(r"[A-Za-z_][\w.\- ]*")
ZONED, LOCAL, DATES = "with zone", "without zone", "dates"
TRUE = {"0", "1", "true", "false", "0.0", "1.0"}


@dataclass(frozen=True, slots=True)
class Made:
    """What was written, and what one should know about it."""

    folder: Path
    files: tuple[str, ...]
    page: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file as its first rows show it."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def values(self, column: str) -> list[str]:
        """The non-empty values of a column."""
        at = self.columns.index(column)
        return [row[at] for row in self.rows if len(row) > at and row[at] != ""]


def look(path: Path) -> Table:
    """Read the head of a CSV file.

    Raises
    ------
    NotFound
        If there is no such file.
    Invalid
        If it has no header and rows, or repeats a column.
    """
    if not path.is_file():
        raise NotFound(f"{path} is not there", why="--from names a CSV file", fix="check the path")
    try:
        text = path.open(encoding="utf-8-sig", newline="").read(LOOKED_AT)
    except UnicodeDecodeError as error:
        raise Invalid(f"{path.name} is not UTF-8", why="CSV is read as UTF-8", fix="save it as UTF-8 text") from error
    lines = text.splitlines(keepends=True)[: SAMPLE_ROWS + 1]
    try:
        rows = [tuple(cell.strip() for cell in row) for row in csv.reader(io.StringIO("".join(lines))) if row]
    except csv.Error as error:
        raise Invalid(f"{path.name} cannot be read: {error}", why="a quote is not closed", fix="close it") from error
    head = rows[0] if rows else ()
    if len(rows) < 2 or len(head) < 2:
        raise Invalid(
            f"{path.name} has no table", why="a header and rows with commas are expected", fix="check the file"
        )
    if twice := [name for name, count in Counter(head).items() if count > 1 or not name]:
        raise Invalid(
            f"{path.name} has the column {twice[0]!r} twice"
            if twice[0]
            else f"{path.name} has a column without a name",
            why="columns are told apart by name",
            fix="rename it in the file",
        )
    return Table(path, head, tuple(rows[1:]))


def from_table(
    folder: Path,
    table: Table,
    *,
    label: str | None,
    unit: str | None,
    time: str | None,
    name: str | None,
    zone: str | None = None,
) -> Made:
    """Write `loop.yaml` and `train.py` for a CSV file, which is copied beside them.

    Times without a zone are read in `zone`, which the page then declares; UTC is
    written where none is given, and said.
    """
    label = _needed(table, label, "--label", "the column to predict, or a comparison such as delay > 15")
    unit = _needed(table, unit, "--unit", "the column that names a row")
    compared = COMPARED.fullmatch(label)
    column = _column(table, compared[1] if compared else label, "--label")
    unit = _column(table, unit, "--unit")
    time = _column(table, time, "--time") if time else None
    notes = [] if time else ["without --time rows are held out at random and nothing retrains"]
    expression = label if compared else _as_truth(table, column)
    if not compared and expression != column:
        notes.append(f"{column} has the values {_counted(table, column)}; true is `{expression}`")
    repeated = [value for value, count in Counter(table.values(unit)).items() if count > 1]
    if repeated:
        raise Invalid(
            f"{unit} does not name a row: {repeated[0]!r} stands in {table.path.name} more than once",
            why="there is one prediction per unit",
            fix=f"--unit with another column: {', '.join(_unique(table)) or 'add one that numbers the rows'}",
        )
    written, bare = times_of(table, time) if time else ZONED, without_zone(table, time)
    if zone is not None:
        _check_zone(zone)
        notes += [] if bare else [f"--zone {zone} is not needed: no time of the file lacks its zone"]
    elif bare:
        notes.append(f"{', '.join(bare)}: no zone, read as UTC; correct `zone` in loop.yaml if that is wrong")
    parts = [f"label: {_quoted(expression)}", f"unit: {_quoted(unit)}"]
    parts += [f"decision_time: {_quoted(time)}"] if time else []
    page = (
        f"name: {_name(name, folder, table.path.stem)}\nframing: {{{', '.join(parts)}}}\n"
        f"{_data(table, time if written == DATES else None, zone or 'UTC' if bare else None)}training: train.py:fit\n"
    )
    copied = folder.absolute() / table.path.name != table.path.absolute()
    files: dict[str, str | bytes] = {"loop.yaml": page, "train.py": template("train.py")}
    if copied:
        files[table.path.name] = table.path.read_bytes()
    return _written(folder, files, page, tuple(notes))


def example(folder: Path, name: str | None) -> Made:
    """Write a project that runs as it is: customers, some of whom leave."""
    page = template("loop.yaml").replace("NAME", _name(name, folder, "churn"))
    files = {"loop.yaml": page, "train.py": template("train.py"), "customers.csv": customers()}
    return _written(folder, files, page)


def template(name: str) -> str:
    """A file that comes with the command."""
    return resources.files("loopline.interfaces.cli").joinpath("templates", name + ".txt").read_text("utf-8")


def customers(rows: int = 3000, seed: int = 7) -> str:
    """Made-up customers over a year; the same every time. Those with many calls and short contracts leave."""
    chance = random.Random(seed)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("customer_id", "snapshot_at", "months", "calls", "spend", "plan", "churned"))
    for number in range(rows):
        at = start + timedelta(minutes=number * 365 * 1440 // rows)
        months, calls = chance.randint(1, 72), min(12, int(chance.expovariate(0.6)))
        plan = chance.choice(("basic", "plus", "family"))
        spend = round(chance.gauss(38 if plan == "basic" else 55, 9), 2)
        score = 0.55 * calls - 0.05 * months + (0.8 if plan == "basic" else 0) - 0.4 + chance.gauss(0, 0.6)
        churned = int(chance.random() < 1 / (1 + math.exp(-score)))
        writer.writerow((f"c{number:05d}", at.strftime("%Y-%m-%dT%H:%M:%SZ"), months, calls, spend, plan, churned))
    return out.getvalue()


def _data(table: Table, dates: str | None, zone: str | None) -> str:
    """Section `data`: the file alone, or with what its times lack."""
    source = _quoted(table.path.name)
    if zone is None:
        return f"data: {source}\n"
    stem = re.sub(r"[^a-z0-9]+", "_", table.path.stem.lower()).strip("_")
    named = stem[:63] if stem[:1].isalpha() else "rows"
    parts = [f"source: {source}", *([f"event_time: {_quoted(dates)}"] if dates else []), f"zone: {zone}"]
    why = "a date is its first moment there" if dates else "of times that carry none"
    return f"data:\n  {named}: {{{', '.join(parts)}}}  # zone: {why}\n"


def _written(folder: Path, files: Mapping[str, str | bytes], page: str, notes: tuple[str, ...] = ()) -> Made:
    """Write the files, all or none: `loop.yaml` comes last, and what failed half-way is taken away again."""
    for name in files:
        if (folder / name).exists():
            raise Conflict(
                f"{folder / name} is already there",
                why="init never overwrites",
                fix="choose another folder, or remove it",
            )
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    content = {name: files[name] for name in sorted(files, key=lambda name: name == "loop.yaml")}
    if not (folder / ".gitignore").exists():
        content = {".gitignore": ".loopline/\n", **content}
    begun: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            begun.append(folder / name)
            begun[-1].write_bytes(data.encode() if isinstance(data, str) else data)
    except BaseException:
        for path in begun:
            path.unlink(missing_ok=True)
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()
        raise
    return Made(folder, tuple(files), page, notes)


def _needed(table: Table, given: str | None, option: str, what: str) -> str:
    if given:
        return given
    raise Invalid(
        f"{option} is missing: {what}",
        why=f"{table.path.name} has the columns {', '.join(table.columns)}",
        fix=f"{option} {_unique(table)[0] if option == '--unit' and _unique(table) else table.columns[-1]}",
    )


def _column(table: Table, given: str, option: str) -> str:
    if given in table.columns:
        return given
    near = difflib.get_close_matches(given, table.columns, 1, cutoff=0.5)
    raise NotFound(
        f"{table.path.name} has no column {given!r}",
        why=f"its columns are {', '.join(table.columns)}",
        fix=f"{option} {near[0] if near else table.columns[-1]}",
    )


def _as_truth(table: Table, column: str) -> str:
    """The label expression of a column: itself when it is true or false, its rarer word when it has two."""
    counts = Counter(table.values(column))
    if not counts or {value.lower() for value in counts} <= TRUE:
        return column
    if len(counts) == 2:
        rarer = min(counts, key=lambda value: (counts[value], value))
        return f"{column} == '{rarer}'"
    numbers = all(_number(value) for value in counts)
    middle = sorted(table.values(column), key=float)[len(table.values(column)) // 2] if numbers else ""
    raise Invalid(
        f"{column} has {len(counts):,} values: {_counted(table, column)}",
        why="the answer must be true or false",
        fix=f'--label "{column} > {middle}"' if numbers else f"--label \"{column} == '{counts.most_common(1)[0][0]}'\"",
    )


def _counted(table: Table, column: str) -> str:
    counts = Counter(table.values(column))
    return ", ".join(f"{value} ({count:,})" for value, count in counts.most_common(4)) + (", ..." * (len(counts) > 4))


def _unique(table: Table) -> list[str]:
    """Columns whose values never repeat; names that say so first."""
    found = [c for c in table.columns if len(set(table.values(c))) == len(table.rows)]
    return sorted(found, key=lambda c: not re.search(r"(^|_)(id|key|no|number)$", c.lower()))


def times_of(table: Table, column: str) -> str:
    """How a column writes its times: `ZONED`, `LOCAL` (no zone) or `DATES`.

    Raises
    ------
    Invalid
        If it holds something else, or mixes them.
    """
    first: dict[str, str] = {}
    for value in table.values(column):
        try:
            at = datetime.fromisoformat(value)
        except ValueError as error:
            raise Invalid(
                f"{column} holds {value!r}",
                why="times are read as 2026-03-01 or 2026-03-01T06:00:00Z",
                fix="write them so, or leave --time out",
            ) from error
        first.setdefault(DATES if len(value) <= 10 else LOCAL if at.tzinfo is None else ZONED, value)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise Invalid(
            f"{column} holds {one!r} and {other!r}",
            why="times of one column are written in one way: dates, times with a zone, or times without",
            fix="write them alike, for example 2026-03-01T06:00:00Z",
        )
    return next(iter(first), ZONED)


def without_zone(table: Table, time: str | None) -> list[str]:
    """Columns whose times carry no zone; calendar dates count in the column `time` only."""
    found = []
    for column in table.columns:
        try:
            written = times_of(table, column) if _begins_like_a_time(table, column) else ZONED
        except Invalid:
            continue
        if written == LOCAL or (written == DATES and column == time):
            found.append(column)
    return found


def _begins_like_a_time(table: Table, column: str) -> bool:
    return re.match(r"\d{4}-?\d\d-?\d\d", next(iter(table.values(column)), "")) is not None


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise Invalid(
            f"{zone!r} is not a time zone", why="zones have names of the tz database", fix="--zone Europe/Paris"
        ) from error


def _number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def _name(given: str | None, folder: Path, otherwise: str) -> str:
    word = given or folder.absolute().name or otherwise
    made = re.sub(r"[^a-z0-9._-]+", "-", word.lower()).strip("-._")[:63]
    return made or otherwise


def _quoted(text: str) -> str:
    """`text` as YAML, quoted only where it must be."""
    if PLAIN.fullmatch(text) and text.strip() == text and text.lower() not in ("true", "false", "null"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
