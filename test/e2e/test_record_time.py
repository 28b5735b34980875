# SPDX-License-Identifier: PostgreSQL
"""A record's time stamp is its batch's, ce_time the event's; clocks and Kafka may disagree for a while."""

import datetime

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from harness import Database, wait_until

HOUR = 3600
OLD = "clock_timestamp() - interval '1 day'"

# As emit() would have written it a day ago.
WRITE_OLD = f"""
    insert into outbox.event (txid, seq, segment, id, topic, key, type, payload, created_at)
    values (pg_current_xact_id(), nextval('outbox.event_seq'), 0, gen_random_uuid(), %s, 'old', 'Tested', '1', {OLD})"""


def set_topic(kafka, topic, **values):
    """Alter the topic's configuration from now on."""
    entries = [ConfigEntry(name.replace("__", "."), str(value), incremental_operation=AlterConfigOpType.SET)
               for name, value in values.items()]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    kafka.admin.incremental_alter_configs([resource])[resource].result(30)


def prepared_ms(database, batch_no):
    """The time of a batch row as a record has it."""
    return database.value("select floor(extract(epoch from prepared_at) * 1000)::bigint from outbox.batch"
                          " where batch_no = %s", (batch_no,))


def open_letters(database):
    return database.value("select count(*) from outbox.dead_letter")


def test_resend_has_the_same_time(struck, points, kafka, topic_name):
    """The stamp is the batch row's, also when it is sent again after a crash; ce_time is the event's created_at."""
    struck.declare(topic_name, 1)
    struck.wait_state("idle")
    points.arm("sender-flushed")
    struck.emit(topic_name, "k")
    points.await_fired("sender-flushed")
    assert len(kafka.wait_for_records(topic_name, 1)) == 1
    aborted, record = kafka.read_all(topic_name, isolation="read_uncommitted")
    assert record.timestamp()[1] == aborted.timestamp()[1] == prepared_ms(struck, 1)
    created = struck.value("select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from outbox.event")
    assert dict(record.headers())["ce_time"].decode() == created


def test_old_events_arrive_and_stay(relay, kafka, topic):
    """What is older than a topic takes, or keeps, is no dead letter: neither after an absence nor as a replay."""
    relay.emit(topic, "first")  # makes the topic
    kafka.wait_for_records(topic, 1)
    set_topic(kafka, topic, message__timestamp__before__max__ms=HOUR * 1000, retention__ms=HOUR * 1000)
    relay.execute(WRITE_OLD, (topic,))
    assert len(kafka.wait_for_records(topic, 2)) == 2
    relay.execute("select * from outbox.replay('-infinity', 'infinity', topic => %s, key => 'old')", (topic,))
    records = [r for r in kafka.wait_for_records(topic, 3) if r.key() == b"old"]
    now = relay.value("select extract(epoch from clock_timestamp())::float8")
    assert len(records) == 2
    for record in records:
        assert abs(record.timestamp()[1] / 1000 - now) < 60
        event = datetime.datetime.fromisoformat(dict(record.headers())["ce_time"].decode())
        assert abs(now - 24 * HOUR - event.timestamp()) < 60
    assert open_letters(relay) == 0


def test_stored_batch_older_than_the_topic_takes(struck, points, kafka, topic_name):
    """A batch row whose own time Kafka no longer takes is sent with the time of the next try; the error says what it was."""
    struck.declare(topic_name, 1)
    struck.emit(topic_name, "first")
    kafka.wait_for_records(topic_name, 1)
    # Not less: Kafka judges its own transaction markers by it, and cannot end a transaction whose marker is late.
    set_topic(kafka, topic_name, message__timestamp__before__max__ms=3000)
    points.arm("relay-before-hand-over", "wait")
    struck.emit(topic_name, "late")
    points.await_fired("relay-before-hand-over")
    struck.wait_for("select prepared_at < clock_timestamp() - interval '4 s' from outbox.batch where batch_no = 2")
    points.release("relay-before-hand-over")
    first, late = kafka.wait_for_records(topic_name, 2)
    assert (first.key(), late.key()) == (b"first", b"late")
    assert late.timestamp()[1] >= prepared_ms(struck, 2) + 4000
    error = struck.status()["last_error"]
    assert topic_name in error and "message.timestamp.before.max.ms (3000)" in error
    assert "the database's clock" in error and error.endswith(": Broker: Invalid timestamp")
    assert open_letters(struck) == 0


