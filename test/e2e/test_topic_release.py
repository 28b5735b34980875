# SPDX-License-Identifier: PostgreSQL
"""A topic that was held apart comes back: once, in order, beside the others, whatever breaks meanwhile."""

import pytest
from checker import Load, check_database
from harness import wait_until


def hold(database, topic, reason="test"):
    database.execute("select outbox.topic_hold(%s, %s)", (topic, reason))


def release(database, topic):
    database.execute("select outbox.topic_release(%s, 'test')", (topic,))


def held(database, topic):
    """Events held and not copied yet, of the topic's newest hold."""
    return database.value(
        "select (select coalesce(sum(b.events), 0) from outbox.topic_hold_batch b where b.hold = h.id)"
        " - (select coalesce(sum(c.copies), 0) from outbox.topic_hold_copy c where c.hold = h.id"
        " and c.refused_batch is null) from outbox.topic_hold h where h.topic = %s order by h.id desc limit 1",
        (topic,))


def state(database, topic):
    return database.value("select state from outbox.topic_hold where topic = %s order by id desc limit 1", (topic,))


def wait_held(database, topic, count, timeout=60):
    wait_until(lambda: held(database, topic) >= count, timeout, f"{count} held events of {topic}")


def wait_ended(database, topic, timeout=60):
    wait_until(lambda: state(database, topic) == "ended", timeout, f"the end of the hold of {topic}")


def test_held_events_come_back_once_and_in_order(relay, kafka, topic_name, unique):
    """10,000 events held over many batches come back while their keys are emitted to: each once, each key in its
    order, and the other topic's events never wait for them."""
    topic = relay.declare(topic_name, 3)
    other = relay.declare(unique("other"), 3)
    load = Load(relay.dsn(), (topic, other), transactions=10**7, writers=4, keys=200, rate=4000).prepare()
    running = load.start()
    try:
        relay.await_batches(2)
        hold(relay, topic)
        wait_held(relay, topic, 10000, 120)
        last = relay.value("select count(*) from checker.truth where topic = %s", (other,))
        release(relay, topic)
        wait_ended(relay, topic)
        relay.await_batches(3)
    finally:
        running.stop()
        running.wait()
    assert relay.value("select count(*) from checker.truth where topic = %s", (other,)) > last
    check_database(relay.dsn(), kafka.bootstrap, [topic, other], timeout=60).require_ok()
    wait_until(lambda: relay.value("select (select count(*) from outbox.topic_hold_batch)"
                                   " + (select count(*) from outbox.topic_hold_copy)") == 0, 30, "rows that go")
    assert relay.value("select copied from outbox.topic_hold where topic = %s", (topic,)) >= 10000
