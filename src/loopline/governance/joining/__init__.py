"""Two workspaces become one: what the other lacks, in a parcel that is checked before anything of it counts."""

from loopline.base.lazy import exports

_HOMES = {
    "Receipt": "nouns",
    "Parcel": "parcel",
    "inventory": "verbs",
    "pack": "verbs",
    "receive": "verbs",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
