"""A handle of a Delta table that Polars can scan wherever its folder lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable


class Handle(DeltaTable):
    """A Delta table whose files on disk are told by their paths.

    The library tells `a b` as `a%20b`, as in a URI, and Polars looks for a folder of that name.
    """

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        """Paths of the files on disk, or addresses of those that lie elsewhere."""
        return [unquote(uri) if uri.startswith("/") else uri for uri in super().file_uris(*args, **kwargs)]

    def kept(self) -> tuple[Path, ...]:
        """The files of this version on disk; worked out once, as a handle that is read from is never moved on."""
        known: tuple[int, tuple[Path, ...]] | None = self.__dict__.get("_kept")
        if known is None or known[0] != self.version():
            known = self.__dict__["_kept"] = self.version(), tuple(map(Path, self.file_uris()))
        return known[1]
