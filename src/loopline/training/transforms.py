"""Fitted transforms: what the recipe sees of the columns, learned from the training rows alone.

A transform is data: a fill value, a shift and a divisor, or a table with one value per category. So the same
figures stand in the bundle's manifest, in its ONNX graph and in the arithmetic that the parity gate compares it with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loopline.base.errors import Invalid
from loopline.training.encoding import Floats, Input
from loopline.training.spec import TransformSpec

FOLDS = 5
_EACH = {"numbers": "number", "categories": "category"}
_UNSAFE = str.maketrans(dict.fromkeys('",:[]{}', "_"))

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """One column that the recipe sees, made of one input.

    A `number` is `(x - shift) / by`, with `fill` (or null) where it is missing; a
    `flag` is 1 where it is missing; a `table` gives one value per category, the last
    one for null and unseen. All arithmetic is in float32.
    """

    name: str
    source: int
    kind: Literal["number", "flag", "table"]
    fill: float | None = None
    shift: float = 0.0
    by: float = 1.0
    table: tuple[float | None, ...] = ()
    category: bool = False
    """Whether its values are still codes of categories."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """All columns in the order of the recipe's matrix."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the recipe sees."""
        return tuple(c.name for c in self.columns)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Those of them that hold codes of categories."""
        return tuple(c.name for c in self.columns if c.category)

    def apply(self, matrix: Floats) -> Floats:
        """Rows as the recipe sees them: (n, columns) float32 from (n, inputs) float32, null is NaN."""
        out = np.empty((len(matrix), len(self.columns)), dtype=np.float32)
        for j, column in enumerate(self.columns):
            x = matrix[:, column.source]
            if column.kind == "number":
                fill = np.float32(np.nan if column.fill is None else column.fill)
                out[:, j] = (np.where(np.isnan(x), fill, x) - np.float32(column.shift)) / np.float32(column.by)
            elif column.kind == "flag":
                out[:, j] = np.isnan(x)
            else:
                table = np.array([np.nan if v is None else v for v in column.table], dtype=np.float32)
                out[:, j] = table[_places(x, len(table) - 1)]
        return out

    def thresholds(self, seen: Mapping[int, Doubles]) -> dict[int, Doubles]:
        """Where a model that splits its own columns at `seen` splits the inputs; every code of a table counts."""
        found: dict[int, list[Doubles]] = {}
        for j, column in enumerate(self.columns):
            here = found.setdefault(column.source, [])
            if column.kind == "number" and j in seen:
                here.append(np.asarray(seen[j]) * column.by + column.shift)
            elif column.kind == "table":
                here.append(np.arange(len(column.table) - 1, dtype=np.float64))
        return {j: np.unique(np.concatenate(parts)) for j, parts in found.items() if parts}

    def doc(self) -> list[dict[str, Any]]:
        """The columns as JSON, for the manifest."""
        return [_doc(column) for column in self.columns]


def fit(
    specs: Sequence[TransformSpec],
    inputs: Sequence[Input],
    train: Floats,
    y: npt.NDArray[np.int8],
    *,
    seed: int,
) -> tuple[Transforms, Floats]:
    """Learn transforms on the training rows.

    Parameters
    ----------
    specs : sequence of TransformSpec
        What is declared; columns that none names pass through.
    inputs : sequence of Input, k
    train : (n, k) float32
        The training rows, encoded; no held-out row.
    y : (n,) int8
        Their labels.
    seed : int
        Deals the rows into the folds of target encoding.

    Returns
    -------
    Transforms
        For every row that is not trained on.
    (n, m) float32
        The training rows as the recipe sees them: as `Transforms.apply` gives them,
        but target encodings are cross-fitted, each row's from the other folds, so
        that no row sees its own label.

    Raises
    ------
    Invalid
        If a spec names no column, one column twice, or does not fit its kind.
    """
    chosen = _chosen(specs, inputs)
    numbers: list[Column] = []
    flags: list[Column] = []
    tables: list[Column] = []
    crossed: dict[int, Floats] = {}
    for j, one in enumerate(inputs):
        spec, x = chosen.get(one.name), train[:, j]
        if spec is None or spec.encode is None:
            numbers.append(_number(one, j, x, spec))
        if spec is not None and spec.flag_missing:
            flags.append(Column(f"{one.name}_missing", j, "flag"))
        if spec is not None and spec.encode is not None:
            tables += _tables(one, j, x, y, spec)
            if spec.encode == "target":
                crossed[j] = _crossed(x, y, len(one.categories), spec.min_rows, seed)
    made = Transforms(_named((*numbers, *flags, *tables)))
    rows = made.apply(train)
    for j, column in enumerate(made.columns):
        if column.kind == "table" and column.source in crossed:
            rows[:, j] = crossed[column.source]
    return made, rows


def _chosen(specs: Sequence[TransformSpec], inputs: Sequence[Input]) -> dict[str, TransformSpec]:
    kinds = {one.name: one.kind for one in inputs}
    chosen: dict[str, TransformSpec] = {}
    for spec in specs:
        if isinstance(spec.columns, str):
            names: Collection[str] = [n for n, kind in kinds.items() if kind == _EACH[spec.columns]]
        else:
            names = spec.columns
        for name in names:
            if name not in kinds:
                raise _refused(f"{name!r} is no feature", f"the features are {', '.join(kinds)}", "correct the name")
            if name in chosen:
                raise _refused(f"{name} is named twice", "a column is transformed once", "join the two entries")
            if (kinds[name] == "category") != (spec.encode is not None) and not _only_flags(spec):
                does = "encode" if spec.encode else "impute and scale"
                raise _refused(
                    f"{name} is a {kinds[name]}",
                    f"{does} {'is for categories' if spec.encode else 'are for numbers'}",
                    "end the feature with .category(), or choose another transform",
                )
            chosen[name] = spec
    return chosen


def _only_flags(spec: TransformSpec) -> bool:
    return spec.encode is None and spec.impute is None and spec.scale is None


def _number(one: Input, j: int, x: Floats, spec: TransformSpec | None) -> Column:
    if spec is None or _only_flags(spec):
        return Column(one.name, j, "number", category=one.kind == "category")
    known = x[~np.isnan(x)].astype(np.float64)
    if not len(known):
        raise _refused(f"{one.name} holds no value", "no training row knows it", f"take {one.name} out of the features")
    fill = _fill(spec, known)
    values = known if fill is None else np.where(np.isnan(x), fill, x).astype(np.float64)
    shift, by = _scale(spec, values)
    rounded = None if fill is None else float(np.float32(fill))
    return Column(one.name, j, "number", rounded, float(np.float32(shift)), float(np.float32(by)))


def _fill(spec: TransformSpec, known: Doubles) -> float | None:
    match spec.impute:
        case "mean":
            return float(known.mean())
        case "median":
            return float(np.median(known))
        case "most_frequent":
            values, count = np.unique(known, return_counts=True)
            return float(values[count.argmax()])
    return spec.impute


def _scale(spec: TransformSpec, values: Doubles) -> tuple[float, float]:
    match spec.scale:
        case "standard":
            shift, by = float(values.mean()), float(values.std())
        case "minmax":
            shift, by = float(values.min()), float(values.max() - values.min())
        case "robust":
            low, shift, high = (float(v) for v in np.quantile(values, [0.25, 0.5, 0.75]))
            by = high - low
        case _:
            return 0.0, 1.0
    return shift, by if np.float32(by) > 0 else 1.0


def _tables(one: Input, j: int, x: Floats, y: npt.NDArray[np.int8], spec: TransformSpec) -> list[Column]:
    size = len(one.categories)
    if spec.encode == "ordinal":
        if unknown := sorted(set(one.categories) - set(spec.order)):
            raise _refused(
                f"`order` of {one.name} lacks {', '.join(unknown[:5])}",
                "training rows hold them, and nobody can say where they stand",
                "add them, or clean them in the source",
            )
        places = tuple(float(spec.order.index(word)) for word in one.categories)
        return [Column(one.name, j, "table", table=(*places, None))]
    if spec.encode == "target":
        place = _places(x, size)
        return [Column(one.name, j, "table", table=tuple(_rates(place, y, size, spec.min_rows).tolist()))]
    count = np.bincount(_places(x, size), minlength=size + 1)
    kept = [k for k in range(size) if count[k] >= spec.min_rows]
    return [
        Column(f"{one.name}={one.categories[k]}", j, "table", table=tuple(float(k == n) for n in range(size + 1)))
        for k in kept
    ]


def _places(x: Floats, size: int) -> Ints:
    """Codes as indices into a table whose last entry is for null and unseen."""
    return np.clip(np.where(np.isnan(x), np.float32(size), x).astype(np.int64), 0, size)


def _rates(place: Ints, y: npt.NDArray[np.int8], size: int, min_rows: int) -> Floats:
    """The label's mean per category, drawn towards the overall mean the more, the less its rows say.

    Categories of fewer than `min_rows` rows share the entry of null and unseen.

    Notes
    -----
    Empirical Bayes for a binary target: weight `n v / (n v + w)`, `v` the variance
    of all labels, `w` that inside the category.

    References
    ----------
    Micci-Barreca, D. (2001). A preprocessing scheme for high-cardinality categorical
    attributes in classification and prediction problems. SIGKDD Explorations 3(1).
    """
    count = np.bincount(place, minlength=size + 1)
    rare = np.flatnonzero(count[:size] < min_rows)
    joined = np.where(np.isin(place, rare), size, place)
    n = np.bincount(joined, minlength=size + 1).astype(np.float64)
    hits = np.bincount(joined, weights=y, minlength=size + 1)
    overall = float(y.mean()) if len(y) else 0.0
    mean = np.divide(hits, n, out=np.full(size + 1, overall), where=n > 0)
    inside, outside = mean * (1 - mean), overall * (1 - overall)
    below = n * outside + inside
    weight = np.divide(n * outside, below, out=np.zeros(size + 1), where=below > 0)
    rates = weight * mean + (1 - weight) * overall
    rates[rare] = rates[size]
    narrow: Floats = rates.astype(np.float32)
    return narrow


def _crossed(x: Floats, y: npt.NDArray[np.int8], size: int, min_rows: int, seed: int) -> Floats:
    """Each row's rate from the rows of the other folds."""
    place = _places(x, size)
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    out = np.empty(len(y), dtype=np.float32)
    for k in range(FOLDS):
        mine = fold == k
        out[mine] = _rates(place[~mine], y[~mine], size, min_rows)[place[mine]]
    return out


