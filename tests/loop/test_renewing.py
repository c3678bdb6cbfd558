"""A lease is kept for as long as a block runs, also past a moment in which it cannot be renewed."""

import threading

from loopline.base.errors import Unavailable
from loopline.loop.renewing import Renewing


def test_a_renewal_that_is_refused_is_done_again_and_says_nothing(capfd) -> None:
    asked, again = [], threading.Event()

    def renew() -> None:
        asked.append(1)
        if len(asked) < 3:
            raise Unavailable("the records cannot be used", why="the disk is full", fix="free some space")
        again.set()

    with Renewing(renew, lease_s=0.03):
        assert again.wait(20)
    count = len(asked)
    assert capfd.readouterr() == ("", "")
    threading.Event().wait(0.05)
    assert len(asked) == count
