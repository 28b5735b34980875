# SPDX-License-Identifier: PostgreSQL
"""A KRaft cluster of three brokers with replication 3, whose nodes tests stop, kill and freeze."""

import uuid
from concurrent.futures import ThreadPoolExecutor

from .environment import free_port
from .kafka import KafkaBroker, KafkaClient
from .network import Network
from .wait import wait_until

_SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # A follower that does not fetch leaves the in-sync replicas soon.
    "replica.lag.time.max.ms": "3000",
}


class KafkaCluster(KafkaClient):
    """Nodes 1 to 3, each broker and controller; nodes[id] is its KafkaBroker.

    apart  each node in a network namespace of its own, so that network.cut(id) parts it from all; needs root
    """

    replication = 3

    def __init__(self, session, name="kafka-three", heap="256m", conf=None, apart=False):
        self.network = Network(session, (1, 2, 3)) if apart else None
        hosts = self.network.addresses if apart else dict.fromkeys((1, 2, 3), "127.0.0.1")
        controllers = {number: f"{host}:{free_port()}" for number, host in hosts.items()}
        cluster_id = uuid.uuid4()

        def make(number):
            return KafkaBroker(session, f"{name}-{number}", {**_SETTINGS, **(conf or {})}, heap,
                               member=(cluster_id, number, controllers), network=self.network)
        with ThreadPoolExecutor(3) as pool:
            self.nodes = dict(zip(controllers, pool.map(make, controllers)))
        super().__init__(",".join(node.bootstrap for node in self.nodes.values()))

    def start(self, timeout=120.0):
        """Start, wake and connect every node, and wait until each partition has all its replicas in sync."""
        if self.network:
            self.network.heal()
        for node in self.nodes.values():
            if node.running:
                node.resume()
            else:
                node.start(wait=False)
        wait_until(lambda: len(self.admin.list_topics(timeout=5).brokers) == 3, timeout, "three brokers")
        wait_until(self._in_sync, timeout, "all replicas in sync")
        return self

    def _in_sync(self):
        topics = self.admin.list_topics(timeout=5).topics.values()
        return all(len(part.isrs) == len(part.replicas) and part.leader >= 0
                   for topic in topics for part in topic.partitions.values())

    def stop(self):
        for node in self.nodes.values():
            if node.running:
                node.resume()
                node.kill9()

    def leader(self, topic, partition=0):
        """The node that leads the partition, as the cluster says now."""
        def known():
            found = self.admin.list_topics(topic, timeout=5).topics[topic].partitions[partition].leader
            return found if found > 0 else None
        return self.nodes[wait_until(known, 60, f"a leader of {topic}/{partition}")]

    def wait_leaderless(self, topic, partition=0):
        """Until the cluster says that nobody leads the partition."""
        wait_until(lambda: self.admin.list_topics(topic, timeout=5).topics[topic].partitions[partition].leader < 0, 60,
                   f"{topic}/{partition} to have no leader")

    def transaction_coordinator(self, transactional_id):
        """The node that coordinates the transactional id."""
        topic = "__transaction_state"
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        return self.leader(topic, abs(java_hash(transactional_id)) % len(partitions))


def java_hash(text):
    """String.hashCode of Java, for ASCII."""
    value = 0
    for byte in text.encode():
        value = (31 * value + byte) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
