# SPDX-License-Identifier: PostgreSQL
"""Faults in rounds while writers work, and the ways to strike."""

import itertools
import os
import random
import signal
import time

import pytest
from checker import Load, check, read_topics, read_truth
from harness import WritersFailed, wait_until
from harness.process import descendants

ENDLESS = 10**7


class Missed(Exception):
    """A fault found nothing to strike."""


def lengths(short, full=50):
    """Rounds in make check, and in make check-long."""
    marks = [pytest.mark.long, pytest.mark.timeout(3600)]
    return pytest.mark.parametrize("rounds", [short, pytest.param(full, marks=marks)])


class Rounds:
    """Writers on a database with a running relay, struck again and again.

    database  the Database     kafka  its broker     topics  declared ones
    seed      decides what the writers write and how long a round lasts
    load      further options of Load
    """

    def __init__(self, database, kafka, topics, seed, **load):
        print(f"seed={seed}")
        self.database = database
        self.kafka = kafka
        self.topics = topics
        self.choose = random.Random(seed)
        options = {"dsn": database.dsn(), "transactions": ENDLESS, "writers": 4, "keys": 200, "rate": 800,
                   "async_share": 0.5, **load}
        self.load = Load(topics=tuple(topics), seed=seed, **options).prepare()
        self.running = None

    def __enter__(self):
        self.running = self.load.start()
        return self

    def __exit__(self, failure, *_):
        self.running.stop()
        if failure:
            self.running.pool.terminate()
        else:
            self.result = self.running.wait()

    def await_batches(self, count, timeout=60.0):
        """Wait until count further batches are delivered; the writers must be at work meanwhile."""
        self.database.await_batches(count, timeout, self.require_writers, interval=0.005)

    def require_writers(self):
        """Raise WritersFailed unless all writers are at work."""
        if self.running.running:
            return
        try:
            self.running.wait()
        except Exception as error:
            raise WritersFailed("a writer failed") from error
        raise WritersFailed("the writers ended before their time")

    def strike(self, rounds, blow):
        """Call blow(number) rounds times, each after a random number of delivered batches.

        Prints the longest time from a blow (before it) to the first batch delivered after it.
        """
        longest = 0.0
        for number in range(rounds):
            self.await_batches(self.choose.randint(1, 25))
            since = time.monotonic()
            blow(number)
            self.await_batches(1)
            longest = max(longest, time.monotonic() - since)
        print(f"blows={rounds} longest_interruption={longest:.1f}s")

    def check(self, timeout=90.0, destroyed=(), logs=None):
        """The checker's report on the topics, whose records are kept as `seen`.

        destroyed  records proven to have been delivered to deleted logs    logs  {topic: number of its log} if not 0
        """
        truth = [row for row in read_truth(self.database.dsn()) if row.topic in self.topics]
        expected = {row.id for row in truth} - {record.id for record in destroyed}
        seen = read_topics(self.kafka.bootstrap, self.topics, expected, timeout)
        self.seen = [record._replace(log=logs[record.topic]) for record in seen] if logs else seen
        report = check(truth, self.seen, destroyed)
        print(f"transactions={self.result.transactions} reconnects={self.result.reconnects} "
              f"seconds={self.result.seconds:.1f} {report.summary()}")
        return report


class Blows:
    """Ways to hurt a relay; each returns when the victim is gone."""

    def __init__(self, database, postgres):
        self.database = database
        self.postgres = postgres
        self.server_blows = itertools.count()

    def process(self, column):
        """A process id of relay_status: pid of the relay or sender_pid."""
        return wait_until(lambda: self.database.status()[column], 30, f"{column} of the relay", interval=0.01)

    def delivered(self):
        """Number of the last batch known delivered, -1 while the relay does not know."""
        found = self.database.value("select delivered_batch from outbox.relay_slot()")
        return -1 if found is None else found

    def kill(self, column, number=signal.SIGKILL):
        victim = self.process(column)
        os.kill(victim, number)
        wait_until(lambda: self.database.status()[column] != victim, 30, f"another {column} than {victim}",
                   interval=0.01)

    def kill_sender(self, _=None):
        self.kill("sender_pid")

    def kill_relay(self, _=None):
        """The postmaster takes this for a crash and restarts the server."""
        self.kill("pid")

    def kill_server(self, _=None):
        """Every process at once, or, every other time, the postmaster alone: its children must end by themselves."""
        if next(self.server_blows) % 2:
            children = descendants(self.postgres.pid)
            os.kill(self.postgres.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(is_alive, children)), 30, "the end of the postmaster's children")
        self.postgres.kill9()
        self.postgres.start()

    def restart_fast(self, _=None):
        self.postgres.restart("fast")

    def restart_immediately(self, _=None):
        self.postgres.restart("immediate")

    def restart_smartly(self, _=None):
        """A smart stop waits for the clients, so these are sent away."""
        self.postgres.child.send_signal(signal.SIGTERM)

        def has_stopped():
            for pid in self.postgres.processes(f" {self.database.name} 127.0.0.1"):
                os.kill(pid, signal.SIGTERM)
            return not self.postgres.running
        wait_until(has_stopped, 60, "the smart stop")
        self.postgres.start()

    def storm_with_reloads(self, _=None):
        """SIGHUP a hundred times, every tenth with a setting that has the sender started anew."""
        for number in range(100):
            if number % 10 == 0:
                self.postgres.configure(outbox__source=f"/storm/{number}")
            self.postgres.reload()

    def terminate(self, backend_type):
        """pg_terminate_backend of the relay or the launcher, and wait for its successor."""
        query = "select max(pid) from pg_stat_activity where backend_type = %s and (datname = %s or datname is null)"
        parameters = (backend_type, self.database.name)
        victim = self.database.wait_for(query, 30, parameters, backend_type)
        assert self.database.value("select pg_terminate_backend(%s)", (victim,))
        wait_until(lambda: self.database.value(query, parameters) not in (None, victim), 30,
                   f"a new {backend_type}")


def is_alive(pid):
    """True unless pid is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
