"""Loopline keeps machine-learning models under control for their whole life."""

__version__ = "0.1.0"
