# SPDX-License-Identifier: PostgreSQL
"""What a starting relay does with each thing Kafka's cursor can say: the start rules of docs/design.md."""

import re
import socket

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from harness import OVERSIZED, wait_until

CURSOR_TOPIC = "outbox.cursor"


class Cursor:
    """Kafka's cursor of one database, read and written behind the relay's back."""

    def __init__(self, database, kafka):
        self.database = database
        self.kafka = kafka
        self.group = database.transactional_id()

    def _consumer(self):
        return Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": self.group,
                         "enable.auto.commit": False})

    def offset(self):
        consumer = self._consumer()
        try:
            return consumer.committed([TopicPartition(CURSOR_TOPIC, 0)], timeout=10)[0].offset
        finally:
            consumer.close()

    def commits(self):
        """(offset, timeline in its note) of every commit, oldest first, from Kafka's own log."""
        found = []
        for record in self.kafka.read_all("__consumer_offsets"):
            # OffsetCommitKey: version, group, topic, partition; OffsetCommitValue: version, offset, ..., metadata
            if record.value() and record.key()[:2] <= b"\0\1" and self.group.encode() in record.key():
                timeline = re.search(rb"timeline=(\d+)", record.value())
                found.append((int.from_bytes(record.value()[2:10], "big"), int(timeline.group(1))))
        return found

    def note(self, batch_no, **changes):
        """The metadata the relay writes for batch_no, some of its fields changed."""
        nonce, system, database, timeline = self.database.execute(
            "select nonce, system_id, database, timeline from outbox.batch where batch_no = %s", (batch_no,)
        )[0]
        fields = {
            "nonce": nonce.hex, "system": system % 2**64, "database": database, "timeline": timeline,
            "host": socket.gethostname(), "data": self.database.value("show data_directory"), **changes,
        }
        return "v1\n" + "\n".join(f"{name}={value}" for name, value in fields.items())

    def write(self, offset, note):
        consumer = self._consumer()
        try:
            consumer.commit(offsets=[TopicPartition(CURSOR_TOPIC, 0, offset, metadata=note)], asynchronous=False)
        finally:
            consumer.close()


@pytest.fixture
def cursor(relay, kafka, topic):
    """A relay that has delivered three batches of one event and was stopped."""
    for number in range(3):
        relay.emit(topic, f"k{number}", "Before")
        relay.wait_delivered()
    assert last_batch(relay) == 3
    stop(relay)
    return Cursor(relay, kafka)


def last_batch(database):
    return database.value("select max(batch_no) from outbox.batch")


def stop(database):
    database.stop_relay()
    database.wait_state("stopped")


def wait_hold(database, reason):
    database.wait_state("hold")
    assert reason in database.status()["hold_reason"]


def delete_unguarded(database, table, condition="true"):
    with database.unguarded(table):
        database.execute(f"delete from {table} where {condition}")


def test_goes_on(cursor, kafka, topic):
    """K = B: nothing is sent again, the next event is the next batch."""
    cursor.database.start_relay()
    cursor.database.emit(topic, "k", "After")
    cursor.database.wait_delivered()
    types = sorted(dict(record.headers())["ce_type"] for record in kafka.read_all(topic))
    assert types == [b"After", b"Before", b"Before", b"Before"]
    assert cursor.offset() == 4


def test_sends_last_batch_again(cursor, kafka, topic):
    """K = B-1: batch B is sent again under its own number and nonce."""
    cursor.write(2, cursor.note(2))
    nonce = cursor.database.value("select nonce from outbox.batch where batch_no = 3")
    cursor.database.start_relay()
    wait_until(lambda: cursor.offset() == 3, 30, "the cursor is at batch 3 again")
    cursor.database.wait_delivered()
    assert len(kafka.read_all(topic)) == 4
    assert last_batch(cursor.database) == 3
    assert cursor.database.value("select nonce from outbox.batch where batch_no = 3") == nonce


def test_holds_when_batch_reads_differently(cursor, kafka, topic):
    """K = B-1, but the events of B are no longer those its row says: hold, nothing sent."""
    cursor.write(2, cursor.note(2))
    delete_unguarded(cursor.database, "outbox.event", "key = 'k2'")
    cursor.database.start_relay()
    wait_hold(cursor.database, "batch 3 reads differently")
    assert len(kafka.read_all(topic)) == 3


