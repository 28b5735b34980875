# SPDX-License-Identifier: PostgreSQL
"""The sender alone against a real broker, driven by frames."""

import math
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from harness import KafkaBroker, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from wire_client import Event, Sender, open_pairs  # noqa: E402

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program():
    subprocess.run(["make", "-s", "-C", str(TOP / "bgworker" / "sender")], check=True)
    return str(TOP / "build" / "outbox-sender")


@pytest.fixture
def name():
    """A name no other test uses: of the installation and its topic."""
    return f"sender-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start(program, kafka, name):
    """Starts senders that are open; they are stopped at the end."""
    running = []

    def run(delivery="exactly_once", envelope="cloudevents", extra=()):
        sender = Sender(program)
        running.append(sender)
        pairs = open_pairs(kafka.bootstrap, name, delivery, envelope, extra)
        opened = sender.open(pairs)
        assert opened.kind == "OPENED", opened
        return sender

    yield run
    for sender in running:
        sender.stop()


def ready(sender, name):
    sender.declare(name, 1)
    answer = sender.fence()
    assert answer.kind == "CURSOR", answer
    return answer


def look_until(sender, batch):
    """LOOK until it shows that batch: an unstable read may come before the transaction's marker."""
    def shown():
        cursor = sender.look()
        return cursor if cursor.present and cursor.batch == batch else None
    return wait_until(shown, 20, f"cursor {batch}")


def records(kafka, topic, count, seconds=20):
    """Reads that many committed records of partition 0, and sees that no more come at once."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"reader-{uuid.uuid4()}",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found, deadline, at_end = [], time.monotonic() + seconds, False
    while time.monotonic() < deadline and not (at_end and len(found) >= count):
        message = consumer.poll(0.2)
        if message is None:
            continue
        at_end = message.error() is not None
        if not at_end:
            found.append(message)
    consumer.close()
    assert len(found) == count
    return found


def test_transaction_carries_cursor(start, kafka, name):
    """Row 000.9: events and the cursor are one transaction; a fresh group has no cursor (I4)."""
    sender = start()
    assert ready(sender, name).present is False
    answer = sender.batch(0, [], "genesis")
    assert (answer.kind, answer.batch, answer.events) == ("COMMITTED", 0, 0)
    cursor = look_until(sender, 0)
    assert (cursor.present, cursor.batch, cursor.metadata) == (True, 0, b"genesis")
    answer = sender.batch(7, [Event(name, b"one", b"k"), Event(name, b"two", b"k")], "nonce-7")
    assert (answer.kind, answer.events, answer.bytes, answer.suspect) == ("COMMITTED", 2, 8, 0)
    assert [r.value() for r in records(kafka, name, 2)] == [b"one", b"two"]
    for cursor in (look_until(sender, 7), sender.fence()):
        assert (cursor.present, cursor.batch, cursor.metadata) == (True, 7, b"nonce-7")


def test_record_is_the_event(start, kafka, name):
    """Row 000.9, the record: CloudEvents headers, then the event's own in order, bytes, repeats and NULL kept."""
    sender = start()
    ready(sender, name)
    own = [("traceparent", b"00-1"), ("a", b"\x00\xff"), ("a", b"\x00\xff"), ("a", None), ("e", b"")]
    first = Event(name, b'{"n":1}', b"\xff\x00", "OrderPlaced", headers=own)
    first.created_at = 1769862896000007
    events = [first, Event(name, None, None, content_type=""), Event(name, b"", b"")]
    assert sender.batch(1, events, at=1769900000123456).kind == "COMMITTED"
    record, tombstone, empty = records(kafka, name, 3)
    assert (record.key(), record.value()) == (b"\xff\x00", b'{"n":1}')
    assert {r.timestamp()[1] for r in (record, tombstone, empty)} == {1769900000123}
    assert record.headers() == [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(first.id).encode()),
        ("ce_source", f"urn:outbox:{name}".encode()),
        ("ce_type", b"OrderPlaced"),
        ("ce_time", b"2026-01-31T12:34:56.000007Z"),
        ("content-type", b"application/json"),
        *own,
    ]
    assert (tombstone.key(), tombstone.value()) == (None, None)
    assert "content-type" not in dict(tombstone.headers())
    assert empty.value() == b""