def _named(columns: Sequence[Column]) -> tuple[Column, ...]:
    """With names that libraries accept, each once."""
    taken: set[str] = set()
    done = []
    for column in columns:
        name = plain = column.name if column.kind != "table" else column.name.translate(_UNSAFE)
        n = 1
        while name in taken:
            n += 1
            name = f"{plain}_{n}"
        taken.add(name)
        done.append(replace(column, name=name))
    return tuple(done)


def _doc(column: Column) -> dict[str, Any]:
    doc: dict[str, Any] = {"name": column.name, "input": column.source, "kind": column.kind}
    if column.kind == "number":
        return {**doc, "fill": column.fill, "shift": column.shift, "by": column.by}
    return {**doc, "table": [None if v is None else float(v) for v in column.table]} if column.kind == "table" else doc


def from_doc(doc: Sequence[Mapping[str, Any]]) -> Transforms:
    """What `Transforms.doc` wrote."""
    columns = []
    for one in doc:
        given = {"fill": one["fill"], "shift": one["shift"], "by": one["by"]} if one["kind"] == "number" else {}
        table = tuple(one["table"]) if one["kind"] == "table" else ()
        columns.append(Column(one["name"], one["input"], one["kind"], table=table, **given))
    return Transforms(tuple(columns))


def _refused(what: str, why: str, fix: str) -> Invalid:
    return Invalid(f"training.transforms: {what}", why=why, fix=fix)