def delete_group(admin, group):
    """As Kafka does with a group nobody has used for days."""
    admin.delete_consumer_groups([group])[group].result(10)
    return True


def test_cursor_lost(cursor, kafka, topic, postgres):
    """No offset although batch rows exist: B is sent again, the log says it may be doubled."""
    from confluent_kafka.admin import AdminClient
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for group in (cursor.group, cursor.group.replace("outbox-relay.", "outbox-alive.")):
        wait_until(lambda group=group: delete_group(admin, group), 30, f"{group} deleted")
    assert cursor.offset() < 0
    since = postgres.log_size()
    cursor.database.start_relay()
    wait_until(lambda: cursor.offset() == 3, 30, "the cursor is back at batch 3")
    assert postgres.log_contains("batch 3 is sent again and may be doubled", since)
    assert cursor.database.status()["possibly_doubled"] == 1
    assert len(kafka.read_all(topic)) == 4


def test_dead_letter_is_lost(relay, kafka, topic_name):
    """K = B, but Kafka has B without an event of which no dead letter is here (recovered to between the
    two): hold; adopt('resend') sends B again, and the event is refused again. I7."""
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    relay.declare(topic_name, 1)
    relay.execute(f"select outbox.emit(%s, 'k', 'T', {OVERSIZED})", (topic_name,))
    relay.wait_for("select count(*) = 1 from outbox.dead_letter")
    relay.wait_delivered()
    stop(relay)
    relay.start_relay()
    relay.wait_state("idle")
    stop(relay)
    relay.execute("delete from outbox.dead_letter")
    relay.start_relay()
    wait_hold(relay, "left out 1 events, this database has 0 dead letters")
    relay.execute("select outbox.adopt('resend')")
    relay.wait_for("select count(*) = 1 from outbox.dead_letter")
    relay.wait_delivered()


@pytest.mark.parametrize("decision", ["resend", "skip"])
def test_kafka_is_ahead(cursor, kafka, topic, decision):
    """K > B: the database has lost history. Hold; adopt('resend') repeats B and goes on, 'skip' goes on after now."""
    cursor.write(13, cursor.note(3))
    cursor.database.emit(topic, "waiting", "Waiting")
    cursor.database.start_relay()
    wait_hold(cursor.database, "Kafka has batch 13, this database only 3")
    assert len(kafka.read_all(topic)) == 3
    cursor.database.execute("select outbox.adopt(%s)", (decision,))
    cursor.database.wait_state("idle")
    cursor.database.emit(topic, "after", "After")
    cursor.database.wait_delivered()
    seen = sorted(r.key().decode() for r in kafka.read_all(topic))
    expected = ["after", "k0", "k1", "k2"] + (["k2", "waiting"] if decision == "resend" else [])
    assert seen == sorted(expected)
    assert cursor.database.status()["possibly_doubled"] == (2 if decision == "resend" else 0)
    assert cursor.offset() == last_batch(cursor.database) > 13


def test_other_nonce(cursor, kafka, topic):
    """The number is known, its nonce is not: two histories. Hold."""
    cursor.write(3, cursor.note(3, nonce="00" * 16))
    cursor.database.start_relay()
    wait_hold(cursor.database, "carries another nonce")


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"data": "/elsewhere"}])
def test_another_place_is_not_another_writer(cursor, kafka, topic, changes):
    """A container with a new name goes on by itself, with its installation id: the row is ours."""
    cursor.write(3, cursor.note(3, directory="another-boot.1.2", **changes))
    cursor.database.emit(topic, "after", "After")
    cursor.database.start_relay()
    cursor.database.wait_delivered()
    assert cursor.database.transactional_id() == cursor.group
    assert len(kafka.read_all(topic)) == 4


def test_another_database(cursor):
    """Written by another database of the server: hold."""
    cursor.write(3, cursor.note(3, database=5))
    cursor.database.start_relay()
    wait_hold(cursor.database, "database oid 5")


