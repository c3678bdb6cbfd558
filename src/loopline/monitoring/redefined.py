"""Inputs that do not mean what they meant in the reference windows, because another model reads others.

A feature that a new version drops, adds or defines otherwise under the same name moves in the log, with nothing wrong
in the data. It is compared again once the reference holds no answers of the version before.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from loopline.features.beside import definitions
from loopline.registry.nouns import Release, Version
from loopline.serving.log import input_column
from loopline.training.nouns import Model
from loopline.workspace import Workspace


def redefined(ws: Workspace, endpoint: str, live: Iterable[str], since: datetime) -> frozenset[str]:
    """The log's columns that the versions of some time do not all read by one definition.

    Parameters
    ----------
    live : iterable of str
        Versions that answered in the window.
    since : datetime
        Where the reference begins: versions released after it, and those they followed, answered since.

    Returns
    -------
    frozenset of str
        Empty where all versions read the same. A version whose definitions are not kept says nothing.
    """
    versions = set(live)
    for release in ws.records.find(Release, name=endpoint, alias="production"):
        if release.at < since:
            break
        versions |= {release.version, *([release.previous] if release.previous else [])}
    if len(versions) < 2:
        return frozenset()
    sets = {found for version in versions if (found := _training_set(ws, version)) is not None}
    known = [read for one in sets if (read := definitions(ws, one)) is not None]
    names = {name for read in known for name in read}
    return frozenset(input_column(name) for name in names if len({read.get(name) for read in known}) > 1)


def _training_set(ws: Workspace, version: str) -> str | None:
    for known in ws.records.find(Version, limit=1, id=version):
        for model in ws.records.find(Model, limit=1, id=known.model):
            return model.training_set
    return None
