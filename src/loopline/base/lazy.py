"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package that loads its names lazily.

    So a declaration imports no library that only a verb needs:

        __getattr__, __dir__, __all__ = exports(__name__, {"draft": "drafting"})

    Nothing is kept: whoever replaces a function in its module is seen here too.

    Parameters
    ----------
    package : str
        The package's `__name__`.
    homes : mapping of str to str
        Public name to the module of the package that defines it.
    """

    def __getattr__(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home}"), name)

    def __dir__() -> list[str]:
        return sorted(homes)

    return __getattr__, __dir__, sorted(homes)
