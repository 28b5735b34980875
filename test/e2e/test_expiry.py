# SPDX-License-Identifier: PostgreSQL
"""A broker that soon forgets what an idle relay has left with it: its producer, and its cursor."""

import os
import signal

import pytest
from checker import Load, check_database
from fault_rounds import lengths
from harness import KafkaBroker, wait_until

PRODUCERS = {
    "transactional.id.expiration.ms": "2000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "300",
    "producer.id.expiration.ms": "2000",
    "producer.id.expiration.check.interval.ms": "300",
}
CURSORS = {
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": "500",
}


@pytest.fixture
def forgetful(session, request, unique):
    """A broker of its own with the settings of the test, which make it forget soon."""
    broker = KafkaBroker(session, unique("kafka-forgetful"), request.param, heap="256m").start()
    yield broker
    broker.kill9()


def forgets(conf):
    return pytest.mark.parametrize("forgetful", [conf], indirect=True, ids=["forgetful"])


@pytest.fixture
def forgotten(postgres, forgetful):
    """The run's cluster, whose relays speak to that broker."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={forgetful.bootstrap}")
    postgres.reload()
    return postgres


def write(database, topic, count):
    """That many transactions, and wait until their events are delivered."""
    for number in range(count):
        database.execute("select checker.step(%s, %s, 50)", (topic, f"key-{number % 3}"))
    database.wait_delivered()


def start(database, topic):
    Load(database.dsn(), (topic,)).prepare()
    database.start_relay()
    write(database, topic, 5)


def kill_sender(database):
    sender = database.status()["sender_pid"]
    os.kill(sender, signal.SIGKILL)
    wait_until(lambda: database.status()["sender_pid"] not in (None, sender), 30, "another sender")


def has_offset(kafka, group):
    return any(offset >= 0 for offset, _ in kafka.group_offsets(group).values())


@forgets(PRODUCERS)
@lengths(1, 10)
def test_producer_expires(forgotten, forgetful, database, topic, rounds):
    """F8: a relay idle past transactional.id.expiration.ms: nothing lost or doubled, one new producer."""
    name = database.transactional_id()
    start(database, topic)
    for _ in range(rounds):
        wait_until(lambda: forgetful.producer_epoch(name) is None, 60, "the producer to be forgotten", interval=0.5)
        recoveries = database.status()["recoveries"]
        write(database, topic, 1)
        status = database.status()
        assert status["recoveries"] == recoveries + 1
        assert (status["suspect_transactions"], status["possibly_doubled"]) == (0, 0)
    check_database(database.dsn(), forgetful.bootstrap, [topic], 60).require_ok()
    assert database.status()["hold_reason"] is None


@forgets(CURSORS)
@pytest.mark.long
@pytest.mark.timeout(900)
def test_cursor_expires(forgotten, forgetful, make_database, unique):
    """F8: the offset expires under an idle relay.

    One that goes on with its producer doubles nothing; one that must look sends batch B again, logged and counted."""
    going_on, looking = make_database(forgotten), make_database(forgotten)
    topics = {database: database.declare(unique("expired")) for database in (going_on, looking)}
    for database in topics:
        start(database, topics[database])
    for database in topics:
        wait_until(lambda: not has_offset(forgetful, database.transactional_id()), 200, "the cursor to expire",
                   interval=1)
    last = looking.value("select max(batch_no) from outbox.batch")
    events = looking.value("select events from outbox.batch where batch_no = %s", (last,))
    since = forgotten.log_size()
    kill_sender(looking)
    for database in topics:
        write(database, topics[database], 5)
    assert going_on.status()["possibly_doubled"] == 0
    check_database(going_on.dsn(), forgetful.bootstrap, [topics[going_on]], 60).require_ok()
    assert looking.status()["possibly_doubled"] == events > 0
    assert forgotten.log_contains(f"batch {last} is sent again and may be doubled", since)
    report = check_database(looking.dsn(), forgetful.bootstrap, [topics[looking]], 60)
    assert len(report.doubled) == events and not report.lost and not report.phantom
    assert all(has_offset(forgetful, database.transactional_id()) for database in topics)
