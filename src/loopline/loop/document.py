"""YAML 1.2 with the place of every key, within limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from loopline.base.errors import Invalid

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_ALIASES = 64
MAX_NODES = 20_000

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a text: line and column, both counted from 1."""

    line: int
    column: int


class Document:
    """A parsed YAML page that still knows where each key and value stands.

    Parameters
    ----------
    text : str
        The page.
    name : str
        What messages call it.

    Raises
    ------
    Invalid
        If it is not YAML 1.2, repeats a key, or exceeds the limits on size, depth,
        aliases and nodes. The message names line and column and shows the line.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.lines = text.splitlines()
        self._keys: dict[Path, Mark] = {}
        self._values: dict[Path, Mark] = {}
        self._nodes = 0
        if len(text.encode()) > MAX_BYTES:
            raise Invalid(
                f"{name} is larger than {MAX_BYTES // 1024} kB",
                why="a loop is one readable page",
                fix="move data into files and name them",
            )
        try:
            self._guard(text)
            root = YAML(typ="safe", pure=True).compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            at = Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)
            if "\t" in self._indent(at):
                raise self.invalid(at, "tabs cannot indent", "use spaces") from error
            if "'\\t'" in str(error.problem):
                raise self.invalid(at, "a tab cannot stand here", "use spaces") from error
            raise self.invalid(at, str(error.problem or error.context), "mend the YAML at this place") from error
        except YAMLError as error:
            raise Invalid(f"{name} is not YAML: {error}", why="it cannot be parsed", fix=f"mend {name}") from error
        self.doc: Any = None if root is None else self._build(root, (), 0)

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the deepest known part of `path` stands: its value, or its key."""
        for end in range(len(path), -1, -1):
            places = (self._keys, self._values) if key else (self._values, self._keys)
            for found in (places[0].get(path[:end]), places[1].get(path[:end])):
                if found is not None:
                    return found
        return Mark(1, 1)

    def known(self, path: Path) -> Path:
        """The longest part of `path` that is written in the page."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._values:
                return path[:end]
        return ()

    def show(self, mark: Mark) -> str:
        """The line at `mark` with a caret under the column."""
        line = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        start = max(0, mark.column - 80)
        number = f"{mark.line} | "
        caret = " " * (len(number) + mark.column - 1 - start) + "^"
        return f"{number}{line[start : start + 140]}\n{caret}"

    def _indent(self, mark: Mark) -> str:
        """The blanks that the line at `mark` begins with."""
        line = self.lines[mark.line - 1] if mark.line <= len(self.lines) else ""
        return line[: len(line) - len(line.lstrip())]

    def invalid(self, mark: Mark, what: str, fix: str) -> Invalid:
        """The error for one place."""
        return Invalid(
            f"{self.name}, line {mark.line}, column {mark.column}: {what}", why="here:\n" + self.show(mark), fix=fix
        )

    def _guard(self, text: str) -> None:
        depth = aliases = 0
        for event in YAML(typ="safe", pure=True).parse(text):
            at = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
            if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                depth += 1
                if depth > MAX_DEPTH:
                    raise self.invalid(at, f"nested deeper than {MAX_DEPTH}", "write it flatter")
            elif isinstance(event, (MappingEndEvent, SequenceEndEvent)):
                depth -= 1
            elif isinstance(event, AliasEvent):
                aliases += 1
                if aliases > MAX_ALIASES:
                    raise self.invalid(at, f"more than {MAX_ALIASES} aliases", "write the values out")
            tag = str(getattr(event, "tag", None) or "")
            if isinstance(event, NodeEvent) and "python" in tag:
                raise self.invalid(at, f"tag {tag} is not allowed", "write plain YAML without tags")

    def _build(self, node: Node, path: Path, depth: int) -> Any:
        at = Mark(node.start_mark.line + 1, node.start_mark.column + 1)
        self._values[path] = at
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self.invalid(at, "the aliases unfold to too much", "write the values out")
        if isinstance(node, ScalarNode):
            return self._scalar(node, at)
        if isinstance(node, SequenceNode):
            return [self._build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, MappingNode)
        return dict(self._pairs(node, path, depth))

    def _pairs(self, node: MappingNode, path: Path, depth: int) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Mark] = {}
        for key_node, value_node in node.value:
            at = Mark(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, ScalarNode):
                raise self.invalid(at, "a key must be a word", "write `key: value`")
            key = str(key_node.value)
            if key == "<<":
                raise self.invalid(at, "merge keys (`<<`) are not read", "write the keys out")
            if key in seen:
                raise self.invalid(
                    at, f"key {key!r} stands twice, first in line {seen[key].line}", "keep one of the two"
                )
            seen[key] = self._keys[(*path, key)] = at
            yield key, self._build(value_node, (*path, key), depth + 1)

    def _scalar(self, node: ScalarNode, at: Mark) -> Any:
        text, kind = str(node.value), str(node.tag).rpartition(":")[2]
        try:
            match kind:
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0o", "0b") else 10)
                case "float":
                    return float(text.replace("_", ""))
                case "str" | "timestamp":
                    return text
        except ValueError:
            return text
        raise self.invalid(at, f"tag {node.tag} is not allowed", "write plain YAML without tags")
