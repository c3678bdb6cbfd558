"""Offline runs of W&B: `wandb/offline-run-*`, each with its record log and its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopline.base.errors import Invalid, LooplineError
from loopline.base.ids import content_id
from loopline.store.runs.protocol import Experiment, LoggedModel, Point, Run
from loopline.training.exchange.folders import Fenced, require_folder
from loopline.training.exchange.nouns import Offered, OfferedName, OfferedVersion, Series
from loopline.training.exchange.wandb_history import History

UNNAMED = "uncategorized"
"""The project of runs that name none, as W&B calls it."""
STARTS = ("offline-run-", "run-")


class WandbFolder:
    """Folders of runs that were written offline. A project is an experiment; a run keeps its id in a tag.

    A log that breaks off keeps what is before the break. A run without an end is KILLED. Values that are no numbers
    stand in the files `wandb/other.jsonl` and `wandb/summary.json`; links in `files` are followed inside the source.
    """

    kind = "wandb folder"

    def __init__(self, root: Path, *others: Path) -> None:
        self.root, self.told = require_folder(root, "the history of W&B"), list[str]()
        self._fence = Fenced(self.root, *others)
        self._runs: dict[str, tuple[Run, list[tuple[Path, Path]]]] = {}
        self._open: tuple[str, History] | None = None
        logs = list(self._logs())
        if not logs:
            raise Invalid(
                f"{root} holds no run of W&B",
                why="there is no offline-run-*/run-*.wandb in it",
                fix="name the wandb folder, or one run of it",
            )
        self._look(logs)

    def _logs(self) -> Iterator[tuple[Path, Path]]:
        """Folder and log of each run; links, as `latest-run` is one, are none."""
        for folder in (self.root, *_folders(self.root), *_folders(self.root / "wandb")):
            if folder == self.root or folder.name.startswith(STARTS):
                for path in sorted(folder.iterdir()):
                    name = path.name
                    if name.startswith("run-") and name.endswith(".wandb") and path.is_file() and not path.is_symlink():
                        yield folder, path

    def _look(self, logs: list[tuple[Path, Path]]) -> None:
        """Read who the runs are; several logs of one id are one run that was resumed."""
        by_id: dict[tuple[str, str, str], list[tuple[Path, Path]]] = {}
        for folder, path in logs:
            try:
                found = History()
                found.read(path)
            except (LooplineError, OSError) as error:
                self.told.append(f"{path}: {getattr(error, 'what', error)}")
                continue
            if not found.id:
                self.told.append(f"{path} breaks off before it says which run it is")
                continue
            by_id.setdefault((found.entity, found.project, found.id), []).append((folder, path))
        for (entity, project, id), places in by_id.items():
            history = _read(places)
            run = _run(history, content_id({"wandb": [entity, project, id]})[:32])
            self._runs[run.id] = run, places
            if not history.whole:
                self.told.append(f"records of the run {id} are left out: they are not understood")
            if history.artifacts:
                self.told.append(
                    f"{history.artifacts} artifacts that the run {id} logged are left out: W&B's cache has them"
                )

    def experiments(self) -> list[Experiment]:
        """A project each."""
        first: dict[str, int] = {}
        for run, _ in self._runs.values():
            first[run.experiment] = min(first.get(run.experiment, 1 << 62), run.start_ms or 0)
        return [Experiment(name, name, None, "active", at, at) for name, at in sorted(first.items())]

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        """Runs of a project, in the order in which they began."""
        found = [run for run, _ in self._runs.values() if run.experiment == experiment.id]
        yield from sorted(found, key=lambda run: (run.start_ms or 0, run.id))

    def series(self, run: Run) -> Iterator[Series]:
        """Numbers of the steps and of the summary, and of the machine as `system/...`."""
        yield from self._history(run).series.values()

    def measured(self, run: Run) -> Iterator[Point]:
        """W&B has no logged models."""
        return iter(())

    def models(self, experiment: Experiment) -> Iterator[LoggedModel]:
        """W&B has no logged models."""
        return iter(())

    def left(self, experiment: Experiment) -> Iterator[str]:
        """Nothing."""
        return iter(())

    def files(self, of: Run | LoggedModel) -> Iterator[Offered]:
        """What lies in `files`, and what no metric can hold."""
        assert isinstance(of, Run)
        history = self._history(of)
        for name, data in _extra(history).items():
            yield Offered(name, len(data), lambda data=data: iter((data,)))  # type: ignore[misc]
        latest: dict[str, Offered] = {}
        for folder, _ in self._runs[of.id][1]:
            if (folder / "files").is_dir() and not (folder / "files").is_symlink():
                latest |= {file.path: file for file in self._fence.files(folder / "files", self.told)}
        if history.output and "output.log" not in latest:
            data = "".join(history.output).encode()
            latest["output.log"] = Offered("output.log", len(data), lambda: iter((data,)))
        yield from latest.values()

    def registered(self) -> Iterator[OfferedName]:
        """None: W&B keeps its registry on its server."""
        return iter(())

    def version_files(self, of: OfferedVersion) -> Iterator[Offered]:
        """None."""
        return iter(())

    def close(self) -> None:
        """Nothing is open."""

    def _history(self, run: Run) -> History:
        if self._open is None or self._open[0] != run.id:
            self._open = run.id, _read(self._runs[run.id][1])
        return self._open[1]


def _read(places: list[tuple[Path, Path]]) -> History:
    found = History()
    for _, path in places:
        found.read(path)
    found.last_values()
    return found


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))


def _run(of: History, id: str) -> Run:
    ended = of.exit_code is not None
    tags = {
        "wandb.run_id": of.id, "wandb.entity": of.entity, "wandb.project": of.project, "wandb.group": of.group,
        "wandb.job_type": of.job, "wandb.sweep": of.sweep, "wandb.host": of.host, "wandb.tags": ",".join(of.labels),
        "mlflow.note.content": of.notes, "mlflow.source.name": of.program, "mlflow.source.git.commit": of.commit,
        "mlflow.source.git.repoURL": of.remote, "mlflow.user": of.user,
        **{f"wandb.{name}": value for name, value in of.environment.items()},
    }  # fmt: skip
    return Run(
        id=id,
        experiment=of.project or UNNAMED,
        name=of.name or of.id,
        user=of.user or of.entity,
        status="KILLED" if not ended else "FINISHED" if of.exit_code == 0 else "FAILED",
        stage="active",
        start_ms=of.started_ms or 0,
        end_ms=of.last_ms,
        artifacts="",
        metrics=(),
        params=_flat(of.config),
        tags={key: value for key, value in tags.items() if value},
    )


def _flat(config: dict[str, Any], start: str = "") -> dict[str, str]:
    """Params by dotted name; what is no text is written as JSON."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if not start and key == "_wandb":
            continue
        if isinstance(value, dict) and value and start.count(".") < 20:
            found |= _flat(value, f"{start}{key}.")
        else:
            found[f"{start}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def _extra(of: History) -> dict[str, bytes]:
    """What no metric can hold."""
    found = {}
    if of.summary:
        found["wandb/summary.json"] = json.dumps(of.summed_up(), indent=1, sort_keys=True).encode()
    if of.others:
        found["wandb/other.jsonl"] = "".join(json.dumps(row) + "\n" for row in of.others).encode()
    if of.alerts:
        found["wandb/alerts.txt"] = "".join(line + "\n" for line in of.alerts).encode()
    return found
