"""The control API over HTTP."""

from loopline.base.lazy import exports

_HOMES = {"Access": "guard", "Guard": "guard", "control_app": "control"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
