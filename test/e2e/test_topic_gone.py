# SPDX-License-Identifier: PostgreSQL
"""Topics that are deleted while the relay uses them, with a broker that makes none by itself."""

import time

import pytest
from checker import Load
from fault_rounds import Rounds
from harness import KafkaBroker, wait_until
from soak_topics import KEEP_DELETED, DeletedTopics

ROUND = 15  # seconds the others may wait: a look at Kafka, a new producer, Kafka's answer


@pytest.fixture(scope="module")
def strict(session):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(session, "strict", {"auto.create.topics.enable": "false", **KEEP_DELETED}).start()
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
    """One topic's trouble does not stop the others: a deleted topic delays them by a round, not by the 30 s
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


@pytest.mark.parametrize("policy", ["hold_key", "hold_topic", "stop"])
def test_a_deleted_topic_waits(on_strict, postgres, strict, unique, policy):
    """Poison, topic deleted: its key waits, or the topic, or all do, until the topic is there again; then in order."""
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
    elif policy == "hold_topic":
        strict.wait_for_records(fine, 2)
        refuse_again(on_strict, gone)
    else:
        told = wait_until(lambda: (e := on_strict.status()["last_error"]) and "policy is stop" in e and e, 60, "the stop")
        assert gone in told and not on_strict.value("select count(*) from outbox.dead_letter")
        assert len(strict.read_all(fine)) == 1
    strict.create_topic(gone, 1)
    if policy == "hold_topic":
        on_strict.execute("select outbox.topic_release(%s)", (gone,))
    on_strict.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    assert types(strict.wait_for_records(gone, 2)) == ["T0", "T1"]
    assert len(strict.wait_for_records(fine, 2)) == 2


def refuse_again(database, topic):
    """The topic is held for its refusal; a release without its cause mended leaves it held, with all its events."""
    held = ("select cause = 'refused' and state = 'held' and events = %s from outbox.topic_holds where topic = %s",
            30, (2, topic))
    database.wait_for(*held)
    assert database.value("select count(*) from outbox.dead_letter") == 0
    database.execute("select outbox.topic_release(%s)", (topic,))
    database.wait_for("select count(*) > 0 from outbox.topic_hold_copy where refused_batch > 0")
    database.wait_for(*held)
    assert database.value("select count(*) from outbox.dead_letter") == 0


def partitions_by_key(records):
    found = {}
    for record in records:
        found.setdefault(record.key(), set()).add(record.partition())
    return found


@pytest.mark.parametrize("partitions", [2, 12])
def test_a_topic_made_anew_gets_its_keys_where_they_belong(on_strict, strict, unique, partitions):
    """Somebody deletes the topic and makes it anew with fewer or more partitions
    while nothing is under way. The relay notices, and no key lies on two partitions of the new topic."""
    on_strict.start_relay()
    topic = on_strict.declare(unique("anew"), 6)
    emit = "select outbox.emit(%s, 'k' || k, 'T', '{}') from generate_series(1, 60) k"
    for _ in range(2):
        on_strict.execute(emit, (topic,))
    strict.wait_for_records(topic, 120)
    deleted = DeletedTopics(strict, on_strict)
    deleted.delete(topic)
    deleted.make(topic, partitions)
    for count in (60, 120):
        on_strict.execute(emit, (topic,))
        places = partitions_by_key(strict.wait_for_records(topic, count))
    assert all(len(found) == 1 for found in places.values()) and len(places) == 60
    assert max(set.union(*places.values())) >= min(6, partitions - 1)
    on_strict.wait_delivered()
    assert len(strict.read_all(topic)) == 120


def test_topics_made_anew_under_load(on_strict, strict, unique):
    """Topics deleted and made anew again and again while events are under way, by
    somebody else and by the relay: it goes on within seconds, and of what the files of the deleted logs do not hold,
    nothing is lost, doubled or reordered."""
    topics = [on_strict.declare(unique("often"), 6) for _ in range(2)]
    on_strict.start_relay()
    deleted = DeletedTopics(strict, on_strict)
    with Rounds(on_strict, strict, topics, 1, rate=300) as running:
        for partitions in (6, 9, None, 6, 9, 3, 6, 9, 6):
            running.await_batches(10)
            began = time.monotonic()
            deleted.delete(topics[0])
            if partitions:
                deleted.make(topics[0], partitions)
            running.await_batches(3, 90)
            waited = time.monotonic() - began
            print(f"{partitions} partitions: {waited:.1f} s")
            assert waited < 2 * ROUND
            assert deleted.read_unread() > 0
    on_strict.wait_delivered(60)
    report = running.check(60, deleted.destroyed(), deleted.logs).require_ok()
    assert report.destroyed and report.committed > len(report.destroyed)


def test_a_topic_is_deleted_while_the_server_is_down(on_strict, postgres, strict, unique):
    """What waits is delivered to the topic made anew, what was there not."""
    topic = on_strict.declare(unique("down"), 1)
    on_strict.start_relay()
    before = on_strict.emit(topic, "k")
    strict.wait_for_records(topic, 1)
    on_strict.wait_delivered()
    strict.pause()
    after = [on_strict.emit(topic, "k") for _ in range(3)]
    postgres.kill9()
    strict.resume()
    deleted = DeletedTopics(strict, on_strict)
    deleted.delete(topic)
    postgres.start()
    assert [dict(r.headers())["ce_id"].decode() for r in strict.wait_for_records(topic, 3)] == after
    on_strict.wait_delivered()
    assert len(strict.read_all(topic)) == 3 and before not in after
    assert strict.describe_topic(topic)["partitions"] == 1


def test_files_of_a_deleted_topic_tell_what_was_in_it(on_strict, strict, unique):
    """The checker: Kafka's own files, read without Kafka, hold what its consumer sees."""
    topic = on_strict.declare(unique("files"), 3)
    on_strict.start_relay()
    Load(dsn=on_strict.dsn(), topics=(topic,), transactions=300, filler=2000).run()
    on_strict.wait_delivered()
    seen = {(r.partition(), r.offset(), r.key(), r.value()) for r in strict.read_all(topic)}
    deleted = DeletedTopics(strict, on_strict)
    deleted.delete(topic)
    assert deleted.read_unread() == len(seen) > 100
    assert {(row.record.partition, row.record.offset, row.record.key.encode()) for row in deleted.remains} == {
        place[:3] for place in seen}
    assert len(deleted.destroyed()) == len(seen) == len(deleted.readable())
