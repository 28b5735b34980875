# SPDX-License-Identifier: PostgreSQL
"""The event ring and the batch log under load: bounded on disk, no dead rows, nobody waits, nothing is lost."""

import random
import subprocess
import threading

import pytest
from harness import wait_until

PAYLOAD = random.Random(1).randbytes(1500)  # neither compressed nor moved to the TOAST table
LEAVES = 8

SIZE = "select sum(pg_table_size(format('outbox.event_%s', n)::regclass))::bigint from generate_series(0, 7) n"
USED = "select count(*) from generate_series(0, 7) n where pg_relation_size(format('outbox.event_%s', n)::regclass) > 0"


@pytest.fixture
def ring(postgres, relay):
    """The relay's database with a ring that moves on fast."""
    postgres.configure(outbox__retention="1s", outbox__segment_size="1MB")
    postgres.reload()
    return relay


class Writer:
    """Emits in a thread, never waiting for a lock, at most 3 MB a second, until stopped; counts what was committed."""

    events = 20  # of a transaction

    def __init__(self, database, topic):
        self.database = database
        self.topic = topic
        self.committed = 0
        self.error = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with self.database.connect() as connection:
                connection.execute("set lock_timeout = '100ms'")
                while not self.stopping.wait(0.01):
                    connection.execute(
                        "select count(outbox.emit_bytes(%s, convert_to((%s + n)::text, 'UTF8'), 'T', %s))"
                        " from generate_series(1, %s) n",
                        (self.topic, self.committed, PAYLOAD, self.events),
                    )
                    self.committed += self.events
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
        if self.error:
            raise self.error


def rotations(database):
    return database.status()["rotations"]


def await_rotations(database, count, timeout=60):
    goal = rotations(database) + count
    wait_until(lambda: rotations(database) >= goal, timeout, f"{count} rotations")


def require_all_once(kafka, topic, committed):
    """Every committed event, once, is in the topic."""
    keys = sorted(int(record.key()) for record in kafka.wait_for_records(topic, committed, 120))
    assert keys == list(range(1, committed + 1))


def start_dump(database):
    """A pg_dump nobody reads from: it stops in the middle, holding its locks."""
    program = database.cluster.bindir / "pg_dump"
    return subprocess.Popen([program, "-d", database.dsn()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


DUMP_HOLDS = """
select count(*) > 0 from pg_locks l join pg_stat_activity a using (pid)
where a.application_name = 'pg_dump' and l.relation::regclass::text like 'outbox.event\\__' and l.granted
"""


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.long)])
def test_readers_hold_the_leaves(ring, kafka, topic, rounds):
    """Rotation under load: with pg_dump and an idle reader on the leaves emit waits for no lock; space comes back later."""
    with Writer(ring, topic) as writer, ring.connect(autocommit=False) as reader:
        await_rotations(ring, 1)
        assert ring.status()["rotations_refused"] == 0
        reader.execute("select count(*) from outbox.event").fetchone()
        dump = start_dump(ring)
        try:
            ring.wait_for(DUMP_HOLDS, 60, what="pg_dump to hold a leaf")
            wait_until(lambda: ring.status()["rotations_refused"] >= 3, 60, "rotations to be refused")
            ring.wait_for(f"select ({USED}) = 8", 60, what="every leaf to be in use")
            reader.rollback()
            refused = ring.status()["rotations_refused"]
            wait_until(lambda: ring.status()["rotations_refused"] > refused, 60, "pg_dump alone to hold the ring")
        finally:
            dump.kill()
            dump.communicate()
        await_rotations(ring, rounds * LEAVES, rounds * 60)
        assert ring.value(SIZE) < writer.committed * len(PAYLOAD)
    ring.wait_for(f"select ({USED}) <= 2", 60, what="the ring to be emptied")
    require_all_once(kafka, topic, writer.committed)


