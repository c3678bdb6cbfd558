"""User code: loaded from a project folder, called with its own traceback kept."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
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

    The project folder is importable, so that its modules may import each other. They are
    imported anew when one of them has changed, and give way to modules of the same names
    when another project's code is loaded.
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
            why="it is where the code is said to be",
            fix=f"create {file}, or correct the name where it is written: loop.yaml or the command line",
        )
    source = path.read_bytes()
    mark = hashlib.sha256(str(path).encode() + source).hexdigest()[:16]
    name = f"_loopline_project_{mark}"
    with _importing:
        _make_way(folder)
        if name in sys.modules:
            return sys.modules[name]
        loader = _FromBytes(name, str(path), source)
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with calling_user_code(file):
                loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        finally:
            _remember_new()
        return module


_imported: dict[str, tuple[Path, str]] = {}
"""Modules that came from project folders: their file, and the digest it had."""


_folders: set[Path] = set()
"""Projects whose code was loaded; functions may import more of it when they are called."""

_looked_at: dict[str, object] = {}
"""What `sys.modules` held when it was last looked through: there are thousands, and few are new."""


def _make_way(folder: Path) -> None:
    """Have names mean what stands in `folder`: what changed there, and namesakes of other projects, are forgotten."""
    if sys.path[:1] != [str(folder)]:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        sys.path.insert(0, str(folder))
    if folder not in _folders:
        for name in _remember({folder}, sys.modules.copy()):
            _looked_at.pop(name, None)
        _folders.add(folder)
        if _finder not in sys.path_hooks:
            sys.path_hooks.insert(0, _finder)
        for known in [known for known in sys.path_importer_cache if _stands_in(known, folder)]:
            del sys.path_importer_cache[known]
    _remember_new()
    mine = {name: kept for name, kept in _imported.items() if _stands_in(str(kept[0]), folder)}
    stale = set[str]()
    if any(not file.is_file() or _digest(file) != mark for file, mark in mine.values()):
        stale |= mine.keys()
    here = {entry.name for entry in folder.iterdir()}
    for name in _imported.keys() - mine.keys():
        top = name.partition(".")[0]
        if (f"{top}.py" in here and (folder / f"{top}.py").is_file()) or (top in here and (folder / top).is_dir()):
            stale.add(name)
    for name in stale:
        sys.modules.pop(name, None)
        _looked_at.pop(name, None)
        del _imported[name]
    if stale:
        importlib.invalidate_caches()


def _remember_new() -> None:
    """Note what was imported from any project since this was done last."""
    global _looked_at
    now: dict[str, object] = dict(sys.modules)
    gone = _remember(_folders, {name: module for name, module in now.items() if _looked_at.get(name) is not module})
    _looked_at = {name: module for name, module in now.items() if name not in gone} if gone else now


def _remember(folders: Set[Path], modules: Mapping[str, object]) -> set[str]:
    """Note those of the modules that stand in the folders, but not in an environment inside one.

    Returns the names of those whose file is not there.
    """
    starts, gone = tuple(f"{folder}{os.sep}" for folder in folders), set()
    for name, module in modules.items():
        place = getattr(module, "__file__", None)
        if not isinstance(place, str) or not place.startswith(starts) or "site-packages" in place:
            continue
        file = Path(place)
        if not file.is_file():
            gone.add(name)
        elif name not in _imported:
            _imported[name] = file, _digest(file)
    return gone


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


class _FromSource(SourceFileLoader):
    """Compiles what stands there, and leaves nothing beside it.

    A compiled file is known by second and size alone, and would be one more file in the user's folder.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _finder(path: str) -> FileFinder:
    """Finds modules in the folders of projects; environments inside them are as anywhere."""
    if not any(_stands_in(path, folder) for folder in _folders):
        raise ImportError(f"{path} is no folder of a project")
    return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_FromSource, SOURCE_SUFFIXES))


def _stands_in(place: str, folder: Path) -> bool:
    return f"{place}{os.sep}".startswith(f"{folder}{os.sep}") and "site-packages" not in Path(place).parts


class _FromBytes(SourceFileLoader):
    """Compiles the bytes that were read."""

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
            why=f"{ref} is asked for",
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
