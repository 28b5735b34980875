# SPDX-License-Identifier: PostgreSQL
"""The relay against a real broker: delivery, order, cuts, outages and its recovery."""

import os
import signal

from harness import OVERSIZED, wait_until


def test_event_arrives_with_its_envelope(relay, kafka, topic):
    """Row 001.1: a committed event is one record with CloudEvents headers; a rolled back one is none."""
    event_id = relay.emit(topic, "k1", "OrderCreated", '{"a": 1}', '{"shop": "x"}')
    with relay.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'k1', 'Lost', '{}')", (topic,))
        connection.rollback()
    record = kafka.wait_for_records(topic, 1)[0]
    headers = dict(record.headers())
    assert record.key() == b"k1"
    assert record.value() == b'{"a": 1}'
    assert headers["ce_id"].decode() == event_id
    assert headers["ce_type"] == b"OrderCreated"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/json"
    assert headers["ce_source"].decode() == f"/outbox/{relay.name}"
    assert headers["shop"] == b"x"
    relay.emit(topic, "k1", "Second")
    assert [dict(r.headers())["ce_type"] for r in kafka.wait_for_records(topic, 2)] == [b"OrderCreated", b"Second"]


def keys(kafka, topic, count):
    return [record.key().decode() for record in kafka.wait_for_records(topic, count)]


def test_old_transaction_holds_back_only_itself(relay, kafka, topic_name):
    """Design I1: an open transaction's event comes when it commits, others do not wait and do not come twice."""
    topic = relay.declare(topic_name, 1)
    with relay.connect(autocommit=False) as old:
        old.execute("select outbox.emit(%s, 'old', 'T', '{}')", (topic,))
        for number in range(3):
            relay.emit(topic, f"new{number}")
            assert keys(kafka, topic, number + 1) == [f"new{n}" for n in range(number + 1)]
        old.commit()
    assert keys(kafka, topic, 4) == ["new0", "new1", "new2", "old"]
    relay.emit(topic, "last")
    assert keys(kafka, topic, 5)[4] == "last"


def test_order_is_commit_order(relay, kafka, topic_name, postgres):
    """Row 001.3: within one batch transactions come in commit order, not in the order of their first emit."""
    topic = relay.declare(topic_name, 1)
    relay.stop_relay()
    relay.wait_state("stopped")
    with relay.connect(autocommit=False) as first, relay.connect(autocommit=False) as second:
        first.execute("select outbox.emit(%s, 'k', 'EmittedFirst', '{}')", (topic,))
        second.execute("select outbox.emit(%s, 'k', 'CommittedFirst', '{}')", (topic,))
        second.commit()
        first.commit()
    relay.start_relay()
    types = [dict(record.headers())["ce_type"] for record in kafka.wait_for_records(topic, 2)]
    assert types == [b"CommittedFirst", b"EmittedFirst"]
    assert relay.status()["order_mode"] == "commit"


def test_prepared_transaction_is_sent_within_two_seconds(relay, kafka, topic):
    """Row 001.1: COMMIT PREPARED by another session wakes nobody; the one-second look finds it."""
    with relay.connect() as connection:
        connection.execute("begin")
        connection.execute("select outbox.emit(%s, 'prepared', 'T', '{}')", (topic,))
        connection.execute(f"prepare transaction '{relay.name}'")
    relay.execute(f"commit prepared '{relay.name}'")
    assert keys(kafka, topic, 1) == ["prepared"]


def test_transaction_larger_than_a_batch_is_cut_inside(relay, kafka, topic_name, postgres):
    """Cuts: batches end between transactions; only a transaction above the limit is cut at a position."""
    topic = relay.declare(topic_name, 1)
    relay.stop_relay()
    relay.wait_state("stopped")
    postgres.configure(**{"outbox.batch_max_events": 10})
    postgres.reload()
    emit = "select outbox.emit(%s, n::text, 'T', '{}') from generate_series(%s::int, %s) n"
    relay.execute(emit, (topic, 1, 6))
    relay.execute(emit, (topic, 7, 12))
    relay.execute(emit, (topic, 13, 47))
    relay.execute(emit, (topic, 48, 50))
    relay.start_relay()
    assert keys(kafka, topic, 50) == [str(n) for n in range(1, 51)]
    sizes = relay.execute("select events, upper_seq is not null from outbox.batch where batch_no > 0 order by batch_no")
    assert sum(events for events, _ in sizes) == 50
    assert max(events for events, _ in sizes) <= 10
    assert [events for events, _ in sizes][:2] == [6, 6]
    assert any(cut for _, cut in sizes)