def test_old_snapshot_emits_after_the_ring_went_round(ring, kafka, topic_name):
    """A snapshot older than every leaf's present content: its event goes to the current leaf and arrives."""
    topic, other = ring.declare(topic_name, 1), ring.declare(f"{topic_name}.other", 1)
    ring.emit(other, "0")
    with ring.connect(autocommit=False) as old:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        with Writer(ring, other):
            await_rotations(ring, LEAVES + 2)
            old.execute("select outbox.emit(%s, 'old', 'T', '{}')", (topic,))
            await_rotations(ring, 2)
            old.commit()
            await_rotations(ring, LEAVES)
    assert [record.key() for record in kafka.wait_for_records(topic, 1)] == [b"old"]


def test_full_ring_grows_and_keeps_what_is_young(postgres, relay, kafka, topic):
    """outbox.retention: no event leaves before its time, the last leaf grows meanwhile; later, also after a restart, space comes back."""
    postgres.configure(outbox__segment_size="1MB", outbox__retention="70s")
    postgres.reload()
    since = postgres.log_size()
    with Writer(relay, topic) as writer:
        wait_until(lambda: postgres.log_contains("event ring of outbox is full", since), 60, "a full ring")
    assert rotations(relay) == LEAVES - 1
    assert relay.value("select count(*) from outbox.event") == writer.committed
    require_all_once(kafka, topic, writer.committed)
    postgres.configure(outbox__retention="1s")
    postgres.restart()
    # What is emitted meanwhile keeps the ring turning, so it is the old events that must go.
    wait_until(lambda: relay.emit(topic, "after") and
               relay.value("select count(*) from outbox.event where key <> 'after'") == 0, 60, "the old events to go")


def test_batch_log_changes_its_leaf(postgres, ring, kafka, topic_name):
    """Design 2: the batch log's leaves take turns, the newest row stays, also across restarts; the relay goes on from it."""
    topic = ring.declare(topic_name, 1)
    postgres.configure(outbox__batch_log_rows=10)
    postgres.reload()
    emitted = 0
    for _ in range(2):
        seen = set()
        while len(seen) < 2:  # both leaves took rows since
            ring.emit(topic, str(emitted := emitted + 1))
            seen.add(ring.value("select leaf from outbox.batch order by batch_no desc limit 1"))
        postgres.restart("immediate")
    require_all_once(kafka, topic, emitted)
    first, last, rows = ring.execute("select min(batch_no), max(batch_no), count(*) from outbox.batch")[0]
    assert first > 0 and rows == last - first + 1
    wait_until(lambda: ring.status()["state"] == "idle", 60, "the relay to have gone on from the newest row")


@pytest.mark.parametrize("events", [50_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_no_dead_rows(postgres, ring, kafka, topic, events):
    """Zero dead tuples in the relay's tables after so many events, rotations among them."""
    postgres.configure(outbox__batch_log_rows=20, outbox__batch_max_events=2000)
    postgres.reload()
    ring.execute("create extension pgstattuple")
    each = events // 50
    for _ in range(50):
        ring.execute(
            "select count(outbox.emit(%s, n::text, 'T', '\"some payload of an event\"')) from generate_series(1, %s) n",
            (topic, each),
        )
    wait_until(lambda: ring.status()["events_sent"] == events, 300, "all to be sent")
    assert rotations(ring) > 0
    tables = ring.execute(
        "select c.relname, s.dead_tuple_count, pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid),"
        " pg_stat_get_dead_tuples(c.oid) from pg_class c, pgstattuple(c.oid) s"
        " where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'r'"
    )
    assert {name for name, *_ in tables} >= {"batch_0", "batch_1", "dead_letter", *(f"event_{n}" for n in range(LEAVES))}
    assert [table for table in tables if table[1:] != (0, 0, 0) and table[0] != "installation"] == []
    assert [table[1] <= 1 for table in tables if table[0] == "installation"] == [True]  # its first start's marker
