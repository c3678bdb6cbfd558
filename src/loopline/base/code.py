"""User code: loaded from a project folder, called with its own traceback kept."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from loopline.base.errors import Invalid, NotFound

PACKAGE = Path(__file__).parents[1]
_importing = threading.RLock()
"""One import at a time: a module is registered before its body ran, and no thread may meet it half made."""


class UserCodeError(Invalid):
    """The user's own function raised; `why` carries the user's traceback."""

    code = "invalid"


def load_module(project: Path, file: str) -> ModuleType:
    """Import `file` of a project; the same bytes are imported once per process.

    The project folder is importable meanwhile, so that its modules may import
    each other.
    """
    folder = Path(project).resolve()
    path = (folder / file).resolve()
    if folder not in path.parents:
        raise Invalid(
            f"{file} lies outside the project",
            why="a project only runs code of its own folder",
            fix=f"move it into {folder.name}/",
        )
    if not path.is_file():
        raise NotFound(
            f"{file} is not in the project {folder.name}",
            why="loop.yaml names it",
            fix=f"create {file}, or correct the name in loop.yaml",
        )
    source = path.read_bytes()
    mark = hashlib.sha256(str(path).encode() + source).hexdigest()[:16]
    name = f"_loopline_project_{mark}"
    with _importing:
        if name in sys.modules:
            return sys.modules[name]
        loader = _FromBytes(name, str(path), source)
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        try:
            with calling_user_code(file):
                loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module


class _FromBytes(SourceFileLoader):
    """Compiles the bytes that were read: a compiled file beside them is known by second and size alone."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def load_function(project: Path, ref: str) -> Callable[..., Any]:
    """The function that `file.py:name` names."""
    file, colon, name = ref.partition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise Invalid(
            f"{ref!r} does not name a function",
            why="code is named as `file.py:function`",
            fix="write for example train.py:fit",
        )
    function = getattr(load_module(project, file), name, None)
    if not callable(function):
        raise NotFound(
            f"{file} defines no function {name}",
            why=f"loop.yaml names {ref}",
            fix=f"define {name} in {file}, or correct the name",
        )
    return function  # type: ignore[no-any-return]


@contextmanager
def calling_user_code(ref: str) -> Iterator[None]:
    """Turn what user code raises into `UserCodeError`, keeping their traceback."""
    from loopline.base.errors import LooplineError

    try:
        yield
    except LooplineError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if PACKAGE not in Path(f.filename).parents and "importlib" not in f.filename]
        shown = "".join(traceback.format_list(own or frames)) + "".join(traceback.format_exception_only(error))
        raise UserCodeError(
            f"{ref} raised {type(error).__name__}: {error}",
            why="your code stopped here:\n" + shown.rstrip(),
            fix=f"mend {ref} and run again; nothing was recorded",
        ) from error
