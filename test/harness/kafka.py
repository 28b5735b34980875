# SPDX-License-Identifier: PostgreSQL
"""A KRaft broker, alone or as a node of a cluster, and an existing one named by the environment."""

import os
import shutil
import signal
import subprocess
import uuid

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from .environment import free_port
from .process import ChildProcess
from .proxy import KafkaProxy
from .wait import wait_until

_SETTINGS = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    "auto.create.topics.enable": "true",
    "num.partitions": "3",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "broker.heartbeat.interval.ms": "500",
    # A killed broker may register again only when its old session has run out.
    "broker.session.timeout.ms": "3000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "controlled.shutdown.enable": "false",
    # A quota counts at once, not after ten seconds of it.
    "quota.window.num": "3",
}

_LOG4J = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.kafka.name = kafka.server.KafkaRaftServer
logger.kafka.level = info
logger.coordinator.name = kafka.coordinator.transaction.TransactionCoordinator
logger.coordinator.level = info
"""

# Compiling little starts soonest; a benchmark's broker takes Java's default instead.
_FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


class KafkaClient:
    """What tests ask of any broker; bootstrap is host:port, or several with commas."""

    replication = 1  # of topics that tests create

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._admin = None

    @property
    def admin(self):
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self._admin

    def wait_ready(self, timeout=60.0):
        """Wait until the broker answers a metadata request."""
        wait_until(lambda: self.admin.list_topics(timeout=2).brokers, timeout, f"Kafka at {self.bootstrap}")

    def topics(self):
        """Names of the topics, without Kafka's own."""
        return sorted(t for t in self.admin.list_topics(timeout=10).topics if not t.startswith("__"))

    def create_topic(self, name, partitions=3, config=None):
        """Create a topic and wait until it can be used. Returns its name."""
        self.create_topics([name], partitions, config)
        return name

    def create_topics(self, names, partitions=3, config=None):
        """Create topics and wait until they can be used."""
        topics = [NewTopic(name, num_partitions=partitions, replication_factor=self.replication, config=config or {})
                  for name in names]
        for created in self.admin.create_topics(topics).values():
            created.result(30)

        def has_leaders(name, known):
            found = known[name].partitions if name in known else {}
            return len(found) == partitions and all(p.leader >= 0 for p in found.values())

        def all_have_leaders():
            known = self.admin.list_topics(timeout=5).topics
            return all(has_leaders(name, known) for name in names)
        wait_until(all_have_leaders, 30, f"leaders of {', '.join(names)}")

    def delete_topic(self, name):
        self.delete_topics([name])

    def delete_topics(self, names):
        """Delete those of names that exist, and wait until they are gone."""
        present = set(names) & set(self.topics())
        if present:
            for deleted in self.admin.delete_topics(list(present)).values():
                deleted.result(30)
            wait_until(lambda: not present & set(self.topics()), 20, "the topics to be gone")

    def describe_topic(self, name):
        """{"partitions": n, "replication": n, "config": {name: value}} or None when it does not exist.

        Never creates the topic."""
        found = self.admin.list_topics(timeout=10).topics.get(name)
        if found is None or found.error is not None:
            return None
        resource = ConfigResource(ResourceType.TOPIC, name)
        config = self.admin.describe_configs([resource])[resource].result(30)
        replication = len(next(iter(found.partitions.values())).replicas)
        return {
            "partitions": len(found.partitions),
            "replication": replication,
            "config": {key: entry.value for key, entry in config.items()},
        }

    def group_offsets(self, group):
        """{(topic, partition): (offset, metadata)} as committed by a consumer group."""
        request = [ConsumerGroupTopicPartitions(group)]
        result = self.admin.list_consumer_group_offsets(request)[group].result(30)
        return {(p.topic, p.partition): (p.offset, p.metadata) for p in result.topic_partitions}

    def producer_epoch(self, transactional_id):
        """The epoch of a transactional.id, which every fence raises: newest record of Kafka's own log.

        None when Kafka has none or has forgotten it."""
        name = transactional_id.encode()
        wanted = (0).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name  # TransactionLogKey, version 0
        epoch = None
        for record in self.read_all("__transaction_state"):
            if record.key() == wanted:
                value = record.value()
                epoch = int.from_bytes(value[10:12], "big") if value else None  # after version and producer id
        return epoch

    def group_generation(self, group):
        """How often a consumer group's partitions were given out: newest record of Kafka's own log; None when it has none."""
        name = group.encode()
        wanted = (2).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name  # GroupMetadataKey, version 2
        generation = None
        for record in self.read_all("__consumer_offsets"):
            if record.key() == wanted and record.value():
                value = record.value()
                after = 4 + int.from_bytes(value[2:4], "big")  # version, protocol type
                generation = int.from_bytes(value[after:after + 4], "big")
        return generation

    def consumer(self, group=None, **config):
        """A read_committed consumer from offset 0 with auto commit off; the caller closes it."""
        values = {
            "bootstrap.servers": self.bootstrap,
            "group.id": group or f"test-{uuid.uuid4()}",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        values.update({key.replace("_", "."): value for key, value in config.items()})
        return Consumer(values)

    def producer(self, **config):
        """A producer whose records stand in each partition once and in the order of the calls, also when a request
        was refused and tried again; keys choose partitions as the relay's do.

        Idempotence alone keeps the order only where Kafka has a record of the producer already: a topic just made
        takes any sequence number as its first. So one request at a time is under way."""
        values = {"bootstrap.servers": self.bootstrap, "partitioner": "murmur2_random", "enable.idempotence": True,
                  "max.in.flight.requests.per.connection": 1}
        values.update({key.replace("_", "."): value for key, value in config.items()})
        return Producer(values)

    def read_all(self, *topics, timeout=60.0, isolation="read_committed"):
        """All records from offset 0 to the end as it is now, as confluent_kafka Messages.

        The end is the last stable offset for read_committed: what is in an open
        transaction is not waited for. Topics that do not exist count as empty.
        """
        consumer = self.consumer(isolation_level=isolation, enable_partition_eof=True)
        try:
            known = self.admin.list_topics(timeout=10).topics
            parts = [TopicPartition(t, p, 0) for t in topics if t in known for p in known[t].partitions]
            waiting = {(p.topic, p.partition) for p in parts}
            records = []
            if not parts:
                return records
            consumer.assign(parts)

            def drained():
                for message in consumer.consume(10000, 0.2):
                    if message.error() is None:
                        records.append(message)
                        waiting.add((message.topic(), message.partition()))
                    elif message.error().name() == "_PARTITION_EOF":
                        waiting.discard((message.topic(), message.partition()))
                return not waiting
            wait_until(drained, timeout, f"the end of {', '.join(topics)}", interval=0)
            return records
        finally:
            consumer.close()

    def wait_for_records(self, topic, count, timeout=60.0):
        """Wait until topic holds at least count committed records; returns all of them."""
        records = []
        consumer = self.consumer(topic_metadata_refresh_interval_ms=250)
        consumer.subscribe([topic])

        def enough():
            for message in consumer.consume(max(1, min(10000, count - len(records))), 0.2):
                if message.error() is None:
                    records.append(message)
            return len(records) >= count
        try:
            wait_until(enough, timeout, f"{count} records in {topic}", interval=0)
        except AssertionError as error:
            raise type(error)(f"{error}; it held {len(records)}") from None
        finally:
            consumer.close()
        return records


class KafkaBroker(KafkaClient):
    """A broker of our own: start, stop, kill9, pause, resume; data stays between starts.

    proxied  a second listener, which clients reach through proxy() only
    member   (cluster id, node id, {node id: host:port of its controller}) of a node of a cluster
    network  the Network the node is a member of, instead of this machine's own
    """

    def __init__(self, session, name="kafka", conf=None, heap="384m", fast_start=True, proxied=False, member=None,
                 network=None):
        self.port = free_port()
        self.cluster_id, self.node_id, controllers = member or (uuid.uuid4(), 1, {1: f"127.0.0.1:{free_port()}"})
        self.network = network
        self.address = network.addresses[self.node_id] if network else "127.0.0.1"
        super().__init__(f"{self.address}:{self.port}")
        self.session = session
        self.environment = session.environment
        self.name = name
        self.data = self.environment.make_directory(session.data / name)
        self.child = ChildProcess(session, name)
        self.heap = heap
        self.jvm_options = _FAST_START if fast_start else ()
        self.proxy_ports = (free_port(), free_port()) if proxied else None
        self.settings = {
            **_SETTINGS,
            "node.id": str(self.node_id),
            **self._listeners(controllers[self.node_id]),
            "controller.quorum.voters": ",".join(f"{node}@{where}" for node, where in controllers.items()),
            "log.dirs": str(self.data / "log"),
            **(conf or {}),
        }
        self.properties = self.data / "server.properties"
        self.properties.write_text("".join(f"{k}={v}\n" for k, v in self.settings.items()))
        (self.data / "log4j2.properties").write_text(_LOG4J)
        session.on_close(self.stop)
        self._format()

    def _listeners(self, controller):
        own = f"PLAINTEXT://{self.bootstrap}"
        listeners, advertised = f"{own},CONTROLLER://{controller}", own
        if self.proxy_ports:
            outside, inside = self.proxy_ports
            listeners += f",PROXIED://127.0.0.1:{inside}"
            advertised += f",PROXIED://127.0.0.1:{outside}"
        return {"listeners": listeners, "advertised.listeners": advertised}

    def proxy(self):
        """A new KafkaProxy before this broker; the caller closes it. Its bootstrap leads all traffic through it."""
        return KafkaProxy(*self.proxy_ports)

    def _java(self, main, *arguments):
        return [
            self.environment.java(), f"-Xmx{self.heap}", *self.jvm_options,
            f"-Dlog4j2.configurationFile={self.data / 'log4j2.properties'}",
            "-cp", self.environment.jars("broker"), main, *arguments,
        ]

    def _format(self):
        done = subprocess.run(
            [str(a) for a in self._java("kafka.tools.StorageTool", "format", "-t", self.cluster_id, "-c", self.properties)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
            **self.environment.popen_identity(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"formatting Kafka's storage failed:\n{done.stdout}")

    def replace(self):
        """End the broker and put an empty one in its place, at its address; not started."""
        self.kill9()
        shutil.rmtree(self.data / "log")
        self.cluster_id = uuid.uuid4()
        self._format()

    @property
    def pid(self):
        return self.child.pid

    @property
    def running(self):
        return self.child.running

    def start(self, wait=True, timeout=90.0):
        command = self._java("kafka.Kafka", self.properties)
        if self.network:
            self.network.call(self.node_id, self.child.spawn, command)
        else:
            self.child.spawn(command)
        if wait:
            self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=90.0):
        def answers():
            self.child.require_running()
            return self.admin.list_topics(timeout=2).brokers
        wait_until(answers, timeout, f"Kafka at {self.bootstrap}")

    def stop(self, timeout=30.0):
        if self.running:
            self.resume()
        return self.child.stop(signal.SIGTERM, timeout)

    def kill9(self):
        return self.child.kill9()

    def restart(self):
        self.stop()
        return self.start()

    def pause(self):
        """Freeze the broker: connections stay open, nothing answers."""
        self.child.freeze()

    def resume(self):
        self.child.send_signal(signal.SIGCONT)


def open_kafka(session, **options):
    """The broker KAFKA_BOOTSTRAP names, else a started one of our own."""
    bootstrap = os.environ.get("KAFKA_BOOTSTRAP")
    if bootstrap:
        client = KafkaClient(bootstrap)
        client.wait_ready(30)
        return client
    return KafkaBroker(session, **options).start()
