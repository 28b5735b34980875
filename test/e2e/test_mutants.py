# SPDX-License-Identifier: PostgreSQL
"""Each defence of the relay has a test here that fails when the defence is switched off.

Every test runs twice: with the build as it is, and, in make check-mutants, as a
mutant (src/common/fault.h), where the damage it names must be seen. An event is
known by its key; the last one sent is the sentinel all others must have come before.
"""

import contextlib
import functools
import os
import signal

import psycopg
import pytest
from harness import OVERSIZED, KafkaBroker, wait_until
from soak_topics import KEEP_DELETED


class Lost(AssertionError):
    """A committed event is neither in Kafka nor in outbox.dead_letter."""


class Doubled(AssertionError):
    """An event is in Kafka twice."""


class Reordered(AssertionError):
    """Events of a key are in another order than they were committed in."""


class Phantom(AssertionError):
    """An event is in Kafka and not in the database."""


def kills(mutant, damage):
    """The test must pass as it is, and see the damage when the defence is off."""
    def decorate(test):
        @functools.wraps(test)
        def run(*arguments, mutant, **named):
            if mutant is None:
                test(*arguments, mutant=mutant, **named)
                return
            with pytest.raises(damage) as found:
                test(*arguments, mutant=mutant, **named)
            print(f"mutant={mutant} damage={damage.__name__}: {found.value}")
        cases = [pytest.param(None, id="intact"), pytest.param(mutant, id=mutant, marks=pytest.mark.long)]
        return pytest.mark.parametrize("mutant", cases)(run)
    return decorate


@pytest.fixture
def target(struck, points, kafka, topic_name, mutant):
    """A database with its relay fenced and idle, a topic of one partition; the mutant, if any, switched on."""
    if mutant is not None:
        points.mutate(mutant)
    struck.topic = struck.declare(kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"}), 1)
    send(struck, "first")
    kafka.wait_for_records(topic_name, 1)
    struck.wait_state("idle")
    return struck


def send(database, key):
    database.execute("select outbox.emit(%s, %s, 'T', '{}')", (database.topic, key))


def read_keys(kafka, topic):
    return [record.key().decode() for record in kafka.read_all(topic)]


def require_delivered(database, kafka, expected):
    """Send a sentinel, wait for it, and compare what came between the first event and it."""
    wait_until(lambda: send(database, "last") is None, 60, "the server to take the sentinel")
    wait_until(lambda: "last" in read_keys(kafka, database.topic), 60, "the sentinel")
    found = read_keys(kafka, database.topic)
    between = found[1:found.index("last")]
    if set(expected) - set(found):
        raise Lost(f"{sorted(set(expected) - set(found))} of {expected}")
    others = [key for key in found if key != "last"]  # a dying server may take the sentinel without saying so
    if len(others) > len(set(others)):
        raise Doubled(f"{found}")
    if between != expected:
        raise Reordered(f"{between} instead of {expected}")


def write_wal_late(cluster):
    """What no commit flushes stays in memory for the rest of the test."""
    cluster.configure(wal_writer_delay="10s", autovacuum="off")
    cluster.reload()


@kills("no_fence", Phantom)
def test_what_was_sent_survives_a_crash(target, faulty, kafka, mutant):
    """I2, F3: an event committed asynchronously is durable before Kafka has it, as its batch row was flushed."""
    write_wal_late(faulty)
    with target.connect() as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute("select outbox.emit(%s, 'sent', 'T', '{}')", (target.topic,))
        kafka.wait_for_records(target.topic, 2)
        faulty.kill9()
    faulty.start()
    if target.value("select count(*) from outbox.event where key = 'sent'") != 1:
        raise Phantom("sent")
    require_delivered(target, kafka, ["sent"])


@kills("xmin", Lost)
def test_subtransaction_belongs_to_its_transaction(target, kafka, mutant):
    """I1: an event of a savepoint is judged by its top-level transaction, not by the xid its row carries."""
    with target.connect(autocommit=False) as connection:
        connection.execute("savepoint a")
        connection.execute("select outbox.emit(%s, 'inside', 'T', '{}')", (target.topic,))
        send(target, "meanwhile")
        kafka.wait_for_records(target.topic, 2)
        connection.commit()
    require_delivered(target, kafka, ["meanwhile", "inside"])


@kills("cursor_first", Lost)
def test_cursor_is_not_stored_without_its_events(target, points, kafka, mutant):
    """I4: a sender killed with all events sent and the transaction open has moved no cursor; the batch is sent again."""
    points.arm("sender-flushed")
    send(target, "sent again")
    points.await_fired("sender-flushed")
    require_delivered(target, kafka, ["sent again"])


@kills("no_comparison", Lost)
def test_starting_relay_compares_cursor_and_tables(target, faulty, points, kafka, mutant):
    """Start rules: a batch whose row is newer than Kafka's cursor is sent again."""
    points.arm("relay-row-committed")
    with contextlib.suppress(psycopg.OperationalError):  # the answer may be lost with the server
        send(target, "never sent")
    points.await_fired("relay-row-committed")
    require_delivered(target, kafka, ["never sent"])


@pytest.mark.parametrize("point", ["retention-look", "leaf-unlocked"])
@kills("rotation_unchecked", Lost)
def test_leaf_is_emptied_only_when_relayed(target, faulty, points, kafka, point, mutant):
    """Retention: a leaf past its time that holds the event of a transaction just committed is left alone,
    also one that committed between the relay's snapshot and its lock on the leaf."""
    faulty.configure(outbox__retention="1s")
    faulty.reload()
    moved = "select coalesce(clock_timestamp() - min(created_at) > '1500 ms', false) from outbox.event where segment <> %s"
    with target.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'late', 'T', '{}')", (target.topic,))
        leaf = connection.execute("select segment from outbox.event where key = 'late'").fetchone()[0]

        def is_overdue():
            send(target, "meanwhile")
            return target.value(moved, (leaf,))
        wait_until(is_overdue, 30, "the ring to have moved on long ago", interval=0.2)
        points.arm(point, "wait")
        wait_until(lambda: points.has_fired(point) or send(target, "meanwhile"), 30, "a look at the ring",
                   interval=0.2)
        connection.commit()
    points.release(point)
    send(target, "last")
    wait_until(lambda: "last" in read_keys(kafka, target.topic), 60, "the sentinel")
    if "late" not in read_keys(kafka, target.topic):
        raise Lost("late")


