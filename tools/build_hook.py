"""Build hook: a wheel and an sdist contain the JavaScript of the pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AssetsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Fetches the files before they are packed; an editable install has them by `make`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files."""
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "tools"))
        import assets

        assets.fetch(Path(self.root))
