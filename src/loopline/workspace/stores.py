"""The doors of a workspace, each opened when it is first used."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.base import settings
from loopline.store.audit import Audit
from loopline.store.blobs.protocol import Blobs
from loopline.store.online.protocol import Online
from loopline.store.records.protocol import Records
from loopline.store.runs.protocol import RunLog
from loopline.store.runs.traces.protocol import TraceLog
from loopline.store.tables.protocol import Tables

if TYPE_CHECKING:
    from loopline.compute.pool import Pool
    from loopline.store.runs.artifacts import Artifacts


MARKER = "workspace.json"
STEPS_AT_ONCE = 1


@dataclass
class Stores:
    """The doors, opened when first used."""

    root: Path
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _open: dict[str, Any] = field(default_factory=dict)

    def _get(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._open:
                self._open[name] = make()
            return self._open[name]

    @property
    def blobs(self) -> Blobs:
        from loopline.store.blobs.local import LocalBlobs

        return self._get("blobs", lambda: LocalBlobs(self.root / "blobs"))  # type: ignore[no-any-return]

    @property
    def tables(self) -> Tables:
        from loopline.store.tables.delta import DeltaTables

        return self._get("tables", lambda: DeltaTables(self.root / "tables"))  # type: ignore[no-any-return]

    @property
    def records(self) -> Records:
        from loopline.store.records.sql import SqlRecords

        return self._get("records", lambda: SqlRecords.at(self.root / "records.db"))  # type: ignore[no-any-return]

    @property
    def online(self) -> Online:
        from loopline.store.online import at

        return self._get("online", lambda: at(self.root, workspace_id(self.root)))  # type: ignore[no-any-return]

    @property
    def artifacts(self) -> Artifacts:
        from loopline.store.blobs.local import LocalBlobs
        from loopline.store.runs.artifacts import Artifacts

        folder, durable = self.root / "artifacts", settings.run_log_durability() == "full"
        return self._get("artifacts", lambda: Artifacts(folder, LocalBlobs(folder), durable=durable))  # type: ignore[no-any-return]

    def mend_online(self) -> Path | None:
        """Set damaged online values aside, to be filled again; where they are now, or null where they are whole."""
        from loopline.store.online import mend

        with self._lock:
            away = mend(self.root)
            if away is not None and (store := self._open.pop("online", None)) is not None:
                store.close()
            return away

    @property
    def runs(self) -> RunLog:
        from loopline.store.runs.sqlite import SqliteRuns

        durability = settings.run_log_durability()
        return self._get("runs", lambda: SqliteRuns(self.root / "runs.db", durability=durability))  # type: ignore[no-any-return]

    @property
    def traces(self) -> TraceLog:
        from loopline.store.runs.traces.sqlite import SqliteTraces

        durability = settings.run_log_durability()
        return self._get("traces", lambda: SqliteTraces(self.root / "traces.db", durability=durability))  # type: ignore[no-any-return]

    @property
    def audit(self) -> Audit:
        return self._get("audit", lambda: Audit(self.records, self.root / "audit"))  # type: ignore[no-any-return]

    @property
    def compute(self) -> Pool:
        from loopline.compute import Pool

        return self._get("compute", lambda: Pool(self.root, workers=STEPS_AT_ONCE))  # type: ignore[no-any-return]

    def forget_audit(self) -> None:
        """Open the audit trail anew when it is next used: the workspace has another id."""
        with self._lock:
            self._open.pop("audit", None)

    def close(self) -> None:
        with self._lock:
            for name in ("compute", "records", "online", "runs", "traces", "artifacts"):
                store = self._open.pop(name, None)
                if store is not None:
                    store.close()
            self._open.clear()


def workspace_id(root: Path) -> str:
    """The id of the workspace in a folder."""
    return str(json.loads((root / MARKER).read_text())["id"])