def test_clock_ahead(shifted_clock, kafka, topic_name):
    """A clock two hours ahead of Kafka's keeps events waiting and is named; set right, all arrive in order, none as a dead letter."""
    cluster, shift_clock = shifted_clock
    database = Database(cluster, cluster.create_database("ahead"))
    database.declare(topic_name, 1)
    database.start_relay()
    database.emit(topic_name, "before")
    kafka.wait_for_records(topic_name, 1)
    shift_clock(2 * HOUR)
    database.emit(topic_name, "ahead")

    def told():
        error = database.status()["last_error"] or ""
        return topic_name in error and "message.timestamp.after.max.ms (3600000)" in error
    wait_until(told, 60, "an error that names topic and limit")
    database.emit(topic_name, "later")
    assert (open_letters(database), database.status()["delivered_batch"]) == (0, 1)
    shift_clock(0)
    records = kafka.wait_for_records(topic_name, 3, 60)
    assert [r.key() for r in records] == [b"before", b"ahead", b"later"]
    assert all(abs(r.timestamp()[1] - records[0].timestamp()[1]) < HOUR * 1000 for r in records)
    assert open_letters(database) == 0


def test_clock_steps_while_nobody_relays(shifted_clock, kafka, topic_name):
    """A clock set back, and forth again, while no relay runs, and one set back while the server is down: the order is that
    of the commits."""
    cluster, shift_clock = shifted_clock
    database = Database(cluster, cluster.create_database("alone"))
    database.declare(topic_name, 1)
    for payload, seconds in (("1", 0), ("2", -HOUR), ("3", 0)):
        shift_clock(seconds)
        database.emit(topic_name, "key", payload=payload)
    database.start_relay()
    assert [r.value() for r in kafka.wait_for_records(topic_name, 3, 60)] == [b"1", b"2", b"3"]
    database.wait_delivered()
    database.stop_relay()
    database.wait_state("stopped", 60)

    shift_clock(2 * HOUR)
    database.emit(topic_name, "key", payload="4")
    cluster.kill9()
    shift_clock(0)
    cluster.start()
    database.emit(topic_name, "key", payload="5")
    database.start_relay()
    assert [r.value() for r in kafka.wait_for_records(topic_name, 5, 60)[3:]] == [b"4", b"5"]


@pytest.mark.long
def test_clock_to_and_fro(shifted_clock, kafka, topic_name):
    """A clock two hours ahead, and back, before a window is opened on what committed meanwhile: the order is that of the commits."""
    cluster, shift_clock = shifted_clock
    cluster.configure(outbox__kafka_properties="bootstrap.servers=127.0.0.1:1")
    cluster.reload()
    database = Database(cluster, cluster.create_database("fro"))
    database.declare(topic_name, 1)
    database.start_relay()

    def turn():
        """Wait until the relay has had a turn, and with it looked at the clock."""
        seen = database.status()["recoveries"]
        wait_until(lambda: database.status()["recoveries"] > seen, 60, "a turn of the relay")
    turn()
    shift_clock(2 * HOUR)
    database.emit(topic_name, "key", payload="1")
    turn()
    shift_clock(0)
    database.emit(topic_name, "key", payload="2")
    turn()
    cluster.configure(outbox__kafka_properties=f"bootstrap.servers={kafka.bootstrap}")
    cluster.reload()
    assert [r.value() for r in kafka.wait_for_records(topic_name, 2, 60)] == [b"1", b"2"]
