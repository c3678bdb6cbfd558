"""A project: the folder with `loop.yaml`, read with messages that show the line."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from loopline.base.errors import Invalid, NotFound
from loopline.loop import later
from loopline.loop.document import Document
from loopline.loop.names import nearest, wrong_names
from loopline.loop.spec import FORMAT, LoopSpec

FILE = "loop.yaml"


@dataclass(frozen=True)
class Project:
    """A folder as users write it; `id` is the content id of its declaration."""

    root: Path
    spec: LoopSpec
    id: str
    page: Document = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The loop's name."""
        return self.spec.name

    @property
    def file(self) -> Path:
        """The project's `loop.yaml`."""
        return self.root / FILE

    def check(self) -> Project:
        """Look whether the files, functions and columns that the declaration names are there.

        Nothing of the project is run; see `loop.names` for what can be told so.

        Raises
        ------
        NotFound
            Naming the key and the line of the first that is not, and the nearest name.
        """
        for path, name in _files(self.spec):
            if not (self.root / name).is_file():
                mark = self.page.mark(path)
                place = f"{FILE}, line {mark.line}, column {mark.column}: {dotted(path)} names {name}"
                if (self.root / name).is_dir():
                    raise NotFound(
                        f"{place}, which is a folder",
                        why="here:\n" + self.page.show(mark),
                        fix="name a file in it, or for a source all of one kind, for example "
                        f"{name.rstrip('/')}/*.csv; a folder of a Delta table has no ending in its name",
                    )
                others = sorted(p.name for p in self.root.iterdir() if p.suffix == Path(name).suffix)
                near = difflib.get_close_matches(Path(name).name, others, 1)
                raise NotFound(
                    f"{place}, which is not there",
                    why="here:\n" + self.page.show(mark),
                    fix=f"write {near[0]}?" if near else f"create {self.root.name}/{name}, or correct the name",
                )
        for path, what, allowed in wrong_names(self.root, self.spec):
            raise self._wrong(path, what, allowed)
        return self

    def _wrong(self, path: tuple[str | int, ...], what: str, allowed: tuple[str, ...]) -> NotFound:
        mark = self.page.mark(path)
        given = what.rpartition(" ")[2].strip("'")
        near = nearest(given, allowed)
        return NotFound(
            f"{FILE}, line {mark.line}, column {mark.column}: {dotted(path)}: {what}",
            why="here:\n" + self.page.show(mark) + (f"\nthere are: {', '.join(allowed)}" if allowed else ""),
            fix=f"write {near}?" if near else "correct the name" if allowed else "mend the file",
        )


def load(path: Path) -> Project:
    """Read the project in the folder `path` (or its `loop.yaml`).

    Raises
    ------
    NotFound
        If there is no `loop.yaml`.
    Invalid
        If the page is not YAML, or a key is missing, unknown or malformed; the
        message names key, line and column, shows the line, and gives the nearest
        or the allowed values.
    """
    root = Path(path)
    root = (root.parent if root.name == FILE else root).absolute()
    try:
        raw = (root / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"there is no {FILE} in {root}",
            why="a project is a folder with that page",
            fix="loopline init, or name the folder with --project",
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{FILE} is not UTF-8 (byte {error.start})", why="YAML is read as UTF-8", fix="save it as UTF-8"
        ) from error
    page = Document(text, FILE)
    spec = parse(page)
    return Project(root=root, spec=spec, id=spec.id, page=page)


def parse(page: Document) -> LoopSpec:
    """The declaration on a page; `Invalid` lists every problem with its line."""
    if not isinstance(page.doc, dict):
        raise page.invalid(page.mark(()), "the page is empty or not a mapping", "start with `name: ...`")
    if (version := page.doc.get("version", FORMAT)) != FORMAT:
        raise page.invalid(
            page.mark(("version",)),
            f"the page has format version {version!r}, this Loopline reads {FORMAT}",
            "pip install --upgrade loopline",
        )
    early = [_later(page, path, subject) for path, subject in _planned(page.doc)]
    if early:
        raise _error(page, early)
    try:
        return LoopSpec.model_validate(page.doc)
    except ValidationError as error:
        found = [_finding(page, dict(item)) for item in error.errors(include_url=False)]
        raise _error(page, _telling(found)) from None


