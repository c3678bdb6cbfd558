"""From a fitted model to what is served: the one door, whatever the framework."""

from __future__ import annotations

from loopline.training.packages.frameworks import package
from loopline.training.packages.packaged import Packaged

__all__ = ["Packaged", "package"]
