"""Ids, hashing, errors, clock, settings, specs. Nothing here knows a store."""