def dotted(path: Iterable[str | int]) -> str:
    """A place in the page as people say it: `evaluation.gates[1].metric`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass(frozen=True, slots=True)
class _Finding:
    path: tuple[str | int, ...]
    key: bool
    """Whether the key is wrong, not its value."""
    what: str
    allowed: tuple[str, ...]
    fix: str
    nearest: str | None = None


def _telling(found: list[_Finding]) -> list[_Finding]:
    """The findings without those that only follow from another one."""
    wrong = {f.path for f in found}
    guessed = {(*f.path[:-1], f.nearest) for f in found if f.nearest is not None and f.key}
    kept = [f for f in found if f.path not in guessed]
    if ("data",) in wrong:
        kept = [f for f in kept if f.path[:1] != ("features",)]
    return kept


def _error(page: Document, found: list[_Finding]) -> Invalid:
    unique = list({tuple(_spoken(f.path)): f for f in reversed(found)}.values())
    ordered = sorted(unique, key=lambda f: astuple(page.mark(f.path, key=f.key)))
    first = ordered[0]
    mark = page.mark(first.path, key=first.key)
    why = "here:\n" + page.show(mark)
    if first.allowed:
        why += f"\nallowed: {', '.join(first.allowed)}"
    for other in ordered[1:]:
        at = page.mark(other.path, key=other.key)
        why += f"\nalso line {at.line}, column {at.column}: {other.what}"
    return Invalid(f"{page.name}, line {mark.line}, column {mark.column}: {first.what}", why=why, fix=first.fix)


def _finding(page: Document, item: dict[str, Any]) -> _Finding:
    path: tuple[str | int, ...] = tuple(item["loc"])
    kind, context = item["type"], item.get("ctx", {})
    known = page.known(path)
    here = dotted(_spoken(path)) or "the page"
    if kind == "extra_forbidden":
        parent, key = path[:-1], str(path[-1])
        allowed = _fields(parent)
        near = difflib.get_close_matches(key, allowed, 1, cutoff=0.5)
        fix = f"write `{near[0]}`?" if near else f"remove `{key}`; `loopline explain` lists every key"
        what = f"unknown key `{key}` in {dotted(_spoken(parent)) or 'the page'}"
        return _Finding(path, True, what, allowed, fix, near[0] if near else None)
    if kind == "missing":
        key = str(path[-1])
        told = _describe(path)
        what = f"`{dotted(path)}` is missing" + (f" ({told})" if told else "")
        return _Finding(path, True, what, (), f"add `{key}: ...`" + _under(path))
    allowed = tuple(str(a) for a in context.get("allowed", ())) or _literals(path)
    is_key = path[-1:] == ("[key]",)
    given = path[-2] if is_key else _value(page.doc, known)
    near = difflib.get_close_matches(str(given), allowed, 1, cutoff=0.5) if allowed else []
    if kind == "loop" and allowed and not near:
        near = difflib.get_close_matches(context["what"].split("'")[1], allowed, 1) if "'" in context["what"] else []
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message.replace("a valid tuple", "a list").replace("a valid dictionary", "a mapping")
    if str(given) in allowed:
        near, allowed = [], ()  # what is written is allowed as such; something else is missing
    if kind == "literal_error":
        message = f"{given!r} is not one of the allowed values"
    elif kind.endswith("_type") or kind.endswith("_parsing"):
        message = f"{message}, not {_short(given)}"
    if near:
        fix = f"write `{near[0]}`?"
    elif allowed:
        fix = f"write `{allowed[0]}`" if len(allowed) == 1 else f"write one of: {', '.join(allowed)}"
    else:
        fix = f"loopline explain {_section(path)}".rstrip()
    return _Finding(path[:-1] if is_key else path, is_key, f"{here}: {message}", allowed, fix)


def _planned(doc: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(doc, dict):
        for key, value in doc.items():
            here = (*path, key)
            subject = later.topic(here, value)
            if subject is not None:
                yield here, subject
            else:
                yield from _planned(value, here)


def _later(page: Document, path: tuple[str | int, ...], subject: str) -> _Finding:
    what = f"`{dotted(path)}` ({subject}) comes with a later version"
    return _Finding(path, True, what, (), f"remove `{dotted(path)}` for now")


def _spoken(path: tuple[str | int, ...]) -> Iterator[str | int]:
    """`path` without the names of types that pydantic puts between keys."""
    for part in path:
        if not (isinstance(part, str) and (not part or part in ("timedelta", "float", "[key]") or "[" in part)):
            yield part


def _model(path: tuple[str | int, ...]) -> Any:
    """The annotation that stands at `path` of a LoopSpec."""
    found: Any = LoopSpec
    for part in path:
        model = _inner(found)
        if isinstance(model, type) and issubclass(model, BaseModel):
            info = model.model_fields.get(str(part))
            if info is None:
                return None
            found = info.annotation
        else:
            items = [a for a in typing.get_args(model) if a is not Ellipsis]
            if not items:
                return None
            found = items[-1]
    return _inner(found)


def _inner(annotation: Any) -> Any:
    """An annotation without its `None` alternative and metadata."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kept = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _inner(kept[0]) if len(kept) == 1 else annotation
    if typing.get_origin(annotation) is typing.Annotated:
        return _inner(typing.get_args(annotation)[0])
    return annotation


