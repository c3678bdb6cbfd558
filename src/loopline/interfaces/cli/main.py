"""The command line: find the command, run it, print its answer. It decides nothing."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
)

from loopline import __version__
from loopline.base import settings
from loopline.base.errors import LooplineError
from loopline.interfaces.cli.answer import FAILED, OK, REFUSED, USAGE, Answer, complain, show
from loopline.interfaces.cli.commands import (
    CARE,
    COMMANDS,
    DECIDE,
    GROUPS,
    HERE,
    LOOK,
    STAGES,
    START,
    Command,
)

ABOUT = "Loopline keeps machine-learning models under control for their whole life."
EXAMPLES = """Examples:
  loopline init churn
  loopline run --project churn
  loopline status --project churn --json"""
EXITS = {"invalid": USAGE, "not_found": USAGE, "denied": REFUSED, "conflict": FAILED, "unavailable": FAILED}
INTERRUPTED = 130
NEAREST = re.compile(r'Did you mean "?([^"?]+)"?\?')

DISK = {
    errno.ENOSPC: ("the disk is full", "free some space and run it again; what was committed is safe"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run it again; what was committed is safe"),
    errno.EROFS: ("the file system is read-only", "choose a folder you may write to"),
    errno.EACCES: ("permission was refused", "choose a folder you may write to, or change its owner"),
    errno.EPERM: ("permission was refused", "choose a folder you may write to, or change its owner"),
    errno.EADDRINUSE: ("the port is in use", "stop what uses it, or choose another with --port"),
    errno.ENOENT: ("there is no such file or folder", "correct the path, or make its folder first"),
    errno.ENOTDIR: ("a folder of this path is a file", "correct the path"),
    errno.EISDIR: ("this is a folder, not a file", "name a file in it"),
    errno.ENAMETOOLONG: ("this name is too long for the disk", "choose a shorter one"),
    errno.EMFILE: ("too many files are open", "raise the limit with `ulimit -n`"),
}


def app() -> App:
    """The application, every command still unloaded."""
    order = {name: Group(name, sort_key=at) for at, name in enumerate((START, LOOK, DECIDE, STAGES, CARE))}
    root = App(
        name="loopline",
        help=ABOUT,
        help_epilogue=EXAMPLES,
        help_format="plaintext",
        help_formatter="plain" if not sys.stdout.isatty() else "default",
        version=__version__,
        group_commands=Group("Options", sort_key=99),
        suppress_keyboard_interrupt=False,
    )
    groups: dict[str, App] = {"": root}
    for words, (about, heading) in GROUPS.items():
        parent, _, last = words.rpartition(" ")
        groups[words] = App(
            name=last,
            help=about,
            help_epilogue="",
            help_format="plaintext",
            version_flags=[],
            group=order[heading] if not parent else None,
        )
        groups[parent].command(groups[words])
    for at, command in enumerate(COMMANDS):
        parent, _, last = command.words.rpartition(" ")
        groups[parent].command(
            f"{HERE}.{command.place}",
            name=last,
            help=command.help,
            help_epilogue=f"Example: {command.example}",
            sort_key=at,
            group=None if parent else order[command.group],
        )
    return root


def run(tokens: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 ok, 1 failed, 2 usage or invalid, 3 refused by policy."""
    as_json = "--json" in tokens
    try:
        answer = app()(list(tokens), exit_on_error=False, print_error=False, result_action="return_value")
        return _printed(answer, as_json)
    except CycloptsError as error:
        complain("usage", *_usage(error, tokens), as_json=as_json)
        return USAGE
    except LooplineError as error:
        _trace()
        complain(error.code, error.what, error.why, error.fix, as_json=as_json)
        return FAILED if type(error).__name__ == "UserCodeError" else EXITS.get(error.code, FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except KeyboardInterrupt:
        complain("interrupted", "stopped by you", "", "run it again; it goes on where it was", as_json=as_json)
        return INTERRUPTED
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK
    except OSError as error:
        _trace()
        what, fix = DISK.get(error.errno or 0, (str(error), "loopline doctor"))
        complain("unavailable", f"{what}{_where(error)}", str(error), fix, as_json=as_json)
        return FAILED
    except Exception as error:
        _trace()
        last = traceback.extract_tb(error.__traceback__)[-1]
        complain(
            "bug",
            f"Loopline stopped on {type(error).__name__}: {error}",
            f"this is a fault of Loopline itself ({last.filename}:{last.lineno}); what was committed is safe",
            "run it again with LOOPLINE_DEBUG=1 and report what it prints",
            as_json=as_json,
        )
        return FAILED


def main() -> None:
    """Entry point of `loopline`."""
    settings.give_memory_back()
    raise SystemExit(run(sys.argv[1:]))


def _printed(answer: Any, as_json: bool) -> int:
    if not isinstance(answer, Answer):
        return OK
    show(answer, as_json=as_json)
    sys.stdout.flush()
    return answer.code


def _usage(error: CycloptsError, tokens: Sequence[str]) -> tuple[str, str, str]:
    """What, why and fix of a command line that was not understood."""
    what, _, rest = " ".join(str(error).split()).partition(". ")
    words = [t for t in tokens if not t.startswith("-")]
    typed = [c for c in COMMANDS if c.words.split() == words[: len(c.words.split())]]
    near = NEAREST.search(rest)
    if isinstance(error, UnknownCommandError):
        at = next((at for at, t in enumerate(words) if what.find(f'"{t}"') >= 0), 0)
        known = ["loopline", *words[:at]]
        if near is not None:
            return what, "there is no such command", " ".join([*known, near[1]])
        return what, rest, " ".join([*known, "--help"])
    if typed:
        best = max(typed, key=lambda c: len(c.words))
        return what, rest or _reason(error, best), f"{best.example}\nloopline {best.words} --help"
    return what, rest or "the command line was not understood", "loopline --help"


def _reason(error: CycloptsError, command: Command) -> str:
    """Why, where the error only says what."""
    if isinstance(error, UnknownOptionError):
        return f"`loopline {command.words}` has no such option"
    if isinstance(error, MissingArgumentError):
        return f"`loopline {command.words}` cannot do without it"
    if isinstance(error, CoercionError):
        return "it is read as what its help says"
    return f"`loopline {command.words}` was not understood"


def _where(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""


def _trace() -> None:
    if settings.debug():
        traceback.print_exc()


if __name__ == "__main__":
    main()
