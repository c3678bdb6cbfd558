"""The inference server: a supervisor, its workers and a committer; runs with nothing else alive."""