@kills("sequence_cache", Reordered)
def test_one_sequence_orders_all_sessions(target, faulty, kafka, mutant):
    """Order: without commit times events of a key go by seq, which no session takes ahead (CACHE 1)."""
    faulty.configure(track_commit_timestamp="off")
    faulty.restart()
    target.stop_relay()
    target.wait_state("stopped")
    if mutant:
        target.execute("alter sequence outbox.event_seq cache 50")
    with target.connect() as one, target.connect() as other:
        for number in range(6):
            session = (one, other)[number % 2]
            session.execute("select outbox.emit(%s, %s, 'T', '{}')", (target.topic, str(number)))
    target.start_relay()
    require_delivered(target, kafka, list("012345"))


@kills("late_exclusion", Lost)
def test_refusal_is_durable_before_the_batch_goes_again(target, faulty, points, kafka, mutant):
    """I7: once Kafka has the batch without the refused event, a crash does not lose the event's dead letter."""
    write_wal_late(faulty)
    points.arm("relay-committed-received")
    since = faulty.log_size()
    # The server may end before it answers the COMMIT; that the point is reached says that it has committed.
    with contextlib.suppress(psycopg.OperationalError), target.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'good', 'T', '{}')", (target.topic,))
        connection.execute(f"select outbox.emit(%s, 'large', 'T', {OVERSIZED})", (target.topic,))
        connection.commit()
    points.await_fired("relay-committed-received")
    wait_until(lambda: faulty.log_contains("ready to accept connections", since), 60, "the server's restart")
    faulty.wait_ready()
    if target.value("select count(*) from outbox.dead_letter where key = 'large'") != 1:
        raise Lost("large")
    require_delivered(target, kafka, ["good"])


@pytest.fixture(scope="module")
def strict(session):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(session, "strict-mutants", {"auto.create.topics.enable": "false", **KEEP_DELETED}).start()
    yield broker
    broker.stop()


@kills("late_hold", Lost)
def test_hold_is_durable_before_the_batch_goes_again(faulty, make_database, strict, points, unique, mutant):
    """I7: once Kafka has the batch without the topic that is held, a crash does not lose what the hold left out of it."""
    if mutant is not None:
        points.mutate(mutant)
    write_wal_late(faulty)
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}",
                     outbox__require_declared_topics="off", outbox__dead_letter_policy="hold_topic")
    faulty.reload()
    database = make_database(faulty)
    gone, fine = strict.create_topic(unique("gone"), 1), database.declare(unique("fine"), 1)
    database.start_relay()
    for topic in (gone, fine):
        database.emit(topic, "before")
        strict.wait_for_records(topic, 1)
    database.wait_state("idle")
    strict.delete_topic(gone)
    points.arm("relay-committed-received")
    since = faulty.log_size()
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        database.execute("select outbox.emit(%s, 'held', 'T', '{}'), outbox.emit(%s, 'beside', 'T', '{}')", (gone, fine))
    points.await_fired("relay-committed-received")
    wait_until(lambda: faulty.log_contains("ready to accept connections", since), 60, "the server's restart")
    faulty.wait_ready()
    if database.value("select coalesce(sum(events), 0) from outbox.topic_holds") != 1:
        raise Lost("held")
    strict.create_topic(gone, 1)
    database.execute("select outbox.topic_release(%s)", (gone,))
    assert [record.key() for record in strict.wait_for_records(gone, 1)] == [b"held"]
    assert [record.key() for record in strict.read_all(fine)] == [b"before", b"beside"]


@kills("no_watch", Doubled)
def test_late_commit_does_not_reach_the_next_transaction(target, faulty, points, kafka, proxy, mutant):
    """KAFKA-17754: a commit that was held and repeated arrives while the next batch is open, whose sender then dies.

    A new epoch refuses it; else it commits the events of the open batch without their cursor."""
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}\nsocket.timeout.ms=1000\n"
                     "message.timeout.ms=8000\ntransaction.timeout.ms=20000")
    faulty.reload()
    owner = target.transactional_id().encode()
    commit = proxy.strike("EndTxn", "request", "hold", owner)
    send(target, "committed twice")
    assert commit.struck.wait(60)
    kafka.wait_for_records(target.topic, 2)
    points.arm("sender-flushed", "wait")
    send(target, "next")
    points.await_fired("sender-flushed")
    proxy.release(commit)
    assert commit.answered.wait(60)
    os.kill(target.status()["sender_pid"], signal.SIGKILL)
    require_delivered(target, kafka, ["committed twice", "next"])
