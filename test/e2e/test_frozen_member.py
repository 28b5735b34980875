# SPDX-License-Identifier: PostgreSQL
"""A member that freezes in the middle of a transaction."""

import os
import signal

from harness import wait_until

RECORDS = 6000


def is_stuck(hazard):
    """Is the one member's session in a transaction that does not move?"""
    query = ("select pid, state_change from pg_stat_activity where datname = current_database()"
             " and application_name = 'outbox consumer' and state = 'idle in transaction'")
    first = hazard.database.execute(query)
    return first != [] and all(hazard.database.execute(query) == first for _ in range(20))


def freeze_in_transaction(hazard, service):
    """SIGSTOP between the two trips of a batch."""
    def freeze():
        os.kill(service.pid, signal.SIGSTOP)
        if is_stuck(hazard):
            return True
        os.kill(service.pid, signal.SIGCONT)
        return False
    wait_until(freeze, 60, "the member to be frozen in a transaction", interval=0.003)


def test_frozen_in_a_transaction(hazard):
    """Issue 5, "fences zombies": what a frozen member has locked is free soon; another one goes on, nothing is doubled."""
    for n in range(RECORDS):
        hazard.produce(f"{n}", key=f"{n % 7}")
    hazard.flush()
    frozen = hazard.start(batch_max=1)
    freeze_in_transaction(hazard, frozen)
    done = len(hazard.taken())
    assert done < RECORDS
    hazard.start()
    hazard.wait_taken(RECORDS)
    os.kill(frozen.pid, signal.SIGCONT)
    wait_until(lambda: frozen.request("GET", "/readyz")[0] == 200, 60, "the frozen member to be back")
    assert hazard.taken() == [f"{n}" for n in range(RECORDS)]
    assert hazard.database.value("select count(*) from outbox.dead_letter") == 0
    assert frozen.stop() == 0
