# SPDX-License-Identifier: PostgreSQL
"""A relay under load behind the protocol proxy, which strikes its requests and answers one by one."""

import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from checker import Load, check_database
from harness import wait_until


class Struck:
    """A database with its relay and a writer; strikes hit the requests of its transactional id only."""

    def __init__(self, database, proxy, topic):
        self.database = database
        self.proxy = proxy
        self.topic = database.declare(topic)
        Load(database.dsn(), (topic,)).prepare()
        self.owner = database.transactional_id().encode()
        database.start_relay()
        self.connection = database.connect()
        self.halt = threading.Event()
        self.writer = threading.Thread(target=self.write, daemon=True)

    def write(self):
        with self.database.connect() as connection:
            for number in itertools.count():
                connection.execute("select checker.step(%s, %s, 50)", (self.topic, f"key-{number % 7}"), prepare=True)
                if self.halt.wait(0.02):
                    return

    def __enter__(self):
        self.writer.start()
        self.await_batches(2)
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.writer.join(30)
        self.connection.close()

    def counts(self):
        """(delivered batch, suspect transactions, recoveries) of the relay."""
        return self.connection.execute(
            "select coalesce(delivered_batch, -1), suspect_transactions, recoveries from outbox.relay_slot()"
        ).fetchone()

    def await_batches(self, count):
        before = self.counts()[0]
        wait_until(lambda: self.counts()[0] >= before + count, 90, f"{count} batches after {before}", interval=0.02)

    def suffer(self, api, side, action, error=0):
        """One case, until the relay goes on; returns (suspects, recoveries, seconds without a batch) of it."""
        _, suspects, recoveries = self.counts()
        # a starting relay looks at the cursor before it fences
        strike = self.proxy.strike(api, side, action, self.owner, 2 if api == "OffsetFetch" else 1, error)
        if api in ("InitProducerId", "OffsetFetch"):
            os.kill(wait_until(lambda: self.database.status()["sender_pid"], 30, "a sender"), signal.SIGKILL)
        assert strike.struck.wait(60), f"no {api} came"
        began = time.monotonic()
        self.await_batches(2)
        lasted = time.monotonic() - began
        if action == "hold":
            self.proxy.release(strike)
            self.await_batches(3)
        _, more_suspects, more_recoveries = self.counts()
        return more_suspects - suspects, more_recoveries - recoveries, lasted


def suffer_all(struck, cases):
    """The cases of each of the relays, one after another; the relays side by side.

    struck, cases  {name: Struck}, {name: [arguments of Struck.suffer]}
    Returns [(case, suspects, recoveries)] and prints how long each relay stood still.
    """
    def run(name):
        with struck[name] as one:
            return [(case, *one.suffer(*case)) for case in cases[name]]
    with ThreadPoolExecutor(len(struck)) as pool:
        outcomes = [outcome for ran in pool.map(run, struck) for outcome in ran]
    for case, suspects, recoveries, seconds in outcomes:
        print(*case, f"suspects={suspects} recoveries={recoveries} seconds={seconds:.1f}")
    return [(case, suspects, recoveries) for case, suspects, recoveries, _ in outcomes]


def require_unharmed(struck, kafka):
    """Nothing lost, doubled or out of order, and nobody had to help."""
    for one in struck.values():
        report = check_database(one.database.dsn(), kafka.bootstrap, [one.topic], 90).require_ok()
        print(one.topic, report.summary())
        assert one.database.status()["hold_reason"] is None
