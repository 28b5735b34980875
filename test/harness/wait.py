# SPDX-License-Identifier: PostgreSQL
"""Waiting with a deadline; the only place of the tests that sleeps."""

import time


class WaitTimeout(AssertionError):
    """What was waited for did not happen in time."""


class WritersFailed(Exception):
    """The load that a test waits beside has ended or gone wrong: waiting longer is of no use."""


def wait_until(probe, timeout=30.0, what="the condition", interval=0.05):
    """Call probe() until it returns something true, and return that.

    An exception out of probe counts as "not yet"; the last one is named when
    timeout (seconds) has passed and WaitTimeout is raised. A failed assertion and
    WritersFailed end the wait at once.
    """
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            found = probe()
            if found:
                return found
            last = f"last answer: {found!r}"
        except (AssertionError, WritersFailed):
            raise
        except Exception as error:  # the thing waited for may not be up yet
            last = f"last error: {type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise WaitTimeout(f"waited {timeout:g} s for {what}; {last}")
        time.sleep(interval)