def test_envelope_none(start, kafka, name):
    """Row 000.9, the record: with envelope none the record has the event's own headers only."""
    sender = start(envelope="none")
    ready(sender, name)
    events = [Event(name, b"x", headers=[("h", b"1")]), Event(name, b"y")]
    assert sender.batch(1, events).kind == "COMMITTED"
    assert [r.headers() for r in records(kafka, name, 2)] == [[("h", b"1")], None]


def test_refused_event(start, kafka, name):
    """Row 000.9: what Kafka refuses is named by index, nothing of its batch becomes visible."""
    sender = start()
    ready(sender, name)
    good, large = Event(name, b"good"), Event(name, b"x" * 1_100_000)
    answer = sender.batch(1, [good, large, good])
    assert (answer.kind, answer.index, answer.error, answer.whole_topic) == ("REFUSED", 1, 10, False)
    answer = sender.batch(1, [good, Event("not a topic name")])
    assert (answer.kind, answer.index, answer.whole_topic) == ("REFUSED", 1, True)
    at = 5 + 40  # the length of the headers, made 1, and one byte that is no header
    broken = good.frame()[:at] + b"\0\0\0\1" + good.frame()[at + 4 :] + b"\x01"
    broken = (len(broken) - 4).to_bytes(4, "big") + broken[4:]
    answer = sender.batch(1, [good, broken])
    assert (answer.kind, answer.index, answer.error) == ("REFUSED", 1, 87)
    assert sender.look().present is False
    assert sender.batch(1, [good, good]).kind == "COMMITTED"
    assert [r.value() for r in records(kafka, name, 2)] == [b"good", b"good"]


def test_topic_that_cannot_be_created(start, kafka, name):
    """Row 000.9: of a declared topic that Kafka does not create only its own events are refused."""
    sender = start()
    bad = f"{name}.bad"
    sender.declare(bad, 1, replication=3)
    assert ready(sender, name).present is False
    assert sender.batch(1, [Event(name, b"1")]).kind == "COMMITTED"
    answer = sender.batch(2, [Event(name, b"2"), Event(bad)])
    assert (answer.kind, answer.index, answer.error, answer.whole_topic) == ("REFUSED", 1, 38, True)
    assert sender.batch(2, [Event(name, b"2")]).kind == "COMMITTED"
    sender.declare(bad, 1, replication=1)
    assert sender.batch(3, [Event(bad, b"now")]).kind == "COMMITTED"
    assert [r.value() for r in records(kafka, name, 2)] == [b"1", b"2"]
    assert [r.value() for r in records(kafka, bad, 1)] == [b"now"]


def test_dead_letter_topic_is_created_by_its_first_event(start, kafka, name):
    """Row 002.7: X is created when declared, X.DLT with its partitions when first sent to, in the transaction."""
    sender = start()
    dlt = f"{name}.DLT"
    sender.declare(dlt, 2)
    ready(sender, name)
    assert sender.batch(1, [Event(name, b"1")]).kind == "COMMITTED"
    assert name in kafka.topics() and dlt not in kafka.topics()
    answer = sender.batch(2, [Event(name, b"2"), Event(dlt, b"dead", b"k"), Event(name, b"3")])
    assert answer.kind == "COMMITTED"
    assert answer.duration_us < 3_000_000
    assert kafka.describe_topic(dlt)["partitions"] == 2
    assert [r.value() for r in records(kafka, name, 3)] == [b"1", b"2", b"3"]