def test_no_policy_decides_for_a_copy(cursor, kafka, topic, postgres):
    """A batch that another place wrote on this timeline: a copy went on; `resend` is not for that."""
    cursor.write(13, cursor.note(3, host="elsewhere", directory="another-boot.1.2"))
    postgres.configure(**{"outbox.on_divergence": "resend"})
    postgres.reload()
    cursor.database.emit(topic, "waiting", "Waiting")
    cursor.database.start_relay()
    wait_hold(cursor.database, "a copy of this server went on")
    cursor.write(3, cursor.note(3))
    stop(cursor.database)
    cursor.database.start_relay()
    wait_hold(cursor.database, "a copy of this server went on")  # kept, whatever Kafka says later
    assert len(kafka.read_all(topic)) == 3


@pytest.mark.parametrize("policy", ["hold", "resend"])
def test_superseded(cursor, postgres, policy):
    """Split brain: written on a later timeline, even by a server of this name: another one was promoted.

    Hold, whatever the policy."""
    postgres.configure(**{"outbox.on_divergence": policy})
    postgres.reload()
    cursor.write(3, cursor.note(3, timeline=2))
    cursor.database.start_relay()
    wait_hold(cursor.database, "on timeline 2, this server is on timeline 1")


def test_cursor_lags(cursor, kafka, topic, postgres):
    """K < B in at_least_once: K+1 to B are sent again, and counted."""
    postgres.configure(**{"outbox.delivery": "at_least_once"})
    postgres.reload()
    cursor.write(1, cursor.note(1, lags=1))
    cursor.database.start_relay()
    wait_until(lambda: cursor.offset() == 3, 30, "the cursor is at batch 3 again")
    cursor.database.wait_delivered()
    assert sorted(r.key() for r in kafka.read_all(topic)) == [b"k0", b"k1", b"k1", b"k2", b"k2"]
    assert cursor.database.status()["possibly_doubled"] == 2


def test_cursor_lagged_under_another_setting(cursor, kafka, topic):
    """K = B-1, written in at_least_once, in exactly_once now: B may have been sent and is counted."""
    cursor.write(2, cursor.note(2, lags=1))
    cursor.database.start_relay()
    wait_until(lambda: cursor.offset() == 3, 30, "the cursor is at batch 3 again")
    cursor.database.wait_delivered()
    assert sorted(r.key() for r in kafka.read_all(topic)) == [b"k0", b"k1", b"k2", b"k2"]
    assert cursor.database.status()["possibly_doubled"] == 1


def test_takes_over_with_the_cursor_alone(cursor, kafka, topic):
    """A cursor of an earlier timeline is committed anew before any batch: whom it fences learns at once by whom."""
    cursor.write(3, cursor.note(3, timeline=0))
    cursor.database.emit(topic, "k", "After")
    cursor.database.start_relay()
    cursor.database.wait_delivered()
    assert cursor.commits()[-3:] == [(3, 0), (3, 1), (4, 1)]
    assert len(kafka.read_all(topic)) == 4


def test_foreign_metadata(cursor):
    """A cursor no relay wrote: hold."""
    cursor.write(3, "by hand")
    cursor.database.start_relay()
    wait_hold(cursor.database, "no relay wrote")


def test_kafka_is_far_behind(cursor, kafka, topic):
    """K < B-1: Kafka has lost commits. Hold; adopt('resend') repeats K+1 to B, what was in no batch is not doubled."""
    cursor.write(1, cursor.note(1))
    cursor.database.emit(topic, "waiting", "Waiting")
    cursor.database.start_relay()
    wait_hold(cursor.database, "Kafka has lost commits")
    cursor.database.execute("select outbox.adopt('resend')")
    cursor.database.wait_delivered()
    assert sorted(r.key() for r in kafka.read_all(topic)) == [b"k0", b"k1", b"k1", b"k2", b"k2", b"waiting"]
    assert cursor.database.status()["possibly_doubled"] == 2


def test_policy_decides_without_a_person(cursor, kafka, topic, postgres):
    """outbox.on_divergence = skip: the relay goes on by itself and says so in the log."""
    cursor.write(13, cursor.note(3))
    postgres.configure(**{"outbox.on_divergence": "skip"})
    postgres.reload()
    since = postgres.log_size()
    cursor.database.start_relay()
    cursor.database.wait_state("idle")
    cursor.database.emit(topic, "after", "After")
    cursor.database.wait_delivered()
    assert sorted(r.key() for r in kafka.read_all(topic)) == [b"after", b"k0", b"k1", b"k2"]
    assert postgres.log_contains("outbox.on_divergence decides: skip", since)


