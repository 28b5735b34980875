# SPDX-License-Identifier: PostgreSQL
"""Processes struck at named points (src/common/fault.h) under load: nothing lost, doubled, invented or out of order.

F1 and F2 of the fault matrix. Each point is struck in every round, in an order
that the seed decides; the checker then compares the tables with the topics. Where make check strikes
a part of the points, another part comes each time: OUTBOX_SEED repeats the one whose seed was printed.
"""

import contextlib
import os
import time

import psycopg
import pytest
from fault_rounds import Rounds, lengths
from harness import OVERSIZED, limit_records, wait_until

SEED = int(os.environ.get("OUTBOX_SEED", time.time_ns() // 10**6 % 10**6))

# Where a batch is, from its snapshot to the next one; a relay passes these with every batch.
RELAY = ["relay-snapshot", "relay-reading", "relay-before-row", "relay-row-uncommitted", "relay-row-committed",
         "relay-before-hand-over", "relay-handed-over", "relay-committed-received", "relay-before-next"]
# Passed only after another point has struck: (point, the other one).
RECOVERY = [("relay-start-fence", "relay-before-next"), ("relay-read-again", "relay-row-committed")]
SENDER = ["sender-begun", "sender-produced", "sender-flushed", "sender-offsets-sent", "sender-end-sent",
          "sender-committed"]
SENDER_RECOVERY = [("sender-before-fence", "sender-flushed"), ("sender-fenced", "sender-end-sent")]
RETENTION = ["retention-look", "retention-moved", "leaf-locked", "leaf-emptied", "leaf-committed"]
# A held topic comes back: a step of copies, then the last of them with the end of the hold.
RELEASE = ["hold-copy-uncommitted", "hold-copy-committed", "hold-ended-uncommitted", "hold-ended-committed"]
AFTER_COMMIT = [point for point in RELEASE if point.endswith("-committed")]
EMIT = ["emit-before-insert", "emit-heap-inserted", "emit-indexed", "emit-committed"]


def with_action(action, points):
    return [(action, *([point] if isinstance(point, str) else point)) for point in points]


class Strikes:
    """Points struck one after another while the writers work."""

    def __init__(self, running, points, most_passages):
        self.running = running
        self.points = points
        self.most_passages = most_passages
        self.longest = 0.0

    def strike(self, action, point, before=None):
        """Arm the point (and the one that leads to it), wait until it has struck and a later batch is delivered."""
        self.points.arm(point, action, 1 if before else self.running.choose.randint(1, self.most_passages))
        if before:
            self.points.arm(before)
        self.points.await_fired(point)
        since = time.monotonic()
        self.running.await_batches(1)
        self.longest = max(self.longest, time.monotonic() - since)

    def run(self, rounds, orders, share):
        count = 0
        for _ in range(rounds):
            for order in self.running.choose.sample(orders, round(len(orders) * share)):
                print("strike", *order)
                self.strike(*order)
                count += 1
        print(f"strikes={count} longest_interruption={self.longest:.1f}s")


def strike_under_load(database, kafka, points, topic, seed, rounds, orders, most_passages=3, share=1.0):
    """Strike every order in each round, or a random share (0 to 1) of them."""
    database.declare(topic)
    with Rounds(database, kafka, [topic], seed) as running:
        running.await_batches(1)
        Strikes(running, points, most_passages).run(rounds, orders, share)
    running.check().require_ok()
    return running.result


@lengths(1)
def test_relay_is_killed_at_each_point(struck, kafka, points, topic_name, rounds):
    """F1: kill -9 of the relay before and after each step of a batch, and of its recovery; the server restarts."""
    orders = with_action("kill", RELAY + (RECOVERY if rounds > 1 else []))
    result = strike_under_load(struck, kafka, points, topic_name, SEED, rounds, orders)
    assert result.reconnects >= rounds * len(orders)


@lengths(1)
def test_relay_fails_at_each_point(struck, kafka, points, topic_name, rounds):
    """F1: an error of the relay before and after each step of a batch; the launcher starts it again."""
    orders = with_action("error", RELAY)
    result = strike_under_load(struck, kafka, points, topic_name, SEED, rounds, orders, share=0.3 if rounds == 1 else 1)
    assert result.reconnects == 0


@lengths(1)
def test_sender_is_killed_at_each_point(struck, kafka, points, topic_name, rounds):
    """F1: kill -9 of the sender from the beginning of a transaction to its end unanswered, and in its fence."""
    orders = with_action("kill", SENDER + SENDER_RECOVERY)
    result = strike_under_load(struck, kafka, points, topic_name, SEED, rounds, orders)
    assert result.reconnects == 0


@lengths(1)
def test_backend_is_killed_in_emit(struck, kafka, points, topic_name, rounds):
    """F2: kill -9 of a backend in emit and in its commit callback; the server restarts."""
    orders = with_action("kill", EMIT)
    result = strike_under_load(struck, kafka, points, topic_name, SEED, rounds, orders, most_passages=50)
    assert result.reconnects >= rounds * len(EMIT)


@lengths(1)
def test_relay_is_struck_while_the_ring_rotates(struck, faulty, kafka, points, topic_name, rounds):
    """F1: kill -9 and error while the ring moves on, a leaf is locked, emptied but uncommitted, and empty."""
    faulty.configure(outbox__retention="2s")
    faulty.reload()
    orders = with_action("kill", RETENTION) + with_action("error", RETENTION)
    strike_under_load(struck, kafka, points, topic_name, SEED, rounds, orders, most_passages=1,
                      share=0.3 if rounds == 1 else 1)
    leaves = "select count(*) from generate_series(0, 7) n where pg_relation_size('outbox.event_' || n) = 0"
    struck.wait_for(f"select ({leaves}) >= 6", 60, what="the ring to be emptied")


@lengths(1)
def test_crash_between_refusal_row_and_resend(struck, kafka, points, topic_name, unique, rounds):
    """Poison: a crash at the refusal, after its row and before the batch is sent again; one row, no event lost."""
    refusing = struck.declare(kafka.create_topic(unique("refusing"), 1, {"max.message.bytes": "2000"}), 1)
    orders = [("kill", "relay-refusal-committed"), ("kill", "relay-read-again")]
    if rounds > 1:
        orders += [("kill", "sender-aborted"), ("kill", "relay-refused")]
    struck.declare(topic_name)
    expected = []
    with Rounds(struck, kafka, [topic_name], SEED, rate=200) as running:
        for number in range(rounds * len(orders)):
            with struck.connect(autocommit=False) as connection:
                for key, payload in ((f"{number}-a", "'{}'"), ("large", OVERSIZED), (f"{number}-b", "'{}'")):
                    connection.execute(f"select outbox.emit(%s, %s, 'T', {payload})", (refusing, key))
                action, point = orders[number % len(orders)]
                points.arm(point, action)
                with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
                    connection.commit()
            expected += [f"{number}-a", f"{number}-b"]
            points.await_fired(point)
            kafka.wait_for_records(refusing, len(expected))
            running.await_batches(1)
    running.check().require_ok()
    assert [record.key().decode() for record in kafka.read_all(refusing)] == expected
    letters = "select count(*), count(distinct event_id) from outbox.dead_letter where origin = 'relay' and topic = %s"
    assert struck.execute(letters, (refusing,)) == [(rounds * len(orders),) * 2]


@pytest.mark.parametrize("point", ["reissue-uncommitted", "reissue-committed"])
def test_relay_is_killed_while_a_dead_letter_returns(struck, faulty, kafka, points, topic_name, point):
    """Poison: a crash around the return of a replayed dead letter sends it once, before what its key held."""
    faulty.configure(outbox__dead_letter_policy="hold_key")
    faulty.reload()
    struck.declare(kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"}), 1)
    with struck.connect(autocommit=False) as connection:
        for event_type, payload in (("before", "'{}'"), ("large", OVERSIZED), ("after", "'{}'")):
            connection.execute(f"select outbox.emit(%s, 'k', %s, {payload})", (topic_name, event_type))
        connection.commit()
    letter = struck.wait_for("select id from outbox.dead_letter where state = 'open'", 60)
    limit_records(kafka, topic_name, 100000)
    points.arm(point)
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        struck.execute("select outbox.dead_letter_replay(%s, 'widened')", (letter,))
    points.await_fired(point)
    faulty.wait_ready()
    records = kafka.wait_for_records(topic_name, 3)
    assert [dict(record.headers())["ce_type"] for record in records] == [b"before", b"large", b"after"]
    struck.wait_for("select dead_letters_open = 0 and keys_held = 0 from outbox.relay_status", 60)
    assert len(kafka.read_all(topic_name)) == 3


@pytest.mark.parametrize("action", ["kill", pytest.param("error", marks=pytest.mark.long)])
def test_replay_is_struck_around_a_step(struck, faulty, kafka, points, topic_name, unique, action):
    """F1, row 003.4: kill -9 and an error before and after the commit of a step of a replay; each copy once, in order."""
    topic, target = struck.declare(topic_name, 1), struck.declare(unique("target"), 1)
    struck.execute("select outbox.emit(%s, n::text, 'T', '{}') from generate_series(1, 60) n", (topic,))
    struck.wait_state("idle")
    points.arm("replay-committed", action)
    points.arm("replay-uncommitted", action, 2)
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        struck.execute("select outbox.replay('-infinity', 'infinity', %s, target_topic => %s, rate => 60)",
                       (topic, target))
    for point in ("replay-committed", "replay-uncommitted"):
        points.await_fired(point)
        if action == "error":
            failed = struck.wait_for("select last_error from outbox.replays where state = 'failed'")
            assert failed == f"fault point {point}"
            # The step of 12 that was committed is there, the next one is not.
            assert struck.value("select count(*) from outbox.event where copied_at is not null") == 12
            struck.execute("select outbox.replay_resume(replay_id) from outbox.replays")
    kafka.wait_for_records(target, 60)
    faulty.wait_ready()
    struck.wait_for("select state = 'done' and replayed = 60 from outbox.replays")
    struck.wait_for("select coalesce(sum(events), 0) = 0 from outbox.backlog")
    assert [record.key().decode() for record in kafka.read_all(target)] == [str(n) for n in range(1, 61)]


@lengths(1, 10)
def test_relay_is_struck_while_a_topic_is_released(struck, kafka, points, topic_name, unique, rounds):
    """F1: kill -9 and an error around each row of a release, while its keys are emitted to; nothing lost or doubled,
    each key in its order."""
    topic, other = struck.declare(topic_name), struck.declare(unique("other"))
    orders = with_action("kill", RELEASE) + with_action("error", RELEASE if rounds > 1 else AFTER_COMMIT)
    left = "select state, released_at is null from outbox.topic_hold order by id desc limit 1"
    with Rounds(struck, kafka, [topic, other], SEED) as running:
        running.await_batches(1)
        for action, point in orders * rounds:
            struck.execute("select outbox.topic_hold(%s, 'struck')", (topic,))
            # More than goes with the end of a hold, so that there are steps before it.
            struck.execute("select count(checker.step(%s, (n %% 50)::text, 10)) from generate_series(1, 6000) n", (topic,))
            struck.wait_for("select coalesce(sum(events), 0) >= 6000 from outbox.topic_hold_batch b "
                            "join outbox.topic_hold h on h.id = b.hold and h.state = 'held'", 60)
            points.arm(point, action)
            with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
                struck.execute("select outbox.topic_release(%s)", (topic,))
            points.await_fired(point)
            wait_until(lambda: struck.execute(left) == [("ended", False)], 60, "the end of the hold")
            running.await_batches(1)
    running.check().require_ok()


@pytest.mark.parametrize("point", ["adopt-uncommitted", "adopt-committed"])
def test_relay_is_killed_in_adopt(struck, faulty, kafka, points, topic_name, point):
    """F1: kill -9 while outbox.adopt('resend') ends a hold: every event arrives, those of the last batches at most twice, which the log says."""
    struck.declare(topic_name, 1)
    for count, key in enumerate(("one", "two"), 1):
        struck.emit(topic_name, key)
        kafka.wait_for_records(topic_name, count)
    struck.stop_relay()
    struck.wait_state("stopped")
    forget_newest_batch(struck)
    struck.start_relay()
    struck.wait_state("hold")
    struck.emit(topic_name, "three")
    points.arm(point)
    since = faulty.log_size()
    with contextlib.suppress(psycopg.OperationalError):  # the server may end before it answers
        struck.execute("select outbox.adopt('resend')")
    points.await_fired(point)
    # The counter of doubled events died with the server's memory; the log is what is left.
    assert faulty.log_contains("ending the divergence by resend, batch 3 becomes the new base", since)
    faulty.wait_ready()
    wait_until(lambda: settle(struck), 60, "the end of the hold")
    wait_until(lambda: "three" in [r.key().decode() for r in kafka.read_all(topic_name)], 60, "the newest event")
    keys = [record.key().decode() for record in kafka.read_all(topic_name)]
    assert keys.count("one") in (1, 2) and keys.count("two") in (1, 2) and keys.count("three") == 1


def forget_newest_batch(database):
    """As after a failover to a standby that lagged: Kafka has a batch the database does not know."""
    with database.unguarded("outbox.batch"):
        database.execute("delete from outbox.batch where batch_no = (select max(batch_no) from outbox.batch)")


def settle(database):
    """Adopt again if the relay holds; true once it is idle with everything sent."""
    state = database.status()["state"]
    if state == "hold":
        database.execute("select outbox.adopt('resend')")
    return state == "idle" and not database.value("select coalesce(sum(events), 0) from outbox.backlog")


def test_error_in_emit_leaves_nothing(struck, kafka, points, topic_name):
    """F1: an error inside emit undoes the event whole; the transaction's other events are delivered."""
    struck.declare(topic_name, 1)
    expected = []
    for point in EMIT[:3]:
        points.arm(point, "error")
        with struck.connect(autocommit=False) as connection:
            with pytest.raises(Exception, match=f"fault point {point}"), connection.transaction():
                connection.execute("select outbox.emit(%s, 'undone', 'T', '{}')", (topic_name,))
            connection.execute("select outbox.emit(%s, %s, 'T', '{}')", (topic_name, point))
        expected.append(point)
    assert [r.key().decode() for r in kafka.wait_for_records(topic_name, 3)] == expected
    assert struck.value("select count(*) from outbox.event") == 3


def test_production_build_has_no_fault_points(session):
    """Fault points are in debug builds only; the library and the sender as installed hold nothing of them."""
    for name in ("outbox.so", "outbox-sender"):
        ordinary = session.environment.pkglibdir / name
        variant = next((session.environment.variant("faults").parents[3]).rglob(name))
        assert b"outbox_fault" in variant.read_bytes()
        assert b"outbox_fault" not in ordinary.read_bytes()