def test_declared_without_producer(start, kafka, name):
    """Row 002.1: what is declared to a sender that has only looked is created, without an event."""
    sender = start()
    first, second = f"{name}.first", f"{name}.second"
    sender.declare(first, 1)
    assert sender.look().present is False
    assert first in kafka.topics()
    sender.declare(second, 1)
    assert sender.look().present is False
    assert second in kafka.topics()


@pytest.mark.parametrize("codec", ["lz4", "gzip"])
def test_refused_by_broker_among_many(start, kafka, name, codec):
    """Row 000.9: the one record that Kafka refuses is named in few rounds, also where nobody can tell before."""
    sender = start(extra=[("message.max.bytes", "3000000"), ("compression.codec", codec)])
    ready(sender, name)
    events = [Event(name, b"small") for _ in range(500)]
    incompressible = b"".join(uuid.uuid4().bytes for _ in range(100_000))
    events.insert(413, Event(name, incompressible))
    rounds = 1
    answer = sender.batch(1, events)
    while answer.kind == "REFUSED" and not answer.events:
        assert answer.fence and answer.suspects > 1
        assert sender.fence().present is False
        answer = sender.batch(1, events)
        rounds += 1
    assert (answer.kind, answer.index, answer.error, len(answer.events)) == ("REFUSED", 413, 10, 1)
    assert rounds == 1 if codec == "lz4" else rounds <= 2 * math.log2(len(events))
    if answer.fence:
        sender.fence()
    answer = sender.batch(1, events[:413] + events[414:])
    assert (answer.kind, answer.events) == ("COMMITTED", 500)
    assert len(records(kafka, name, 500)) == 500


def test_old_sender_is_fenced(start, kafka, name):
    """Row 000.9: after another sender's FENCE the old one can commit nothing more (I4)."""
    old, new = start(), start()
    ready(old, name)
    assert old.batch(1, [Event(name, b"1")]).kind == "COMMITTED"
    assert ready(new, name).batch == 1
    answer = old.batch(2, [Event(name, b"lost")])
    assert (answer.kind, answer.error_class) == ("FAILED", "fenced")
    assert new.batch(2, [Event(name, b"2")]).kind == "COMMITTED"
    assert [r.value() for r in records(kafka, name, 2)] == [b"1", b"2"]
    assert ready(old, name).batch == 2


def test_killed_sender_leaves_nothing(start, kafka, name):
    """Row 000.9: a sender killed inside a batch leaves no event, and its successor does not wait."""
    first, second = start(), start()
    ready(first, name)
    assert first.batch(1, [Event(name, b"1")]).kind == "COMMITTED"
    parts = [Event(name, b"phantom").frame() for _ in range(2000)]
    first.send(2, parts)
    first.kill()
    began = time.monotonic()
    cursor = ready(second, name)
    assert time.monotonic() - began < 20
    assert cursor.batch in (1, 2)
    expected = 1 if cursor.batch == 1 else 2001
    assert len(records(kafka, name, expected)) == expected


def test_at_least_once(start, kafka, name):
    """Row 000.9: acknowledged batches of at_least_once arrive, their cursor follows."""
    sender = start("at_least_once")
    assert ready(sender, name).present is False
    for number in range(1, 51):
        assert sender.batch(number, [Event(name, b"%d" % number)]).kind == "COMMITTED"
    assert sender.fence().batch == 50
    assert [r.value() for r in records(kafka, name, 50)] == [b"%d" % n for n in range(1, 51)]


def test_broker_away(program, name):
    """Row 000.9: with no broker FENCE fails as retriable and says why."""
    with Sender(program) as sender:
        assert sender.open(open_pairs("127.0.0.1:1", name)).kind == "OPENED"
        answer = sender.fence()
        assert (answer.kind, answer.error_class) == ("FAILED", "retriable")
        assert "127.0.0.1:1" in answer.text


