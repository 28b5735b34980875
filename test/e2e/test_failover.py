# SPDX-License-Identifier: PostgreSQL
"""Promotion of a synchronous standby, split brain, and commits that wait for a standby (F14, 1.6b, 1.6c)."""

import threading
import time

import psycopg
import pytest
from fault_rounds import Rounds, lengths
from harness import Database
from harness.copies import make_standby, make_synchronous

SEED = 40014
WRITERS = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"


class Pair:
    """A primary and its synchronous standby; the database is reached where it takes writes."""

    def __init__(self, database, copy_cluster):
        self.database = database
        self.copy_cluster = copy_cluster
        self.primary = database.cluster
        self.standby = None
        self.old = None
        self.add_standby()

    def add_standby(self):
        self.standby = self.copy_cluster(make_standby, self.primary)
        make_synchronous(self.primary, self.standby)

    def dsn(self):
        """The standby first: until it is promoted it refuses writers, who go on to the primary."""
        hosts = f"{self.standby.host},{self.primary.host}"
        return self.database.dsn(host=hosts, port=f"{self.standby.port},{self.primary.port}",
                                 target_session_attrs="read-write")

    def fail_over(self, split):
        """The standby becomes the primary; the old one is killed before, or stays up without its writers."""
        if not split:
            self.primary.kill9()
        self.standby.promote()
        if split:
            self.primary.execute(WRITERS)
        self.old, self.primary, self.standby = self.primary, self.standby, None
        self.old_database = Database(self.old, self.database.name)
        self.database.cluster = self.primary

    def require_old_stopped(self):
        """Let the old primary send what only it has: it must hold, and leave the new one alone."""
        self.old.configure(synchronous_standby_names=None)
        self.old.reload()
        self.old_database.wait_state("hold", 60)
        assert "another server was promoted" in self.old_database.status()["hold_reason"]
        disturbed = self.database.status()["recoveries"]
        assert disturbed <= 1
        return disturbed


@pytest.fixture
def pair(own_postgres, copy_cluster, kafka):
    primary = own_postgres()
    database = Database(primary, primary.create_database("orders"))
    database.start_relay()
    return Pair(database, copy_cluster)


@lengths(2)
def test_synchronous_standby_is_promoted(pair, kafka, unique, rounds):
    """F14: kill -9 of the primary, or split brain, under load: nothing lost, doubled, invented or out of order."""
    topic = pair.database.declare(unique("topic"))
    longest = 0.0
    for number in range(rounds):
        split = number % 2 == 1
        with Rounds(pair.database, kafka, [topic], SEED + number, dsn=pair.dsn(), rate=300) as running:
            running.await_batches(running.choose.randint(3, 20))
            since = time.monotonic()
            pair.fail_over(split)
            running.await_batches(1)
            longest = max(longest, time.monotonic() - since)
            running.await_batches(4)
            if split:
                pair.require_old_stopped()
                running.await_batches(3)
        running.check().require_ok()
        assert pair.database.status()["possibly_doubled"] == 0
        pair.old.remove()
        if number + 1 < rounds:
            pair.add_standby()
    print(f"promotions={rounds} longest_interruption={longest:.1f}s")


def commit_in_background(database, topic, key):
    """A commit that waits for the standby. Returns the thread, and a list of its ending."""
    ending = []

    def commit():
        try:
            database.emit(topic, key)
            ending.append("done")
        except psycopg.OperationalError as error:
            ending.append(error)
    thread = threading.Thread(target=commit)
    thread.start()
    database.wait_for("select count(*) = 1 from pg_stat_activity where wait_event = 'SyncRep'", 30)
    return thread, ending


def commit_here_only(database, topic, key):
    """A commit whose wait for the standby is cancelled: from then on it is visible, on the primary alone."""
    waiting, ending = commit_in_background(database, topic, key)
    database.execute("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
    waiting.join(30)
    assert ending == ["done"]


def require_unsent(database, kafka, topic, count):
    """The relay has seen what is there, waits, and Kafka has no more than count events."""
    database.wait_state("replicating")
    assert len(kafka.read_all(topic)) == count
    assert database.status()["state"] == "replicating"


def test_waiting_commits_are_not_sent(pair, kafka, topic_name):
    """1.6c: what waits for an absent standby is not sent, after a cancelled wait or kill -9 neither, until it is back."""
    database = pair.database
    topic = database.declare(topic_name)
    database.emit(topic, "both have it")
    kafka.wait_for_records(topic, 1)
    pair.standby.stop("immediate")
    commit_here_only(database, topic, "cancelled")
    require_unsent(database, kafka, topic, 1)

    killed, ending = commit_in_background(database, topic, "killed")
    pair.primary.kill9()
    killed.join(30)
    assert isinstance(ending[0], psycopg.OperationalError)
    pair.primary.start()
    assert database.value("select count(*) from outbox.event") == 3  # visible, though only here
    require_unsent(database, kafka, topic, 1)

    pair.standby.start()
    assert sorted(r.key() for r in kafka.wait_for_records(topic, 3)) == [b"both have it", b"cancelled", b"killed"]


def test_standby_is_removed_and_added(pair, kafka, topic_name):
    """1.6c, F14: a reload that takes the standby out ends the relay's wait, one that names it again begins it."""
    database = pair.database
    topic = database.declare(topic_name)
    pair.standby.stop("immediate")
    commit_here_only(database, topic, "first")
    require_unsent(database, kafka, topic, 0)
    pair.primary.configure(synchronous_standby_names=None)
    pair.primary.reload()
    kafka.wait_for_records(topic, 1)

    pair.primary.configure(synchronous_standby_names=f'"{pair.standby.name}"')
    pair.primary.reload()
    database.wait_for("select current_setting('synchronous_standby_names') <> ''")
    commit_here_only(database, topic, "second")
    require_unsent(database, kafka, topic, 1)
    pair.standby.start()
    kafka.wait_for_records(topic, 2)
    database.wait_state("idle")
