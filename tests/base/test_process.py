"""Who is judged dead, and who is not."""

from __future__ import annotations

import subprocess
import sys
import threading

from loopline.base.process import holder, is_gone

ASK = "from loopline.base.process import holder; print(holder(), flush=True); input()"


def test_a_process_is_gone_once_it_has_ended_even_before_anyone_collects_it():
    child = subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert not is_gone(name)
    child.kill()
    child.stdout.read()  # its end; the process is a zombie until wait()
    while not is_gone(name):
        pass
    child.wait()
    assert is_gone(name)


def test_a_number_that_was_given_to_another_process_is_not_the_one_that_died():
    host, pid, start, thread = holder().split("/")
    assert not is_gone(f"{host}/{pid}/{start}/{thread}")
    assert is_gone(f"{host}/{pid}/{int(start) - 1}/{thread}")


def test_of_other_hosts_and_other_names_nothing_is_said():
    _, pid, _, thread = holder().split("/")
    for name in (f"elsewhere/{pid}/1/{thread}", f"/{pid}/1/{thread}", "dead", "", "a/b", "a/b/c/d/e", f"x/{pid}/0/1"):
        assert not is_gone(name)


def test_threads_of_one_process_have_names_of_their_own():
    names = [holder()]
    thread = threading.Thread(target=lambda: names.append(holder()))
    thread.start()
    thread.join()
    assert len(set(names)) == 2
