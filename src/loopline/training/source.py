"""The text of the code that a training ran, kept so that the model can be made again.

Files of the closure as they are, comments included: nothing is taken out, so a secret that stands in a recipe is kept
with it. Data files that code opens by itself are no part of it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from loopline.base.errors import Invalid
from loopline.base.ids import canonical, digest
from loopline.base.log import logger
from loopline.training.cache import Closure

log = logger(__name__)


def packed(project: Path, code: Closure) -> bytes | None:
    """The files of a closure as JSON: name to `{"text": ...}`, or `{"base64": ...}` where one is no UTF-8.

    Null where one changed since the closure was read.
    """
    folder = Path(project).resolve()
    files: dict[str, dict[str, str]] = {}
    for name, wanted in code.sources.items():
        try:
            data = (folder / name).read_bytes()
        except OSError:
            data = b""
        if digest(data) != wanted:
            log.warning("%s changed while it was trained with: the text of the code is not kept", name)
            return None
        try:
            files[name] = {"text": data.decode()}
        except UnicodeDecodeError:
            files[name] = {"base64": base64.b64encode(data).decode()}
    return canonical({"files": files})


def unfolded(data: bytes, folder: Path) -> list[str]:
    """Write the files of `packed` below a folder; their names."""
    top = Path(folder).resolve()
    files = json.loads(data)["files"]
    for name, kept in files.items():
        path = (top / name).resolve()
        if top not in path.parents:
            raise Invalid(
                f"{name} lies outside the project", why="code is written below one folder", fix="do not run it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kept["text"].encode() if "text" in kept else base64.b64decode(kept["base64"]))
    return sorted(files)
