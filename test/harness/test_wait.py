# SPDX-License-Identifier: PostgreSQL
"""What ends a wait before its time."""

import pytest

from harness import WaitTimeout, WritersFailed, wait_until


@pytest.mark.parametrize("error", [AssertionError, WaitTimeout, WritersFailed])
def test_what_cannot_heal_ends_the_wait_at_once(error):
    looks = []

    def probe():
        looks.append(1)
        raise error("for good")
    with pytest.raises(error, match="^for good$"):
        wait_until(probe, 5)
    assert len(looks) == 1


def test_what_may_heal_is_waited_for():
    looks = []

    def probe():
        looks.append(1)
        if len(looks) < 3:
            raise ConnectionError("not up yet")
        return "up"
    assert wait_until(probe, 5, interval=0.001) == "up"


def test_the_last_error_is_told():
    def probe():
        raise ConnectionError("not up yet")
    with pytest.raises(WaitTimeout, match="waited 0.01 s for the server; last error: ConnectionError: not up yet"):
        wait_until(probe, 0.01, "the server", interval=0.001)
