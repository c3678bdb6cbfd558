"""The environment, read in one place."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Literal


def keys_folder() -> Path:
    """Where private keys live: outside every workspace.

    `LOOPLINE_KEYS`, else the user's configuration folder.
    """
    given = os.environ.get("LOOPLINE_KEYS")
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "loopline" / "keys"


def keep_keys_in(folder: Path) -> None:
    """Have this process, and those it starts, look for private keys in `folder`."""
    os.environ["LOOPLINE_KEYS"] = str(folder)


NAMELESS = "user:unknown"
"""Who acts where the system knows no name: not one person, but all of them."""


def actor_name() -> str:
    """Who acts when nobody says: `LOOPLINE_ACTOR`, else `user:<login>`, as the system knows the user; else `NAMELESS`.

    A container often sets no `USER`, and one that runs under a bare number has no login at all.
    """
    given = os.environ.get("LOOPLINE_ACTOR")
    if given:
        return given
    try:
        return f"user:{os.environ.get('USER') or os.environ.get('LOGNAME') or getpass.getuser()}"
    except (OSError, KeyError, ImportError):  # no variable names a login, and no account has this number
        return NAMELESS


def user_name() -> str:
    """The actor's name by itself, as runs carry it."""
    return actor_name().partition(":")[2] or NAMELESS.partition(":")[2]


def token() -> str | None:
    """What requests must carry where others can reach us (`LOOPLINE_TOKEN`)."""
    return os.environ.get("LOOPLINE_TOKEN") or None


def host_names() -> frozenset[str]:
    """Further names that servers here are reached by (`LOOPLINE_HOSTS`, separated by commas)."""
    return frozenset(name.strip().lower() for name in os.environ.get("LOOPLINE_HOSTS", "").split(",") if name.strip())


def secret(name: str) -> str | None:
    """A password or another credential that a declaration names, `${NAME}`; never kept."""
    return os.environ.get(name)


def online_url() -> str | None:
    """Where online values live, if not in the workspace (`LOOPLINE_ONLINE`, for example `redis://host:6379/0`)."""
    return os.environ.get("LOOPLINE_ONLINE") or None


def run_log_durability() -> Literal["normal", "full"]:
    """What a logged metric survives (`LOOPLINE_DURABILITY`): `full` a power cut too, else the death of any process."""
    return "full" if os.environ.get("LOOPLINE_DURABILITY") == "full" else "normal"


def tracking_uri() -> str | None:
    """Where runs go (`LOOPLINE_TRACKING_URI`): the address of a server, or the folder of a workspace."""
    return os.environ.get("LOOPLINE_TRACKING_URI") or None


def mlflow_credentials() -> tuple[str | None, str | None, str | None]:
    """Name, password and token for a server that runs are imported from, as MLflow's own client takes them."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return user or None, password or None, token or None


def spool_folder() -> Path | None:
    """Where runs wait to be delivered, if not in `.loopline/spool` (`LOOPLINE_SPOOL`)."""
    given = os.environ.get("LOOPLINE_SPOOL")
    return Path(given).expanduser().absolute() if given else None


def price_per_hour() -> float | None:
    """What an hour of this machine costs (`LOOPLINE_PRICE_PER_HOUR`); null where nobody said, or it is no number."""
    try:
        found = float(os.environ.get("LOOPLINE_PRICE_PER_HOUR", ""))
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None


def recorded_environment() -> dict[str, str]:
    """Variables that may change what a training gives: threads, devices, hashing. No others are ever recorded."""
    starts = ("CUDA_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "OPENBLAS_", "POLARS_", "RAYON_", "SLURM_JOB_", "TF_")
    names = ("CUBLAS_WORKSPACE_CONFIG", "LANG", "LC_ALL", "LOKY_MAX_CPU_COUNT", "PYTHONHASHSEED", "TZ")
    return {k: v for k, v in sorted(os.environ.items()) if k.startswith(starts) or k in names}


def named_values() -> dict[str, str]:
    """The whole environment, for the one who takes its secrets out of what is recorded."""
    return dict(os.environ)


def allows_unsafe_models() -> bool:
    """Whether this machine opens models that are pickles, if a trusted key signed them (`LOOPLINE_ALLOW_UNSAFE=1`)."""
    return os.environ.get("LOOPLINE_ALLOW_UNSAFE") == "1"


def bare_environment() -> dict[str, str]:
    """The environment for a process that runs foreign code: where Python and its libraries are, no secrets."""
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"OMP_NUM_THREADS": "1"}


def compute_place() -> str | None:
    """Where pipelines run their steps, whatever `loop.yaml` says (`LOOPLINE_COMPUTE`, for example `ray://head:10001`)."""
    return os.environ.get("LOOPLINE_COMPUTE") or None


def see_devices(numbers: list[int]) -> None:
    """Have libraries of this process see only these GPUs; without effect once one of them has looked."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(str(number) for number in numbers)


def headless() -> bool:
    """Whether a user interface should stay closed (`CI` or `NO_UI` is set)."""
    return bool(os.environ.get("CI") or os.environ.get("NO_UI"))


def debug() -> bool:
    """Whether tracebacks are wanted (`LOOPLINE_DEBUG`)."""
    return bool(os.environ.get("LOOPLINE_DEBUG"))


def interactive() -> bool:
    """Whether a person watches the error stream."""
    return sys.stderr.isatty()


def give_memory_back() -> None:
    """Have freed memory of this process, and of those it starts, return to the system soon.

    Polars' allocator keeps what it has freed for the next frame; one that holds a
    table for a year of days holds it several times over then. Half a second is kept: what is
    handed back at once is asked for again at once [a fifth of the CPU of a daily check].
    Without effect once Polars is loaded, and where the user has chosen otherwise.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:500,muzzy_decay_ms:0")


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that Loopline starts."""
    return {**os.environ, **extra}
