# SPDX-License-Identifier: PostgreSQL
"""A database that has the connection and does not answer (a stopped backend, as hung storage does): a service ends all the same."""

import contextlib
import os
import signal
import time

import pytest
from harness import wait_until


@contextlib.contextmanager
def stopped(database, which):
    """The service's backends stopped whose last statement is such a one."""
    backends = ("select pid from pg_stat_activity where datname = current_database()"
                f" and application_name = 'outbox consumer' and query {which}")
    pids = [row[0] for row in wait_until(lambda: database.execute(backends), 20, f"backends: {which}")]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("which, code, event", (("like '%dead_letter_counts%'", 0, None),
                                                ("not like '%dead_letter_counts%'", 1, "stop_timeout")),
                         ids=("main-thread", "member"))
def test_end_with_frozen_database(payment, which, code, event):
    """Watchdog: a backend that does not answer the main thread delays SIGTERM by 2 s, a member's by 15 s."""
    service = payment.start()
    with stopped(payment.database, which):
        if event:
            # The member is in libpq for good: it has taken the order and cannot tell.
            payment.order("stuck")
            payment.flush()
        turned = time.monotonic()
        wait_until(lambda: time.monotonic() > turned + 2.5, 20, "the next question to the stopped backend")
        begun = time.monotonic()
        assert service.stop(60) == code
        elapsed = time.monotonic() - begun
    print(f"ended after {elapsed:.1f} s, {begun - turned:.1f} s after the stop")
    assert (15 <= elapsed < 25) if event else elapsed < 12
    assert event is None or any(line["event"] == event for line in service.log_lines())
