# SPDX-License-Identifier: PostgreSQL
"""Order per key and exactly one effect in a consumer whose instances come, go and die under load."""

import itertools

import pytest
from checker import read_truth
from fault_rounds import Rounds
from harness import wait_until

SEED = 130001
WRITERS = 64
KEYS = 1000
PARTITIONS = 12


class Instances:
    """Processes of one consumer group on one database."""

    def __init__(self, program, database, kafka, service, topic, group):
        self.program = program
        self.database = database
        self.make_service = service
        self.numbers = itertools.count(1)
        self.living = {}
        self.config = {"database": database.dsn(), "bootstrap_servers": kafka.bootstrap, "group_id": group,
                       "topic": topic, "threads": 2, "batch_max": 100, "retry_backoff_ms": 100,
                       "kafka_properties": "session.timeout.ms=3000\nheartbeat.interval.ms=500"}

    def start_further(self):
        """A further instance; returns its name."""
        name = f"{self.config['group_id']}-{next(self.numbers)}"
        self.living[name] = self.make_service(self.program, {**self.config, "instance": name}, name, start=False)
        self.living[name].start(wait=False)
        return name

    def kill_one(self):
        name = next(iter(self.living))
        self.living.pop(name).kill9()

    def restart_one(self):
        """SIGTERM to the oldest and start it again."""
        name = next(iter(self.living))
        service = self.living.pop(name)
        assert service.stop() == 0
        self.living[name] = service
        service.start(wait=False)

    def effects(self, instance=None):
        return self.database.value("select count(*) from sequence.taken where %s::text is null or instance = %s",
                                   (instance, instance))

    def await_effects(self, count, timeout, instance=None):
        """Wait for so many effects more than there are now."""
        goal = self.effects(instance) + count
        wait_until(lambda: self.effects(instance) >= goal, timeout, f"{count} effects of {instance or 'any'}")


@pytest.fixture
def source(postgres, make_database, kafka, topic_name):
    """A database with its relay, for that many writers; its topic exists."""
    # Every writer may have a transaction prepared.
    postgres.configure(max_prepared_transactions=WRITERS)
    postgres.restart()
    kafka.create_topic(topic_name, PARTITIONS)
    source = make_database(postgres)
    source.declare(topic_name, PARTITIONS)
    source.start_relay()
    return source


@pytest.fixture
def instances(sequence_program, source, make_database, kafka, service, unique, topic_name):
    """Three instances at work on source's topic, with a database of their own."""
    database = make_database(source.cluster)
    database.declare(topic_name, PARTITIONS)
    database.cluster.psql_file(database.cluster.environment.root / "test" / "services" / "sequence.sql", database.name)
    instances = Instances(sequence_program, database, kafka, service, topic_name, unique("sequence"))
    for _ in range(3):
        instances.start_further()
    for instance in instances.living.values():
        instance.wait_ready()
    return instances


def check_effects(instances, truth):
    """Every event of truth has exactly one effect; of each key they were made in the order of commits."""
    rows = instances.database.execute("select event_id::text, key, rank from sequence.taken order by place")
    assert sorted(rows) == sorted((row.id, row.key, row.key_seq) for row in truth)
    latest = {}
    for _, key, rank in rows:
        assert rank > latest.get(key, 0), f"{key}: rank {rank} after {latest[key]}"
        latest[key] = rank
    assert instances.database.value("select count(*) from outbox.dead_letter") == 0


@pytest.mark.parametrize("rounds, rate", [(1, 500), pytest.param(10, 2000, marks=pytest.mark.long)])
def test_order_per_key(source, kafka, topic_name, instances, rounds, rate):
    """Row 001.3: 64 writers, 1,000 keys; instances are restarted, killed and added meanwhile."""
    with Rounds(source, kafka, [topic_name], SEED, writers=WRITERS, keys=KEYS, crew=16, group=5, rate=rate) as running:
        for _ in range(rounds):
            instances.await_effects(rate, 60)
            instances.restart_one()
            instances.await_effects(rate, 60)
            instances.kill_one()
            late = instances.start_further()
            # The killed one's partitions are given to others when its session has run out.
            instances.await_effects(1, 60, late)
            running.await_batches(1)
    running.check().require_ok()
    truth = read_truth(source.dsn())
    wait_until(lambda: instances.effects() >= len(truth), 60, "an effect of every event")
    check_effects(instances, truth)
    shares = dict(instances.database.execute("select instance, count(*) from sequence.taken group by 1"))
    print(f"events={len(truth)} keys={len({row.key for row in truth})} {shares}")
    assert len(shares) == 3 + rounds
    moved = "select count(*) from (select from sequence.taken group by key having count(distinct instance) > 1) k"
    assert instances.database.value(moved) > 0
    for instance in instances.living.values():
        assert instance.stop() == 0
