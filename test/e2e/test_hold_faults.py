# SPDX-License-Identifier: PostgreSQL
"""Topics held apart while processes are struck, and while batches come again."""

import contextlib
import os
import time

import psycopg
import pytest
from fault_rounds import Rounds, lengths
from harness import OVERSIZED, KafkaBroker, limit_records
from soak_topics import KEEP_DELETED
from test_fault_points import Strikes, with_action
from test_start_rules import Cursor

SEED = int(os.environ.get("OUTBOX_SEED", time.time_ns() // 10**6 % 10**6))

# A batch that leaves a topic out, from its rows to the next batch; the last one strikes only behind another.
HOLDING = ["hold-batch", "relay-row-committed", "relay-handed-over", "relay-before-next"]
AGAIN = [("relay-read-again", "relay-row-committed")]


@pytest.fixture(scope="module")
def strict(session):
    """A broker that makes no topic by itself."""
    broker = KafkaBroker(session, "strict-holds", {"auto.create.topics.enable": "false", **KEEP_DELETED}).start()
    yield broker
    broker.stop()


@lengths(1)
@pytest.mark.parametrize("action", ["kill", pytest.param("error", marks=pytest.mark.long)])
def test_relay_is_struck_while_a_topic_is_held(struck, kafka, points, unique, rounds, action):
    """F1: kill -9 and an error around the rows of what a hold leaves out: the other topic goes on, and when the hold
    is released, both have each event once and in order."""
    held, fine = struck.declare(unique("held"), 3), struck.declare(unique("fine"), 3)
    with Rounds(struck, kafka, [held, fine], SEED, rate=400) as running:
        running.await_batches(1)
        struck.execute("select outbox.topic_hold(%s, 'struck')", (held,))
        struck.wait_for("select exists (select from outbox.topic_hold_batch)")
        Strikes(running, points, 3).run(rounds, with_action(action, HOLDING + AGAIN), 1.0)
        struck.execute("select outbox.topic_release(%s)", (held,))
        struck.wait_for("select state = 'ended' from outbox.topic_hold", 120)
    running.check().require_ok()


@pytest.mark.parametrize("point", ["hold-uncommitted", "hold-committed", "relay-read-again"])
def test_relay_is_killed_where_a_refused_topic_is_held(faulty, make_database, strict, points, unique, point):
    """F1: kill -9 around the row that holds a refused topic, and before the batch comes again without it: its events
    are held once, and sent once when they are released."""
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}",
                     outbox__require_declared_topics="off", outbox__dead_letter_policy="hold_topic")
    faulty.reload()
    database = make_database(faulty)
    gone, fine = strict.create_topic(unique("gone"), 1), database.declare(unique("fine"), 1)
    database.start_relay()
    for topic in (gone, fine):
        database.emit(topic, "before")
        strict.wait_for_records(topic, 1)
    strict.delete_topic(gone)
    points.arm(point)
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        database.execute("select outbox.emit(%s, '1', 'T', '{}'), outbox.emit(%s, '2', 'T', '{}'), "
                         "outbox.emit(%s, 'beside', 'T', '{}')", (gone, gone, fine))
    points.await_fired(point)
    faulty.wait_ready()
    strict.wait_for_records(fine, 2)
    database.wait_for("select cause = 'refused' and state = 'held' and events = 2 from outbox.topic_holds")
    strict.create_topic(gone, 1)
    database.execute("select outbox.topic_release(%s)", (gone,))
    assert [record.key() for record in strict.wait_for_records(gone, 2)] == [b"1", b"2"]
    database.wait_for("select state = 'ended' and copied = 2 from outbox.topic_holds")
    assert len(strict.read_all(gone)) == 2 and len(strict.read_all(fine)) == 2
    assert database.value("select count(*) from outbox.dead_letter") == 0


