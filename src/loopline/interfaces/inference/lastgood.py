"""What the data plane remembers by itself, so that it restarts with nothing else alive."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, LooplineError
from loopline.base.ids import file_digest
from loopline.base.log import logger
from loopline.serving.nouns import DesiredState, Variant
from loopline.serving.release import Watch
from loopline.serving.state import check, write_atomic
from loopline.store.blobs.protocol import Blobs

_log = logger(__name__)


@dataclass
class LastGood:
    """The newest desired state that was served, and what was found since."""

    signed: str | None = None
    public: str | None = None
    rolled_back: str | None = None
    reason: str | None = None
    salt: str | None = None
    """Of the release that was rolled back."""
    watch: dict[str, Any] | None = None
    totals: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> LastGood:
        """What was remembered; nothing where there is no (whole) memory."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            _log.error("%s cannot be read, starting without it: %s", path, error)
            return cls()

    def write(self, path: Path) -> None:
        """Remember."""
        write_atomic(path, json.dumps(dataclasses.asdict(self)).encode())

    @property
    def desired(self) -> DesiredState | None:
        """The state as the control plane signed it."""
        if self.signed is None:
            return None
        try:
            return check(self.signed.encode(), public=self.public)[0]
        except LooplineError as error:
            _log.error("the last good state is damaged: %s", error)
            return None

    @property
    def revived(self) -> Watch | None:
        """The evidence, as it stood."""
        return None if self.watch is None else Watch.from_doc(self.watch)

    def effective(self, desired: DesiredState) -> DesiredState:
        """`desired`, without the canary that was rolled back in this very release."""
        if self.rolled_back is None or self.salt != desired.salt:
            return desired
        gone = [v for v in desired.variants if v.role == "canary" and v.version == self.rolled_back]
        freed = sum(v.share for v in gone)
        kept: list[Variant] = []
        for variant in desired.variants:
            if variant.role == "champion":
                kept.append(dataclasses.replace(variant, share=variant.share + freed))
            elif variant not in gone:
                kept.append(variant)
        return dataclasses.replace(desired, variants=tuple(kept))


class Bundles:
    """The data plane's own copies of bundles, checked by digest."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self._folder, self._blobs = folder, blobs

    def fetch(self, digests: set[str]) -> dict[str, str]:
        """A local file for each digest.

        Raises
        ------
        LooplineError
            If one is neither here nor in the workspace, or is damaged.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        found = {}
        for digest in digests:
            path = self._folder / f"{digest}.bundle"
            if not path.exists():
                part = path.with_suffix(f".{os.getpid()}.part")
                shutil.copyfile(self._blobs.path(digest), part)
                part.replace(path)
            if file_digest(path) != digest:
                path.unlink()
                raise Invalid(
                    f"the bundle {digest[:12]} is damaged",
                    why="its bytes do not have that digest; the copy was removed",
                    fix="deploy again; the bundle is fetched anew",
                )
            found[digest] = str(path)
        return found

    def keep_only(self, digests: set[str]) -> None:
        """Forget all others."""
        for path in self._folder.glob("*.bundle"):
            if path.stem not in digests:
                path.unlink(missing_ok=True)