def _fields(path: tuple[str | int, ...]) -> tuple[str, ...]:
    model = _model(path)
    return tuple(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else ()


def _literals(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Allowed words at `path`, for values and for the keys of a closed mapping."""
    if path and path[-1] == "[key]":
        keys = typing.get_args(_model(path[:-2]))
        path_type = keys[0] if keys else None
    else:
        path_type = _model(tuple(_spoken(path)))
    if typing.get_origin(path_type) is typing.Literal:
        return tuple(str(value) for value in typing.get_args(path_type))
    return ()


def _describe(path: tuple[str | int, ...]) -> str:
    parent = _model(path[:-1])
    if isinstance(parent, type) and issubclass(parent, BaseModel):
        info = parent.model_fields.get(str(path[-1]))
        return (info.description or "").rstrip(".") if info is not None else ""
    return ""


def _under(path: tuple[str | int, ...]) -> str:
    return f" under `{dotted(path[:-1])}`" if len(path) > 1 else ""


def _section(path: tuple[str | int, ...]) -> str:
    return str(path[0]) if path else ""


def _value(doc: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        doc = doc[part]
    return doc


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _files(spec: LoopSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every file a declaration names, with the key that names it."""
    for name, table in spec.data.items():
        if (file := _source_file(table.source)) is not None:
            yield ("data", name, "source"), file
        if table.contract is not None:
            yield ("data", name, "contract"), table.contract
    for index, view in enumerate(spec.features.views):
        yield ("features", "views", index), view
    yield ("training", "recipe"), spec.training.recipe.partition(":")[0]
    if spec.training.pipeline is not None:
        yield ("training", "pipeline"), spec.training.pipeline.partition(":")[0]
    if spec.framing.baseline not in (None, "constant"):
        yield ("framing", "baseline"), str(spec.framing.baseline).partition(":")[0]


def _source_file(source: object) -> str | None:
    """The one file of this project that a source is; null for patterns, folders, other hosts and databases."""
    if not isinstance(source, str) or "://" in source:
        return None
    if ".py:" in source:
        return source.partition(".py:")[0] + ".py"
    return source if Path(source).suffix and not any(letter in source for letter in "*?[") else None
