"""Steps that the tests run in other processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

from loopline.base.code import calling_user_code
from loopline.base.errors import FAMILIES


def echo(workspace, **args):
    return {"args": args, "workspace": str(workspace), "pid": os.getpid()}


def standing(workspace):
    group = Path("/proc/self/autogroup")
    return {"nice": os.nice(0), "session": group.read_text().strip() if group.exists() else None}


def shout(workspace):
    print("to the output")
    os.write(1, b"below python\n")
    print("to the errors", file=sys.stderr)
    return {}


def refuse(workspace, family):
    print("about to refuse")
    raise FAMILIES[family]("what", why="why", fix="fix")


def run_user_code(workspace):
    with calling_user_code("train.py:fit"):
        raise ZeroDivisionError("theirs")


def bug(workspace):
    return {}["missing"]


def give(workspace):
    return {"bad": object()}


def leave(workspace):
    sys.exit(3)


def vanish(workspace, how):
    os._exit(3) if how == "exit" else os.kill(os.getpid(), 9)


def sleep_with_a_child(workspace, pids):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(pids).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(60)
    return {}


def hold_the_interpreter(workspace, pids):
    """Nothing else in this process runs: no thread can notice that the caller is gone."""
    Path(pids).write_text(str(os.getpid()))
    sys.setswitchinterval(1000)
    while True:
        pass


KEPT = []


def hoard(workspace, rows):
    """Hold much memory for a while, and a little between it for good: the heap cannot shrink by itself."""
    held = [b"%d" % n * 2000 for n in range(rows)]
    KEPT.extend(held[::1000])
    return {"held": len(held)}


def resident(workspace):
    return {"bytes": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")}
