"""A handle of a Delta table that Polars can scan wherever its folder lies."""

from __future__ import annotations

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
