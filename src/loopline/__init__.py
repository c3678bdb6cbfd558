"""Loopline keeps machine-learning models under control for their whole life."""

from loopline.base.lazy import exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = exports(__name__, {"start_run": "training.tracking.client"})
