"""Write down the tables of MLflow's SQLite database: `python tools/mlflow_schemas.py 3.17=DB 3.16=DB > FILE`.

Each DB is an empty one, as `mlflow db upgrade sqlite:///DB` of that version makes it. Statements that versions share
stand once.
"""

from __future__ import annotations

import json
import sqlite3
import sys


def main(given: list[str]) -> None:
    """Read each database, and print one JSON document."""
    statements: dict[str, int] = {}
    versions = {}
    for one in given:
        version, _, path = one.partition("=")
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            (revision,) = db.execute("SELECT version_num FROM alembic_version").fetchone()
            made = db.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL "
                " ORDER BY instr('table index view trigger', type), rowid"
            ).fetchall()
        places = [statements.setdefault(" ".join(row[0].split()), len(statements)) for row in made]
        versions[version] = {"revision": revision, "statements": places}
    print(json.dumps({"statements": list(statements), "versions": versions}, indent=0))


if __name__ == "__main__":
    main(sys.argv[1:])
