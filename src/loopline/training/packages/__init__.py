"""Packages: from what a recipe returns to what is shipped, one module per framework.

ONNX is the default. Where a conversion is missing or wrong the model ships in a
runtime of its own, named in the bundle with the reason.
"""

from loopline.base.lazy import exports

_HOMES = {
    "Packaged": "packaged",
    "Trust": "trust",
    "choose": "choosing",
    "package": "frameworks",
    "trust_of": "trust",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