def test_no_genesis_row(relay):
    """The switch is on, but there is no batch row: the relay waits and says what to call; start_relay() lets it go on,
    here to a hold, for the history that Kafka knows is gone."""
    relay.wait_state("idle")
    stop(relay)
    delete_unguarded(relay, "outbox.batch")
    relay.execute(psycopg.sql.SQL("alter database {} set outbox.relay = on").format(psycopg.sql.Identifier(relay.name)))
    wait_until(lambda: "outbox.batch is empty" in (relay.status()["hold_reason"] or ""), 30, "the reason in the status")
    status = relay.status()
    assert status["state"] == "starting" and status["pid"] and status["last_error"] is None
    relay.start_relay()
    wait_hold(relay, "carries another nonce")


def test_template_copy_holds_and_leaves_the_original_alone(relay, kafka, topic, make_database, postgres, unique):
    """A copy by CREATE DATABASE TEMPLATE holds; the real relay goes on; adopt gives the copy its own name in Kafka."""
    relay.emit(topic, "original", "Before")
    relay.wait_delivered()
    copy_name = unique("copy")
    postgres.create_database(copy_name, extension=False, template=relay.name)
    try:
        copy = type(relay)(postgres, copy_name)
        copy.start_relay()
        wait_hold(copy, "the database is a copy")
        relay.emit(topic, "original", "After")
        relay.wait_delivered()
        assert len(kafka.read_all(topic)) == 2
        copy.execute("select outbox.adopt('skip')")
        copy.wait_state("idle")
        copy.emit(topic, "copy", "FromCopy")
        copy.wait_delivered()
        relay.emit(topic, "original", "Last")
        relay.wait_delivered()
        assert [r.key() for r in kafka.read_all(topic)].count(b"copy") == 1
        assert len(kafka.read_all(topic)) == 4
    finally:
        postgres.drop_database(copy_name)


def test_restored_dump_holds(relay, kafka, topic, postgres, unique):
    """A dump restored elsewhere holds; adopt('resend') sends what was not delivered."""
    relay.emit(topic, "sent", "Before")
    relay.wait_delivered()
    stop(relay)
    relay.emit(topic, "unsent", "Before")
    name = postgres.create_database(unique("restored"), extension=False)
    try:
        dump = postgres.run("pg_dump", "-d", relay.dsn())
        postgres.psql(dump, name)
        restored = type(relay)(postgres, name)
        restored.start_relay()
        wait_hold(restored, "restored from a dump")
        restored.execute("select outbox.adopt('resend')")
        restored.wait_state("idle")
        restored.wait_delivered()
        keys = [r.key() for r in kafka.read_all(topic)]
        assert keys.count(b"unsent") == 1
        restored.emit(topic, "new", "After")
        restored.wait_delivered()
        assert [r.key() for r in kafka.read_all(topic)].count(b"new") == 1
    finally:
        postgres.drop_database(name)


def test_restored_dump_takes_dead_letters(database, postgres, unique, make_database):
    """Rows 000.5, 002.7: after dump and restore a further dead letter gets a number of its own."""
    add = """select outbox.dead_letter_add('c', 't', 0, %s, 'k', 'v', null, null, gen_random_uuid(), 'T', null,
             'retrying', 'record', null, 'seeded', 1000)"""
    numbers = [database.value(add, (place,)) for place in (1, 2)]
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", database.dsn()), restored.name)
    numbers.append(restored.value(add, (3,)))
    assert numbers == sorted(set(numbers))
    assert restored.value("select count(*) from outbox.dead_letter") == 3


def test_idle_relay_does_not_fence(cursor, kafka):
    """I4: a relay without work only looks; a producer that holds its transactional id stays alive."""
    real = kafka.producer(transactional_id=cursor.group)
    real.init_transactions(30)
    real.begin_transaction()
    cursor.database.start_relay()
    cursor.database.wait_state("idle")
    real.produce("fence_probe", b"still alive")
    real.commit_transaction(30)
