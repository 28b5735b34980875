# SPDX-License-Identifier: PostgreSQL
"""Three brokers, and a topic of replication 1 whose broker is away: it is held apart, and comes back by itself."""

import os
import random
import time

import pytest
from confluent_kafka.admin import NewTopic
from harness import wait_until
from test_three_brokers import _cluster, cluster  # noqa: F401

pytestmark = pytest.mark.timeout(1200)
SEED = int(os.environ.get("OUTBOX_SEED", time.time_ns() // 10**6 % 10**6))
HOLDER = 3
HELD = "select count(*) from outbox.topic_hold where topic = %s and cause = 'leader' and state = %s"


class Apart:
    """A database of the build with fault points and short times, its relay on three brokers.

    alone  a topic of one partition, on broker HOLDER alone
    fine   a replicated one
    """

    def __init__(self, database, cluster, unique):
        self.database, self.cluster = database, cluster
        self.alone, self.fine = self.declare_alone(unique("alone")), unique("fine")
        database.execute("select outbox.declare_topic(%s, 1, replication_factor => 3)", (self.fine,))
        self.sent = 0

    def declare_alone(self, name):
        self.create_alone(name)
        return self.database.declare(name, 1)

    def create_alone(self, name):
        self.cluster.admin.create_topics([NewTopic(name, 1, replica_assignment=[[HOLDER]])])[name].result(30)

    def emit(self, count, events=1):
        """Transactions with so many events of either topic, keyed by their number."""
        for _ in range(count):
            self.database.execute("select outbox.emit(%s, n::text, 'T', '{}'), outbox.emit(%s, n::text, 'T', '{}')"
                                  " from generate_series(%s::int, %s::int) n",
                                  (self.alone, self.fine, self.sent + 1, self.sent + events))
            self.sent += events

    def expect(self, topic, timeout=90):
        """All that was emitted to the topic is there, once and in order."""
        records = self.cluster.wait_for_records(topic, self.sent, timeout)
        assert [record.key().decode() for record in records] == [str(number + 1) for number in range(self.sent)]

    def holder_goes(self):
        self.cluster.nodes[HOLDER].kill9()

    def holder_comes_back(self):
        self.cluster.nodes[HOLDER].start()

    def await_hold(self, state, timeout=90):
        self.database.wait_for(f"select ({HELD}) > 0", timeout, (self.alone, state))


@pytest.fixture
def apart(faulty, points, make_database, cluster, unique, request):  # noqa: F811
    """Held after 4 s without a leader and released after 2 s with all, instead of 30 s and 10 s, unless the parameter is False."""
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={cluster.bootstrap}", outbox__sender_idle_timeout="1s")
    faulty.reload()
    if getattr(request, "param", True):
        points.mutate("short_leader_times")
    found = Apart(make_database(faulty), cluster, unique)
    found.database.start_relay()
    return found


@pytest.mark.parametrize("apart", [pytest.param(True, id="short"), pytest.param(False, id="whole", marks=pytest.mark.long)],
                         indirect=True)
def test_the_others_go_on(apart):
    """A topic loses its leader under way: the others are delivered, last_error and the hold name topic and partition,
    and once the leader is back all of it comes in order, though the sender had nothing to do meanwhile."""
    apart.emit(3)
    apart.expect(apart.alone)
    apart.holder_goes()
    apart.emit(20)
    apart.expect(apart.fine)
    hold = apart.database.execute("select cause, state, partition, reason from outbox.topic_hold where topic = %s", (apart.alone,))
    assert [row[:3] for row in hold] == [("leader", "held", 0)]
    assert hold[0][3].startswith("no leader for ")
    assert apart.database.value("select last_error ~ %s from outbox.relay_status",
                                (f'topic "{apart.alone}" is held: no leader for \\d+ s \\(partition 0\\)',))
    apart.emit(20)
    apart.expect(apart.fine)
    apart.holder_comes_back()
    apart.await_hold("ended")
    apart.emit(5)
    apart.expect(apart.alone)
    apart.expect(apart.fine)


def test_a_topic_that_is_waited_for(apart, unique):
    """on_unavailable wait, which the dead letter topic has from its topic: nobody goes on, and last_error says for whom."""
    topic = unique("waiting")
    letters = f"{topic}.DLT"
    apart.create_alone(letters)
    apart.database.execute("select outbox.declare_topic(%s, 1, replication_factor => 3, on_unavailable => 'wait')", (topic,))
    apart.database.emit(letters, "before")
    apart.cluster.wait_for_records(letters, 1)
    apart.holder_goes()
    apart.database.emit(letters, "while away")
    apart.database.emit(apart.fine, "1")
    for _ in range(2):  # the time after which others are held has passed, and passes again
        apart.database.wait_for("select last_error like %s and last_error_at > now() - interval '1 s' from outbox.relay_status", 60,
                                (f'%partition 0 of topic "{letters}" has no leader:%',))
    assert apart.database.value("select count(*) from outbox.topic_hold") == 0
    assert apart.cluster.read_all(apart.fine) == []
    apart.holder_comes_back()
    assert [r.key() for r in apart.cluster.wait_for_records(letters, 2, 90)] == [b"before", b"while away"]
    apart.cluster.wait_for_records(apart.fine, 1)


@pytest.mark.long
def test_the_leader_goes_while_it_comes_back(apart, faulty, points):
    """In the middle of a release the leader is lost again: what was copied and did not pass is copied again, in order,
    and the others go on."""
    faulty.configure(outbox__batch_max_events="300")
    faulty.reload()
    apart.emit(3)
    apart.expect(apart.alone)
    apart.holder_goes()
    apart.emit(40, 200)
    apart.expect(apart.fine)
    points.arm("hold-copy-committed", "wait", 4)
    apart.holder_comes_back()
    points.await_fired("hold-copy-committed", 90)
    apart.cluster.wait_for_records(apart.alone, 4)  # the first of them is delivered, though the relay waits
    apart.holder_goes()
    points.release("hold-copy-committed")
    apart.await_hold("held")
    apart.emit(20)
    apart.expect(apart.fine)
    copies = "select count(*) from outbox.topic_hold_copy where refused_batch is "
    assert apart.database.value(copies + "null") > 0, "nothing had come back"
    assert apart.database.value(copies + "not null") > 0, "all had come back"
    apart.holder_comes_back()
    apart.await_hold("ended")
    apart.expect(apart.alone)
    apart.expect(apart.fine)


@pytest.mark.long
def test_the_leader_goes_behind_a_commit(apart, points):
    """A batch is committed and its topic's leader is lost before Kafka has marked it so: the next batches, which have
    nothing to do with that topic, go out, and what was committed is there once when the leader is back."""
    apart.emit(1)
    apart.expect(apart.alone)
    points.arm("sender-offsets-sent", "wait")
    apart.emit(1)
    points.await_fired("sender-offsets-sent")
    apart.holder_goes()
    apart.cluster.wait_leaderless(apart.alone)
    points.release("sender-offsets-sent")
    for number in range(3):
        apart.database.emit(apart.fine, f"alone {number}")
    records = apart.cluster.wait_for_records(apart.fine, 5, 90)
    assert [r.key() for r in records] == [b"1", b"2", b"alone 0", b"alone 1", b"alone 2"]
    apart.holder_comes_back()
    apart.expect(apart.alone)


@pytest.mark.long
def test_a_batch_that_is_only_half_handed_over(apart, faulty):
    """The batch is given up while most of it waits for the sender, whose queue is full: the same sender goes on with the
    others."""
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={apart.cluster.bootstrap}\nqueue.buffering.max.messages=50")
    faulty.reload()
    apart.emit(3)
    apart.expect(apart.alone)
    apart.holder_goes()
    apart.database.execute("select outbox.emit(%s, n::text, 'T', to_jsonb(repeat(md5(n::text), 300))),"
                           " outbox.emit(%s, n::text, 'T', '{}') from generate_series(4, 2000) n", (apart.alone, apart.fine))
    apart.sent = 2000
    apart.expect(apart.fine)
    assert not faulty.log_contains("do not understand each other")
    apart.holder_comes_back()
    apart.await_hold("ended")
    apart.expect(apart.alone)


@pytest.mark.long
@pytest.mark.parametrize("_cluster", [{"conf": {"auto.create.topics.enable": "false"}}], indirect=True)
def test_the_topic_is_deleted_while_it_is_held(apart, faulty):
    """The broker will not come back, and somebody deletes the topic: the relay makes it anew, and what was held follows."""
    faulty.configure(outbox__sender_idle_timeout="0")  # it goes on with what it knows of the topic
    faulty.reload()
    apart.emit(3)
    apart.expect(apart.alone)
    apart.holder_goes()
    apart.emit(3)
    apart.await_hold("held")
    apart.emit(20, 20)
    apart.expect(apart.fine)
    apart.cluster.admin.delete_topics([apart.alone], request_timeout=30, operation_timeout=1)[apart.alone].result(120)
    apart.await_hold("ended")
    apart.emit(5)
    apart.expect(apart.fine)
    assert apart.database.execute("select state, error_message, count(*) from outbox.dead_letter group by 1, 2") == []
    records = apart.cluster.wait_for_records(apart.alone, apart.sent - 3, 90)
    assert [r.key().decode() for r in records] == [str(number) for number in range(4, apart.sent + 1)]


@pytest.mark.long
def test_the_leader_comes_and_goes(apart):
    """Its broker dies and comes back eight times, before and after the topic is held, while it comes back and after it, and
    persons hold and release it meanwhile: once each and in order all of it arrives, and the others do not wait for it."""
    print("seed", SEED)
    chance = random.Random(SEED)
    held = "select count(*) > 0 from outbox.topic_hold where topic = %s and state = any (%s)"
    for _ in range(8):
        apart.holder_goes()
        apart.emit(chance.randint(1, 20), 20)
        if chance.random() < 0.6:
            apart.database.wait_for(held, 90, (apart.alone, ["held"]))
        if chance.random() < 0.3:
            apart.database.execute("select outbox.topic_hold(%s, 'chance')", (apart.alone,))
            apart.emit(2, 20)
            apart.database.execute("select outbox.topic_release(%s)", (apart.alone,))
        apart.emit(2, 20)
        apart.expect(apart.fine)
        apart.holder_comes_back()
        apart.emit(chance.randint(1, 20), 20)
        if chance.random() < 0.6 and apart.database.value(held, (apart.alone, ["held", "releasing"])):
            apart.database.wait_for(held, 90, (apart.alone, ["releasing", "ended"]))
    apart.expect(apart.alone, 180)
    apart.expect(apart.fine)


@pytest.mark.long
def test_at_least_once(apart, faulty):
    """The same without transactions: what was tried with the topic before it is held may come twice, and nothing overtakes."""
    def arrived(topic):
        keys = [record.key().decode() for record in apart.cluster.read_all(topic)]
        return list(dict.fromkeys(keys))

    def expect(topic):
        wait_until(lambda: len(arrived(topic)) >= apart.sent, 120, f"all of {topic}")
        assert arrived(topic) == [str(number + 1) for number in range(apart.sent)]

    faulty.configure(outbox__delivery="at_least_once")
    faulty.restart()
    apart.emit(3)
    expect(apart.alone)
    apart.holder_goes()
    apart.emit(20, 20)
    expect(apart.fine)
    assert apart.database.value(f"select ({HELD})", (apart.alone, "held")) == 1
    assert apart.database.value("select possibly_doubled > 0 from outbox.relay_status")
    apart.holder_comes_back()
    apart.await_hold("ended")
    apart.emit(5)
    expect(apart.alone)
    expect(apart.fine)


POINTS = ("hold-uncommitted", "hold-committed", "hold-release-uncommitted", "hold-release-committed")


def strike(apart, points, point):
    apart.emit(1)
    apart.expect(apart.alone)
    points.arm(point)
    apart.holder_goes()
    apart.emit(5)
    if not point.startswith("hold-release"):
        points.await_fired(point)
        apart.database.cluster.wait_ready()
    apart.expect(apart.fine)
    assert apart.database.value(f"select ({HELD})", (apart.alone, "held")) == 1
    apart.holder_comes_back()
    points.await_fired(point, 90)
    apart.database.cluster.wait_ready()
    apart.await_hold("ended")
    apart.emit(2)
    apart.expect(apart.alone)
    apart.expect(apart.fine)


def test_relay_is_killed_at_a_row(apart, points):
    """Around a row the relay is killed: the others are delivered before the leader is back, the topic after it, once."""
    point = random.Random(SEED).choice(POINTS)
    print("seed", SEED, point)
    strike(apart, points, point)


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_relay_is_killed_at_each_row(apart, points, point):
    """The same at each of them."""
    strike(apart, points, point)


LONE_LOG = {"conf": {"transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1"}}


@pytest.mark.long
@pytest.mark.parametrize("_cluster", [LONE_LOG], indirect=True)
def test_without_the_transaction_log_nothing_is_sent(apart):
    """The partition of Kafka's transaction log that the relay needs loses its leader: all waits, last_error names it, and
    nothing is held."""
    apart.sent += 1
    apart.database.emit(apart.fine, "1")
    apart.expect(apart.fine)
    node = apart.cluster.transaction_coordinator(apart.database.transactional_id())
    node.kill9()
    apart.sent += 1
    apart.database.emit(apart.fine, "2")
    apart.database.wait_for("select last_error like %s from outbox.relay_status", 120,
                            ('%partition % of topic "__transaction_state", which holds the relay\'s transactions, has no leader%',))
    assert apart.database.value("select count(*) from outbox.topic_hold") == 0
    node.start()
    apart.expect(apart.fine, 120)


@pytest.fixture
def lone_cursor(cluster):  # noqa: F811
    """outbox.cursor is on broker HOLDER alone, made before the first relay."""
    cluster.admin.create_topics([NewTopic("outbox.cursor", 1, replica_assignment=[[HOLDER]])])["outbox.cursor"].result(30)


@pytest.mark.long
@pytest.mark.parametrize("_cluster", [{"heap": "255m"}], indirect=True)
def test_without_the_cursors_topic_all_goes_on(lone_cursor, apart, faulty):
    """The cursor is an offset, and its topic holds no record: that this has no leader stops neither a relay nor its start."""
    apart.sent += 1
    apart.database.emit(apart.fine, "1")
    apart.expect(apart.fine)
    apart.holder_goes()
    apart.cluster.wait_leaderless("outbox.cursor")
    for _ in range(2):
        apart.sent += 1
        apart.database.emit(apart.fine, str(apart.sent))
        apart.expect(apart.fine)
        faulty.restart()
    assert apart.database.value("select count(*) from outbox.topic_hold") == 0
