"""What every verb is given: stores, clock, actor. Permission and audit, once."""

from loopline.workspace.opened import CLOCK, FOLDER, Workspace, create_workspace, open_workspace
from loopline.workspace.stores import MARKER, Stores
from loopline.workspace.verbs import VERBS, VerbInfo, authorise, flow, parameters, query, recorded, verb

__all__ = [
    "CLOCK",
    "FOLDER",
    "MARKER",
    "VERBS",
    "Stores",
    "VerbInfo",
    "Workspace",
    "authorise",
    "create_workspace",
    "flow",
    "open_workspace",
    "parameters",
    "query",
    "recorded",
    "verb",
]
