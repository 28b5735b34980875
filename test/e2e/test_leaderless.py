# SPDX-License-Identifier: PostgreSQL
"""Three brokers, and a topic of replication 1 whose broker is away: it is held apart, and comes back by itself."""

import pytest
from confluent_kafka.admin import NewTopic
from harness import wait_until
from test_three_brokers import _cluster, cluster  # noqa: F401

pytestmark = pytest.mark.timeout(1200)
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

    def declare_alone(self, name, **options):
        self.cluster.admin.create_topics([NewTopic(name, 1, replica_assignment=[[HOLDER]])])[name].result(30)
        return self.database.declare(name, 1, **options)

    def emit(self, count):
        """Transactions with an event of either topic, keyed by their number."""
        for _ in range(count):
            self.sent += 1
            self.database.execute("select outbox.emit(%s, %s, 'T', '{}'), outbox.emit(%s, %s, 'T', '{}')",
                                  (self.alone, str(self.sent), self.fine, str(self.sent)))

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
def apart(faulty, points, make_database, cluster, unique):  # noqa: F811
    faulty.configure(outbox__kafka_properties=f"bootstrap.servers={cluster.bootstrap}")
    faulty.reload()
    points.mutate("short_leader_times")
    found = Apart(make_database(faulty), cluster, unique)
    found.database.start_relay()
    return found


def test_the_others_go_on(apart):
    """A topic loses its leader under way: the others are delivered, last_error and the hold name topic and partition,
    and once the leader is back all of it comes in order."""
    apart.emit(3)
    apart.expect(apart.alone)
    apart.holder_goes()
    apart.emit(20)
    apart.expect(apart.fine)
    hold = apart.database.execute("select cause, state, partition, reason from outbox.topic_hold where topic = %s", (apart.alone,))
    assert [row[:3] for row in hold] == [("leader", "held", 0)]
    assert "partition 0 has had no leader for" in hold[0][3]
    assert f'topic "{apart.alone}" is held: partition 0' in apart.database.value("select last_error from outbox.relay_status")
    apart.emit(20)
    apart.expect(apart.fine)
    apart.holder_comes_back()
    apart.await_hold("ended")
    apart.emit(5)
    apart.expect(apart.alone)
    apart.expect(apart.fine)
