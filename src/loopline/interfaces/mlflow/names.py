"""Which names and lengths the protocol knows."""

from __future__ import annotations

import functools
import posixpath
import re
import secrets
import unicodedata

from loopline.interfaces.mlflow.errors import invalid
from loopline.store.runs.artifacts import clean

KEY, PARAM, TAG, EXPERIMENT, EXPERIMENT_TAG = 250, 6_000, 8_000, 500, 20_000
DATASET, DIGEST, DATASET_SCHEMA, DATASET_SOURCE, DATASET_PROFILE = 500, 36, 1_048_575, 65_535, 16_777_215
INPUT_TAG_KEY, INPUT_TAG = 255, 500
METRICS_AT_ONCE, PARAMS_AT_ONCE, TAGS_AT_ONCE, ALL_AT_ONCE = 1_000, 100, 100, 1_000
RUNS_A_PAGE, EXPERIMENTS_A_PAGE, MODELS_A_PAGE = 50_000, 50_000, 1_000
RUN = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_KEY = re.compile(r"[/\w.\- :]*")
_LOCATION = re.compile(r"[^\x00-\x20\x7f]+")
_OWNED = re.compile(
    r"(?:.*?/)?(?P<owner>[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|m-[0-9a-f]{32}|tr-[0-9a-f]{32})"
    r"/artifacts(?:/(?P<path>.*))?",
    re.DOTALL,
)
"""A run's id, as clients make them or with dashes as trainings have it, a model's or a trace's."""


@functools.lru_cache(maxsize=8192)
def require_key(name: str, place: str = "key") -> str:
    """The key of a metric, a param or a tag, checked."""
    if not _KEY.fullmatch(name):
        raise invalid(
            f"Invalid value {_shown(name)} for parameter '{place}' supplied: Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(("..", "/")):
        raise invalid(
            f"Invalid value {_shown(name)} for parameter '{place}' supplied: Names may be treated as files in certain "
            f"cases, and must not resolve to other names when treated as such. This name would resolve to '{plain}'"
        )
    if len(name) > KEY:
        raise invalid(f"'{place}' exceeds the maximum length of {KEY} characters")
    return name


def require_length(text: str, most: int, place: str) -> str:
    """`text`, unless it is too long."""
    if len(text) > most:
        raise invalid(f"'{place}' exceeds the maximum length of {most} characters")
    return text


_MANNERS = ("brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "kind", "lively", "merry", "swift")
_ANIMALS = ("badger", "crane", "dolphin", "falcon", "heron", "ibex", "lynx", "marten", "otter", "owl", "raven", "seal")


def made_up() -> str:
    """A name for a run that was given none."""
    return f"{secrets.choice(_MANNERS)}-{secrets.choice(_ANIMALS)}-{secrets.randbelow(1000)}"


def require_experiment(name: str) -> str:
    """The name of an experiment, checked."""
    require_length(name, EXPERIMENT, "name")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise invalid(f"Invalid experiment name: {_shown(name)}. It holds a control character.")
    return name


def require_location(given: str | None) -> str | None:
    """Where an experiment's artifacts go, if anywhere but here."""
    if not given:
        return None
    if given.startswith("runs:") or not _LOCATION.fullmatch(given) or "?" in given or "#" in given or ".." in given:
        raise invalid(f"Invalid artifact location {_shown(given)}: it must be the URI of a folder.")
    return require_length(given, 500, "artifact_location")


def require_run(given: str) -> str:
    """The id of a run, checked for its shape."""
    if not RUN.fullmatch(given):
        raise invalid(f"Invalid value {_shown(given)} for parameter 'run_id' supplied.")
    return given


def address(given: str) -> tuple[str, str]:
    """Owner and path of an address, checked; the path is empty for the top."""
    whole = clean(given.rstrip("/")) if given else ""
    found = _OWNED.fullmatch(whole)
    if found is None:
        raise invalid(
            f"Invalid path {given[:200]!r}: artifacts lie at <experiment>/<run>/artifacts/<path> or "
            "<experiment>/models/<model>/artifacts/<path>."
        )
    return found["owner"], found["path"] or ""


def require_page(given: int | None, most: int, usual: int) -> int:
    """How many a page may have."""
    if given is None:
        return usual
    if not 1 <= given <= most:
        raise invalid(
            f"Invalid value {given} for parameter 'max_results' supplied: "
            f"It must be a positive integer, at most {most}."
        )
    return given


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "...")