def test_thousand_transactions_without_suspicion(start, kafka, name):
    """Row 000.9: 1,000 transactions back to back, none suspected to be torn."""
    sender = start()
    ready(sender, name)
    took, suspects = [], 0
    for number in range(1000):
        answer = sender.batch(number, [Event(name, b"x" * 300, b"k")])
        assert answer.kind == "COMMITTED", answer
        took.append(answer.duration_us)
        suspects += answer.suspect
    took.sort()
    print(f"transaction p50 {took[500] / 1000:.1f} ms, p99 {took[990] / 1000:.1f} ms")
    assert suspects == 0


def alive_pairs(name, client):
    return [("relay.alive_group", f"outbox-alive.{name}"), ("relay.alive_client", client)]


def test_living_senders_see_each_other(start, name):
    """A sender is a member from OPEN until its input ends, and reads nothing; the next look shows who is left."""
    first = start(extra=alive_pairs(name, "outbox-alive.first"))
    first.look()
    alone = first.alive()
    assert (alone.allowed, alone.joined) == (True, True) and [m[0] for m in alone.members] == ["outbox-alive.first"]
    second = start(extra=alive_pairs(name, "outbox-alive.second"))
    second.look()
    assert sorted(m[0] for m in second.alive().members) == ["outbox-alive.first", "outbox-alive.second"]
    first.stop()
    wait_until(lambda: [m[0] for m in second.alive().members] == ["outbox-alive.second"], 5, "the first has left")


@pytest.mark.long
def test_killed_sender_is_seen_for_its_session(start, name):
    """A sender that is killed cannot leave; Kafka forgets it with its session, after 10 s."""
    first = start(extra=alive_pairs(name, "outbox-alive.first"))
    first.look()
    assert first.alive().joined
    second = start(extra=alive_pairs(name, "outbox-alive.second"))
    second.look()
    first.kill()
    assert "outbox-alive.first" in [m[0] for m in second.alive().members]
    wait_until(lambda: len(second.alive().members) == 1, 30, "the session is over")


def test_sender_without_a_group_says_so(start, name):
    """A sender that was told no group of the living is no member, and answers that none can be seen."""
    sender = start()
    answer = sender.alive()
    assert (answer.allowed, answer.joined, answer.members) == (False, False, [])


@pytest.mark.parametrize("heals", [False, pytest.param(True, marks=pytest.mark.long)])
def test_member_that_may_not_join(start, kafka, name, heals):
    """A join that Kafka refuses for good is no join that takes long: the answer names it. Tried again after 30 s."""
    kafka.create_topic(name, 1)
    other = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"outbox-alive.{name}",
                      "partition.assignment.strategy": "cooperative-sticky"})
    try:
        other.subscribe([name])
        wait_until(lambda: other.poll(0.1) or other.assignment(), 30, "another kind of member")
        sender = start(extra=alive_pairs(name, "outbox-alive.first"))
        sender.look()
        answer = wait_until(lambda: (found := sender.alive()) and not found.allowed and found, 30, "the refusal")
        assert not answer.joined and "nconsistent group protocol" in answer.text
    finally:
        other.close()
    if heals:
        wait_until(lambda: sender.alive().joined, 60, "the next try to join")


@pytest.mark.long
def test_member_is_seen_before_its_group_is_balanced(session, program, name):
    """With Kafka's default a new group's first balance takes 3 s; its members are seen before, and not waited for."""
    broker = KafkaBroker(session, "slow-groups", {"group.initial.rebalance.delay.ms": "3000"}).start()
    try:
        with Sender(program) as warm:  # Kafka's own topics are made
            assert warm.open(open_pairs(broker.bootstrap, "warm")).kind == "OPENED"
            assert warm.fence().kind == "CURSOR"
        with Sender(program) as sender:
            sender.open(open_pairs(broker.bootstrap, name, extra=alive_pairs(name, "outbox-alive.first")))
            sender.look()
            began = time.monotonic()
            assert sender.alive().joined
            print(f"seen after {time.monotonic() - began:.3f} s")
    finally:
        broker.stop()
