# SPDX-License-Identifier: PostgreSQL
"""Topics that are deleted while the relay uses them, with a broker that makes none by itself."""

import time

import pytest
from harness import KafkaBroker, wait_until

ROUND = 15  # seconds the others may wait: a look at Kafka, a new producer, Kafka's answer


@pytest.fixture(scope="module")
def strict(session):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(session, "strict", {"auto.create.topics.enable": "false"}).start()
    yield broker
    broker.stop()


@pytest.fixture
def on_strict(database, postgres, strict):
    """The fresh database, whose relay will speak to that broker and take topics nobody declared."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}",
                       outbox__require_declared_topics="off")
    postgres.reload()
    return database


def types(records):
    return [dict(record.headers())["ce_type"].decode() for record in records]


def test_deleted_topics_do_not_stop_the_others(on_strict, strict, unique):
    """Issue 4, "One topic's trouble does not stop the others": a deleted topic delays them by a round, not by the 30 s
    after which an event is given up; a declared one is made again, of another the events become dead letters."""
    on_strict.start_relay()
    declared, fine = on_strict.declare(unique("gone"), 1), on_strict.declare(unique("fine"), 1)
    undeclared = strict.create_topic(unique("undeclared"), 1)
    for topic in (declared, fine, undeclared):
        on_strict.emit(topic, "k")
        strict.wait_for_records(topic, 1)
    for number, topic in enumerate((declared, undeclared, declared), 2):
        strict.delete_topic(topic)
        began = time.monotonic()
        on_strict.emit(topic, "k", f"again{number}")
        on_strict.emit(fine, "k")
        strict.wait_for_records(fine, number)
        waited = time.monotonic() - began
        print(f"{topic}: {waited:.1f} s")
        assert waited < ROUND
    assert types(strict.wait_for_records(declared, 1)) == ["again4"]
    letters = on_strict.execute("select topic, event_type, state from outbox.dead_letter")
    assert letters == [(undeclared, "again3", "open")]
    strict.create_topic(undeclared, 1)
    on_strict.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter")
    assert types(strict.wait_for_records(undeclared, 1)) == ["again3"]


@pytest.mark.parametrize("policy", ["hold_key", "stop"])
def test_a_deleted_topic_waits(on_strict, postgres, strict, unique, policy):
    """Issue 4, Poison, topic deleted: its key waits, or all do, until the topic is there again; then in order."""
    postgres.configure(outbox__dead_letter_policy=policy)
    postgres.reload()
    gone, fine = strict.create_topic(unique("undeclared"), 1), on_strict.declare(unique("fine"), 1)
    on_strict.start_relay()
    for topic in (gone, fine):
        on_strict.emit(topic, "k")
        strict.wait_for_records(topic, 1)
    strict.delete_topic(gone)
    for number in range(2):
        on_strict.emit(gone, "k", f"T{number}")
    on_strict.emit(fine, "k")
    if policy == "hold_key":
        strict.wait_for_records(fine, 2)
        on_strict.wait_for("select array_agg(state order by id) = '{open,held}' from outbox.dead_letter")
    else:
        told = wait_until(lambda: (e := on_strict.status()["last_error"]) and "policy is stop" in e and e, 60, "the stop")
        assert gone in told and not on_strict.value("select count(*) from outbox.dead_letter")
        assert len(strict.read_all(fine)) == 1
    strict.create_topic(gone, 1)
    on_strict.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    assert types(strict.wait_for_records(gone, 2)) == ["T0", "T1"]
    assert len(strict.wait_for_records(fine, 2)) == 2
