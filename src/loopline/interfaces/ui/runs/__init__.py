"""The pages of runs: the table, one run, several compared. They need a run log only, no project."""
