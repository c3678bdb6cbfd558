"""Names that a declaration takes from elsewhere: functions of its modules, columns of its files.

Looked at before anything is written. Only what is cheap is read: the text of a
module, which is not run, and the header of a file. What cannot be told from these
(columns that a function or a database gives) is left to the first cycle.
"""

from __future__ import annotations

import ast
import csv
import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from loopline.loop.spec import LoopSpec, Problem
from loopline.loop.view_names import wrong_views

_EXPRESSION = re.compile(r"[^\s+-]+")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def wrong_names(root: Path, spec: LoopSpec) -> Iterator[Problem]:
    """Where a name stands, what is wrong with it, and the names there are.

    Parameters
    ----------
    root : Path
        The project's folder; every file that `spec` names lies in it.
    """
    yield from _functions(root, spec)
    yield from _columns(root, spec)
    yield from _views(root, spec)


def nearest(given: str, allowed: tuple[str, ...]) -> str | None:
    """The allowed name that was probably meant."""
    near = difflib.get_close_matches(given, allowed, 1, cutoff=0.5)
    folded = {name.lower(): name for name in allowed}
    return near[0] if near else folded.get(given.lower())


# ---------------------------------------------------------------- functions


def _functions(root: Path, spec: LoopSpec) -> Iterator[Problem]:
    named: dict[tuple[str | int, ...], str] = {("training", "recipe"): spec.training.recipe}
    if spec.training.pipeline is not None:
        named["training", "pipeline"] = spec.training.pipeline
    if spec.framing.baseline not in (None, "constant"):
        named["framing", "baseline"] = str(spec.framing.baseline)
    for table, declared in spec.data.items():
        if isinstance(declared.source, str) and ".py:" in declared.source:
            named["data", table, "source"] = declared.source
    for path, ref in named.items():
        file, _, function = ref.partition(":")
        defined = _defined(root / file)
        if isinstance(defined, str):
            yield path, f"{file} {defined}", ()
        elif defined is not None and function not in defined:
            yield path, f"{file} defines no {function!r}", tuple(sorted(defined))
    for index, file in enumerate(spec.features.views):
        if isinstance(found := _defined(root / file), str):
            yield ("features", "views", index), f"{file} {found}", ()


def _defined(path: Path) -> set[str] | str | None:
    """Public names that the text of a module defines; what is wrong with the text; null where only running tells."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        return f"is not Python: line {error.lineno}: {error.msg}"
    except ValueError as error:
        return f"is not Python: {error}"
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            if "*" in names:
                return None
            found |= names
        elif not isinstance(node, ast.Expr):
            return None  # names may be made in loops, conditions and the like
    return {name for name in found if name != "annotations"}


# ---------------------------------------------------------------- columns


def _columns(root: Path, spec: LoopSpec) -> Iterator[Problem]:
    heads = {name: _head(root, spec, name) for name in spec.data}
    spine = spec.features.spine
    answers = spec.framing.label.table or spine
    asked: list[tuple[tuple[str | int, ...], str, str]] = [(("framing", "unit"), spec.framing.unit, spine)]
    if answers != spine:
        asked.append((("framing", "unit"), spec.framing.unit, answers))
    if spec.framing.decision_time is not None and (match := _EXPRESSION.match(spec.framing.decision_time.strip())):
        asked.append((("framing", "decision_time"), match[0], spine))
    label: tuple[str, ...] = ("framing", "label", "value")
    asked += [(label, name, answers) for name in _read(spec.framing.label.value, heads.get(answers))]
    for name, table in spec.data.items():
        times = {"event_time": table.event_time, "known_at": table.known_at}
        asked += [(("data", name, key), column, name) for key, column in times.items() if column is not None]
        asked += [(("data", name, "key"), column, name) for column in table.key]
    texts = " ".join((root / file).read_text(errors="replace") for file in spec.features.views)
    for index, column in enumerate(spec.evaluation.slices):
        if re.search(rf"\b{re.escape(column)}\b", texts) is None:  # a slice may be a feature of the views
            asked.append((("evaluation", "slices", index), column, spine))
    for path, column, name in asked:
        head = heads.get(name)
        if head is not None and column not in head:
            source = spec.data[name].source
            yield path, f"{source} has no column {column!r}", head


def _views(root: Path, spec: LoopSpec) -> Iterator[Problem]:
    """Tables and columns that views name, as far as the text of their files tells."""
    tables = {name: _head(root, spec, name) for name in spec.data}
    online = spec.serving.features == "online"
    for index, file in enumerate(spec.features.views):
        for one in wrong_views((root / file).read_bytes(), file, tables, spec.features.spine, online=online):
            yield ("features", "views", index), one.what, one.allowed


def _read(expression: str, head: tuple[str, ...] | None) -> list[str]:
    """Columns that a label expression reads."""
    if head is not None and expression in head:
        return [expression]
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return []  # told with all its reasons when labels are read
    return list(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def _head(root: Path, spec: LoopSpec, name: str) -> tuple[str, ...] | None:
    """The columns of a table whose source is one file with a header; null where that is not cheap to tell."""
    table = spec.data[name]
    if not isinstance(table.source, str) or "://" in table.source or ".py:" in table.source:
        return None
    path = root / table.source
    if not path.is_file():
        return None
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_head(path)
    if suffix not in _SEPARATORS:
        return None
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        head = next(csv.reader(handle, delimiter=_SEPARATORS[suffix]), [])
    text = all(name.isprintable() and "\N{REPLACEMENT CHARACTER}" not in name for name in head)
    return tuple(head) if len(head) > 1 and text else None  # other faults of a file are told when it is read


def _parquet_head(path: Path) -> tuple[str, ...] | None:
    import polars as pl

    try:
        schema: Mapping[str, pl.DataType] = pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError):
        return None
    return tuple(schema)


__all__ = ["nearest", "wrong_names"]
