# SPDX-License-Identifier: PostgreSQL
"""A member that freezes in the middle of a transaction, and one whose Kafka client does."""

import ctypes
import os
import pathlib
import signal

import pytest
from harness import wait_until

RECORDS = 6000
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


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
    """A zombie is fenced: what a frozen member has locked is free soon; another one goes on, nothing is doubled."""
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


def trace_thread(thread, *requests):
    """ptrace(2) of one thread; this process is its tracer."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    for request in requests:
        assert libc.ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())


@pytest.mark.long
def test_hung_client(hazard):
    """Known defects of librdkafka 2.0.2 are worked around: a client whose main thread loops
    for ever ends the process."""
    service = hazard.start()
    hazard.produce("first")
    hazard.flush()
    hazard.wait_taken(1)
    threads = [int(task.name) for task in pathlib.Path(f"/proc/{service.pid}/task").iterdir()
               if (task / "comm").read_text().strip() == "rdk:main"]
    assert threads  # the member's client, and that of who looks at single records
    for thread in threads:
        trace_thread(thread, PTRACE_SEIZE, PTRACE_INTERRUPT)

    def levels():
        return [line["level"] for line in service.log_lines() if line["event"] == "kafka_client_hung"]
    wait_until(levels, 120, "the silence to be noticed")
    # A traced thread keeps the end of its process from being seen.
    for thread in threads:
        trace_thread(thread, PTRACE_DETACH)
    wait_until(lambda: not service.running, 60, "the process to end")
    assert service.child.process.returncode == 1
    assert levels() == ["error"]
