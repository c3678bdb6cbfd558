"""Logging: one named logger per module, quiet unless asked."""

from __future__ import annotations

import logging


def logger(name: str) -> logging.Logger:
    """The logger of a module; handlers belong to the interfaces."""
    return logging.getLogger(name)
