"""The command that serves runs to tracking clients."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from loopline.interfaces.cli.answer import Answer, note, show
from loopline.interfaces.cli.session import Beside, Json


def track(
    *,
    workspace: Annotated[Path, Parameter(help="Folder that holds the runs; made if there is none.")] = Path(
        ".loopline"
    ),
    port: Annotated[int, Parameter(help="Port of this server.")] = 8400,
    host: Annotated[
        str, Parameter(help="Address to listen on; others than loopback need LOOPLINE_TOKEN.")
    ] = "127.0.0.1",
    beside: Beside = False,
    json: Json = False,
) -> None:
    """Serve experiments, runs and artifacts to the stock mlflow client; no project is needed.

    People open the same address in a browser: `/runs` is the table of runs, with a page for each and comparisons.
    """
    from loopline.interfaces.track import track as serve

    def say(address: str) -> None:
        if json:
            show(Answer("", {"tracking": address, "port": port, "workspace": str(workspace)}), as_json=True)
        else:
            sys.stdout.write(f"runs of {workspace}  {address}\n\nnext: export MLFLOW_TRACKING_URI={address}\n")
        sys.stdout.flush()

    serve(workspace, port=port, host=host, beside=beside, say=say, warn=note)