def test_declared_topic_needs_no_event(relay, kafka, unique):
    """Row 002.1: an idle relay creates a topic soon after declare_topic; one that Kafka refuses stops no other."""
    relay.wait_state("idle")
    impossible = unique("topic")
    relay.execute("select outbox.declare_topic(%s, 1, 3)", (impossible,))
    for _ in range(2):
        topic = relay.declare(unique("topic"), 2)
        wait_until(lambda: topic in kafka.topics(), 20, f"topic {topic}")
    assert kafka.describe_topic(topic)["partitions"] == 2
    assert not {f"{topic}.DLT", impossible} & set(kafka.topics())
    relay.emit(impossible, "refused")
    relay.emit(topic, "sent")
    assert keys(kafka, topic, 1) == ["sent"]
    relay.wait_for("select count(*) = 1 from outbox.dead_letter where origin = 'relay' and key = 'refused'")
    topic = relay.declare(unique("topic"), 1)
    wait_until(lambda: topic in kafka.topics(), 20, f"topic {topic}")


def test_refused_topic_costs_one_round(relay, postgres, kafka, topic, unique):
    """Poison at the relay: all events of a topic that Kafka does not create become dead letters at once."""
    impossible = unique("topic")
    relay.execute("select outbox.declare_topic(%s, 1, 3)", (impossible,))
    with relay.connect(autocommit=False) as connection:
        connection.execute("select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(1, 200) n", (impossible,))
        connection.execute("select outbox.emit(%s, 'other', 'T', '{}')", (topic,))
        connection.commit()
    assert keys(kafka, topic, 1) == ["other"]
    assert relay.value("select count(*) from outbox.dead_letter where state = 'open' and topic = %s", (impossible,)) == 200
    rounds = [line for line in postgres.child.log().splitlines() if "Kafka refuses event" in line and impossible in line]
    assert len(rounds) == 1
    assert relay.status()["events_refused"] == 200