def test_at_least_once_counts_what_may_be_doubled(database, postgres, strict, unique):
    """Events of a batch that was tried before their topic was held may be in Kafka, and come once more."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={strict.bootstrap}", outbox__delivery="at_least_once",
                       outbox__require_declared_topics="off", outbox__dead_letter_policy="hold_topic")
    postgres.reload()
    gone = strict.create_topic(unique("gone"), 1)
    database.start_relay()
    database.emit(gone, "before")
    strict.wait_for_records(gone, 1)
    database.wait_delivered()
    strict.delete_topic(gone)
    database.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 3) n", (gone,))
    database.wait_for("select events = 3 from outbox.topic_holds")
    database.wait_delivered()
    assert database.status()["possibly_doubled"] == 3


def test_a_hold_goes_on_in_later_batches_that_come_again(relay, postgres, kafka, topic_name):
    """at_least_once, Kafka has batch 1 of 3: a hold that began when batch 2 came again leaves its topic out of batch 3,
    too, though that has no row of it, so that nothing overtakes what batch 2 left out."""
    topic = relay.declare(topic_name, 1)
    for number in (1, 2, 3):
        relay.emit(topic, str(number))
        relay.wait_delivered()
    relay.stop_relay()
    relay.wait_state("stopped")
    cursor = Cursor(relay, kafka)
    cursor.write(1, cursor.note(1, lags=1))
    relay.execute("insert into outbox.topic_hold (topic, cause, reason) values (%s, 'operator', 'as a crash left it')", (topic,))
    relay.execute("insert into outbox.topic_hold_batch select h.id, b.batch_no, b.lower, b.upper, null, null, null, null, "
                  "1, 1, now() from outbox.topic_hold h, outbox.batch b where b.batch_no = 2")
    postgres.configure(outbox__delivery="at_least_once")
    postgres.reload()
    relay.start_relay()
    relay.wait_delivered()
    assert relay.execute("select batch_no, events from outbox.topic_hold_batch order by 1") == [(2, 1), (3, 1)]
    assert len(kafka.read_all(topic)) == 3  # nothing was sent again
    relay.execute("select outbox.topic_release(%s)", (topic,))
    assert [record.key() for record in kafka.wait_for_records(topic, 5)] == [b"1", b"2", b"3", b"2", b"3"]


def test_relay_is_killed_where_a_hold_ends_before_a_letter(faulty, make_database, kafka, points, unique):
    """F1: kill -9 when a hold has ended and no batch has its last copies: a dead letter of their key, from before the
    hold and replayed meanwhile, comes before them (hold_key)."""
    faulty.configure(outbox__dead_letter_policy="hold_key")
    faulty.reload()
    database = make_database(faulty)
    topic = database.declare(kafka.create_topic(unique("held"), 1, {"max.message.bytes": "2000"}), 1)
    database.start_relay()
    database.execute(f"select outbox.emit(%s, 'k', 'large', {OVERSIZED})", (topic,))
    letter = database.wait_for("select id from outbox.dead_letter where state = 'open'")
    limit_records(kafka, topic, 100000)
    database.execute("select outbox.topic_hold(%s, 'struck')", (topic,))
    database.execute("select outbox.emit(%s, 'k', 'waits', '{}')", (topic,))
    database.wait_for("select events = 1 from outbox.topic_holds")
    points.arm("hold-ended-committed")
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        database.execute("select outbox.dead_letter_replay(%s), outbox.topic_release(%s)", (letter, topic))
    points.await_fired("hold-ended-committed")
    faulty.wait_ready()
    types = [dict(record.headers())["ce_type"].decode() for record in kafka.wait_for_records(topic, 2)]
    assert types == ["large", "waits"]


def test_at_least_once_keeps_what_the_cursor_may_name(relay, postgres, kafka, topic_name, unique):
    """at_least_once: the cursor in Kafka may be some batches behind the end of a hold, and say how many events its batch
    left out: these rows are still there, and the relay goes on."""
    postgres.configure(outbox__delivery="at_least_once")
    postgres.reload()
    topic, other = relay.declare(topic_name, 1), relay.declare(unique("other"), 1)
    relay.emit(other, "before")
    relay.wait_delivered()
    relay.execute("select outbox.topic_hold(%s, 'test')", (topic,))
    relay.execute("select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(1, 3) n", (topic,))
    relay.wait_for("select events = 3 from outbox.topic_holds")
    relay.wait_delivered()
    batch = relay.value("select max(batch_no) from outbox.topic_hold_batch")
    kafka.pause()
    relay.execute("select outbox.topic_release(%s)", (topic,))
    relay.wait_for("select state = 'ended' from outbox.topic_hold")
    relay.wait_for("select max(batch_no) > %s from outbox.batch", 30, (batch,))
    relay.emit(other, "behind")  # its batch follows that of the end at once
    kafka.resume()
    kafka.wait_for_records(other, 2)
    relay.wait_delivered()
    relay.stop_relay()
    relay.wait_state("stopped")
    cursor = Cursor(relay, kafka)
    cursor.write(batch, cursor.note(batch, lags=1, left_out=3))
    relay.start_relay()
    relay.wait_delivered()
    assert relay.status()["hold_reason"] is None
    assert {record.key() for record in kafka.read_all(topic)} == {b"1", b"2", b"3"}