def test_refused_event_becomes_a_dead_letter(relay, kafka, topic_name):
    """Design I7: what Kafka refuses is a row before the batch is sent again; the others of the batch arrive once."""
    topic = relay.declare(kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"}), 1)
    with relay.connect(autocommit=False) as connection:
        connection.execute("select outbox.emit(%s, 'before', 'T', '{}')", (topic,))
        connection.execute(f"select outbox.emit(%s, 'large', 'T', {OVERSIZED})", (topic,))
        connection.execute("select outbox.emit(%s, 'after', 'T', '{}')", (topic,))
        connection.commit()
    # Well below message.timeout.ms: the others of the refused request are not waited for.
    assert [r.key().decode() for r in kafka.wait_for_records(topic, 2, 20)] == ["before", "after"]
    origin, state, key, batch_no = relay.execute("select origin, state, key, batch_no from outbox.dead_letter")[0]
    assert (origin, state, key) == ("relay", "open", b"large")
    assert relay.status()["events_refused"] == 1
    relay.emit(topic, "next")
    assert keys(kafka, topic, 3) == ["before", "after", "next"]


def test_killed_sender_is_replaced(relay, kafka, topic):
    """A killed sender is started again and nothing is lost or doubled."""
    relay.emit(topic, "one")
    assert keys(kafka, topic, 1) == ["one"]
    os.kill(relay.status()["sender_pid"], signal.SIGKILL)
    relay.emit(topic, "two")
    assert sorted(keys(kafka, topic, 2)) == ["one", "two"]
    assert len(kafka.read_all(topic)) == 2


def test_waits_for_the_synchronous_standby(relay, kafka, topic, postgres):
    """Design I2: with a synchronous standby that is away nothing is sent, though the event is visible here."""
    relay.emit(topic, "before")
    assert keys(kafka, topic, 1) == ["before"]
    postgres.configure(synchronous_standby_names="nobody")
    postgres.reload()
    with relay.connect() as connection:
        connection.execute("set synchronous_commit = local")
        connection.execute("select outbox.emit(%s, 'held', 'T', '{}')", (topic,))
    relay.wait_state("replicating")
    recoveries = relay.status()["recoveries"]
    os.kill(relay.status()["sender_pid"], signal.SIGKILL)
    wait_until(lambda: relay.status()["recoveries"] > recoveries, 30, "the relay has a new sender")
    relay.wait_state("replicating")
    assert relay.value("select count(*) from outbox.event") == 2
    assert len(kafka.read_all(topic)) == 1
    postgres.configure(synchronous_standby_names="")
    postgres.reload()
    assert sorted(keys(kafka, topic, 2)) == ["before", "held"]


def test_wrong_property_value_is_told_and_mended_by_a_reload(relay, kafka, topic, postgres):
    """Bad input: a property whose value librdkafka refuses stands in last_error, the value does not; the right one and a
    reload end it, and the error is marked as past. Without brokers it says so, and asks nobody."""
    good = postgres.settings["outbox.kafka_properties"]
    postgres.configure(**{"outbox.kafka_properties": good + "\nsocket.timeout.ms=soon"})
    postgres.reload()
    wait_until(lambda: "socket.timeout.ms" in (relay.status()["last_error"] or ""), 30, "the error in the status")
    status = relay.status()
    assert "soon" not in status["last_error"] and status["recovered_at"] is None
    relay.emit(topic, "waits")
    postgres.configure(**{"outbox.kafka_properties": ""})  # as a server has it that refused its value at the start
    postgres.reload()
    relay.wait_for("select last_error like 'no Kafka brokers are set%%' from outbox.relay_status", 60)
    assert relay.status()["sender_pid"] is None
    postgres.configure(**{"outbox.kafka_properties": good})
    postgres.reload()
    assert keys(kafka, topic, 1) == ["waits"]
    past = "select recovered_at >= last_error_at from outbox.databases where database = current_database()"
    wait_until(lambda: relay.value(past), 60, "the error to be past")
    assert "no Kafka brokers" in relay.status()["last_error"] and relay.status()["recovered_at"]


def test_settings_of_the_database_do_not_reach_the_relay(relay, kafka, topic):
    """Worker: what a database may set as a default neither stops nor blinds the relay."""
    relay.execute("create role nobody_special")
    pid = relay.status()["pid"]
    try:
        for setting in ("role = nobody_special", "default_transaction_read_only = on", "row_security = on",
                        "default_transaction_isolation = serializable", "statement_timeout = 1",
                        "session_replication_role = replica", "synchronous_commit = off"):
            relay.cluster.execute(f"alter database {relay.name} set {setting}")
        relay.cluster.execute("select pg_terminate_backend(%s)", (pid,))
        wait_until(lambda: relay.cluster.value(
            "select count(*) from pg_stat_activity where backend_type = 'outbox relay' and pid <> %s and datname = %s",
            (pid, relay.name)) == 1, 30, "a new relay")
    finally:
        for setting in ("role", "default_transaction_read_only", "statement_timeout"):
            relay.cluster.execute(f"alter database {relay.name} reset {setting}")
        relay.cluster.execute(f"alter database {relay.name} set outbox.relay = on")
        relay.execute("drop role nobody_special")
    relay.emit(topic, "arrives")
    assert keys(kafka, topic, 1) == ["arrives"]


def test_partial_index_on_the_ring_hides_nothing(relay, kafka, topic):
    """Design I1: the relay reads through a whole index, whatever other indexes a DBA adds."""
    relay.emit(topic, "before")
    relay.execute("create index partial on outbox.event_0 (txid) where topic = 'none'")
    relay.execute("reindex index concurrently outbox.event_0_txid_idx")
    relay.emit(topic, "after")
    assert sorted(keys(kafka, topic, 2)) == ["after", "before"]
