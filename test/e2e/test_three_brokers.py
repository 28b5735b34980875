# SPDX-License-Identifier: PostgreSQL
"""Three brokers with replication 3: leaders, coordinators and majorities go away under load and come back."""

import contextlib
import itertools
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from back_to_back import assert_no_rebuild, write_singly
from checker import check_database
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from fault_rounds import Rounds, lengths
from harness import Environment, KafkaCluster, run_topics, wait_until
from test_log_made_anew import Log, Reader

SEED = 40011

# The rounds of make check-long.
pytestmark = pytest.mark.timeout(1200)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def _cluster(session, request):
    cluster = KafkaCluster(session, f"kafka-three-{next(_numbers)}", **getattr(request, "param", {}))
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(_cluster):
    """The module's three brokers, all up and in sync however the last test left them."""
    return _cluster.start()


@pytest.fixture
def on_three(database, postgres, cluster):
    """The fresh database, whose relay will speak to the three brokers."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={cluster.bootstrap}")
    postgres.reload()
    return database


@pytest.fixture
def replicated(on_three, topic_name):
    """A topic declared with 6 partitions and replication 3, and the relay started. Returns the topic's name."""
    on_three.execute("select outbox.declare_topic(%s, 6, replication_factor => 3)", (topic_name,))
    on_three.start_relay()
    return topic_name


@pytest.mark.long
def test_monitor(cluster, service, unique):
    """Row 004.14: with one broker of three away every group is still told of, under its new coordinator."""
    topic = cluster.create_topic(unique("watched"), 3)
    groups = [unique("watching") for _ in range(9)]

    for group in groups:
        with contextlib.closing(cluster.consumer(group)) as consumer:
            wait_until(lambda: consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False), 60, "the commit")
    watch = service("outbox-monitor", {"bootstrap_servers": cluster.bootstrap, "poll_seconds": 1,
                                       "kafka_timeout_ms": 3000})

    def told():
        """The groups that are answered for."""
        status, text = watch.request("GET", "/consumer-lag")
        found = json.loads(text).get("groups", []) if status == 200 else []
        return {group["group"] for group in found if "error" not in group and group["total_lag"] == 0}
    wait_until(lambda: told() >= set(groups), 30, "all groups")
    cluster.nodes[2].kill9()
    began = time.time()

    def told_again():
        status, text = watch.request("GET", "/consumer-lag")
        return status == 200 and json.loads(text)["measured_at"] > stamp and told() >= set(groups)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began + 10))  # when the client has seen it go
    wait_until(told_again, 90, "all groups without a broker")


def test_monitor_of_a_silent_leader(cluster, service, unique):
    """A leader that does not answer hides the lag of its own partitions, and no other group's."""
    topic, group = cluster.create_topic(unique("led"), 3), unique("led")
    with contextlib.closing(cluster.consumer(group)) as consumer:
        places = [TopicPartition(topic, number, 0) for number in range(3)]
        wait_until(lambda: consumer.commit(offsets=places, asynchronous=False), 60, "the commit")
    watch = service("outbox-monitor", {"bootstrap_servers": cluster.bootstrap, "poll_seconds": 1,
                                       "kafka_timeout_ms": 1000})

    def answer():
        status, text = watch.request("GET", f"/consumer-lag/{group}")
        return json.loads(text) if status == 200 else {"partitions": [], "measured_at": text}

    def lags():
        return {part["partition"]: part["lag"] for part in answer()["partitions"]}
    wait_until(lambda: lags() == {0: 0, 1: 0, 2: 0}, 60, "all lags")

    def leaders(node=None):
        """As that node sees them: another may not answer."""
        admin = AdminClient({"bootstrap.servers": node.bootstrap, "log_level": 0}) if node else cluster.admin
        return {number: part.leader for number, part in admin.list_topics(topic, timeout=5).topics[topic].partitions.items()}

    def balanced():
        cluster.admin.elect_leaders(ElectionType.PREFERRED, places).result(10)
        return len(set(leaders().values())) == 3

    def silence():
        """Freeze a leader until Kafka gives its partitions away; were the others' lags told while its own was not?"""
        wait_until(balanced, 60, "a leader for each partition")
        led = leaders()
        coordinator = cluster.admin.describe_consumer_groups([group])[group].result(30).coordinator.id
        silent = next(leader for leader in led.values() if leader != coordinator)
        expected = {number: None if leader == silent else 0 for number, leader in led.items()}
        told = []
        cluster.nodes[silent].pause()
        try:
            wait_until(lambda: told.append(lags()) or expected in told or silent not in leaders(cluster.nodes[coordinator]).values(), 60,
                       "the others' lags alone")
        finally:
            cluster.nodes[silent].resume()
        wait_until(lambda: lags() == {0: 0, 1: 0, 2: 0}, 60, "all lags again")
        return expected in told
    assert any(silence() for _ in range(12))


def test_consumer_of_a_silent_leader(cluster, database, service, unique):
    """A leader that answers no longer when a consumer gets its partitions anew: its log cannot be checked, the others' are,
    they are read, and SIGTERM ends the process."""
    reader = Reader(cluster, database, service, unique("led"))
    log = reader.add(Log(unique("led"), partitions=3, ids=False))
    reader.produce(log, 3)
    reader.flush()
    reader.start()
    reader.wait_effects()
    assert reader.service.restart()  # now the logs are checked, over connections to all leaders
    leaders = {number: part.leader for number, part in cluster.admin.list_topics(log.name, timeout=10).topics[log.name].partitions.items()}

    def group():
        return cluster.admin.describe_consumer_groups([reader.group])[reader.group].result(30)
    silent = next(leader for leader in leaders.values() if leader != group().coordinator.id)
    others = [number for number, leader in leaders.items() if leader != silent]

    def effects():
        return database.value("select count(*) from app.effect where partition = any(%s)", (others,))
    os.kill(reader.service.pid, signal.SIGSTOP)
    wait_until(lambda: not group().members, 60, "the member is given up")
    reader.produce(log, 3)
    reader.flush()
    cluster.nodes[silent].pause()
    try:
        os.kill(reader.service.pid, signal.SIGCONT)
        wait_until(lambda: effects() == 6 * len(others), 100, "the others' records")
        assert reader.service.stop(60) == 0
    finally:
        cluster.nodes[silent].resume()
    reader.start()
    reader.wait_effects()
    assert reader.metric("outbox_consumer_log_changes_total", log) == 0
    assert reader.service.stop() == 0


class Interruptions:
    """How long the relay stood still after each blow."""

    def __init__(self):
        self.longest = 0.0

    def measure(self, running, blow):
        blow()
        began = time.monotonic()
        running.await_batches(2, 120)
        self.longest = max(self.longest, time.monotonic() - began)


def finish(database, running, longest):
    """Judge the run: nothing lost, doubled or out of order, nobody helped the relay, no writer noticed."""
    report = running.check(180).require_ok()
    print(f"longest interruption {longest:.1f} s, {report.summary()}")
    assert database.status()["hold_reason"] is None
    assert running.result.reconnects == 0


def test_declared_topics_are_replicated(on_three, cluster, topic_name):
    """Row 002.1 at the relay: declared topics and their dead letter topics get 6 partitions and replication 3.

    The brokers would give 3 partitions, and replication 3 to the one that asks for 2."""
    for factor in (3, 2):
        on_three.execute("select outbox.declare_topic(%s, 6, replication_factor => %s)", (f"{topic_name}_{factor}", factor))
    on_three.start_relay()
    for factor in (3, 2):
        for name in (f"{topic_name}_{factor}", f"{topic_name}_{factor}.DLT"):
            on_three.emit(name, "k")
            cluster.wait_for_records(name, 1, 120)
            found = cluster.describe_topic(name)
            assert (found["partitions"], found["replication"]) == (6, factor), name
    cursor = cluster.describe_topic("outbox.cursor")
    assert (cursor["partitions"], cursor["replication"]) == (1, 3)


FINE = ("orders.created", "orders.cancelled", "payments.completed", "inventory.reserved", "orders.flagged")
DAY = 24 * 3600 * 1000


def alter_topic(cluster, name, **settings):
    """Set topic settings by hand."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[
        ConfigEntry(key.replace("__", "."), value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()])
    cluster.admin.incremental_alter_configs([resource])[resource].result(30)


def plan_until(cluster, path, *lines):
    """The plan once every broker knows what was done by hand: it has the lines."""
    def see_lines():
        planned = run_topics(cluster, "plan", path)
        told = planned.stdout.splitlines()
        return told if planned.returncode == 3 and set(lines) <= set(told) else None
    return wait_until(see_lines, 60, f"a plan with {lines}")


def test_fine_profile(cluster):
    """Row 002.1: apply makes the topics as the profile says; a second has nothing to do; drift is shown, of settings mended."""
    path = Environment().root / "examples" / "profiles" / "fine.conf"
    names = [*FINE, *(f"{name}.DLT" for name in FINE)]
    try:
        cluster.delete_topics(names)
        applied = run_topics(cluster, "apply", path)
        assert applied.returncode == 0, applied.stderr
        for name in names:
            found = cluster.describe_topic(name)
            assert (found["partitions"], found["replication"]) == (6, 3), name
            days = 30 if name.endswith(".DLT") else 7
            assert {key: found["config"][key] for key in ("min.insync.replicas", "retention.ms", "cleanup.policy")} == {
                "min.insync.replicas": "2", "retention.ms": str(days * DAY), "cleanup.policy": "delete"}, name
        again = run_topics(cluster, "apply", path)
        assert (again.returncode, again.stdout) == (0, "no difference: 10 topics\n")

        alter_topic(cluster, "payments.completed", retention__ms="3600000", min__insync__replicas="1")
        alter_topic(cluster, "orders.flagged.DLT", retention__ms="-1")
        longer = f"! orders.flagged.DLT: retention.ms -1, wanted {30 * DAY}: records would be deleted, so only with --allow-shrink"
        drift = [f"~ payments.completed: retention.ms 3600000 -> {7 * DAY}", "~ payments.completed: min.insync.replicas 1 -> 2", longer]
        assert plan_until(cluster, path, *drift) == drift
        # A broker that has not heard of a change yet finds nothing to mend in it: apply again.
        wait_until(lambda: run_topics(cluster, "apply", path, "--allow-shrink").returncode == 0 and
                   run_topics(cluster, "plan", path).returncode == 0, 60, "no difference")

        cluster.delete_topics(["orders.created", "inventory.reserved"])
        cluster.admin.create_topics([NewTopic("orders.created", 3, 2)])["orders.created"].result(30)
        wait_until(lambda: cluster.describe_topic("orders.created"), 60, "the topic made by hand")
        drift = plan_until(cluster, path, "! orders.created: replication 2, wanted 3: replicas are moved by"
                                          " kafka-reassign-partitions, not by this program")
        assert any(line.startswith("! orders.created: partitions 3, wanted 6") for line in drift)
        assert any(line.startswith("+ inventory.reserved: partitions=6 replication=3 retention.ms=604800000"
                                   " cleanup.policy=delete") for line in drift)
    finally:
        cluster.delete_topics(names)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_back_to_back_transactions_on_three_brokers(on_three, postgres, cluster, replicated, count):
    """Torn transactions: 1,000 Kafka transactions in a row on three brokers see no producer rebuilt."""
    postgres.configure(outbox__batch_max_events=1)
    postgres.reload()
    write_singly(on_three, replicated, count)
    check_database(on_three.dsn(), cluster.bootstrap, [replicated], 600).require_ok()
    assert_no_rebuild(on_three, "".join(node.child.log() for node in cluster.nodes.values()), count)


@pytest.mark.long
@pytest.mark.parametrize("victim", ["leader", "coordinator"])
def test_broker_is_killed(on_three, cluster, replicated, victim):
    """Row 004.11: kill -9 of the topic's leader, or of the coordinator of the relay's transactions, under load."""
    rounds, found = 10, Interruptions()

    def choose(number):
        if victim == "leader":
            return cluster.leader(replicated, number % 6)
        return cluster.transaction_coordinator(on_three.transactional_id())

    with Rounds(on_three, cluster, [replicated], SEED, rate=200) as running:
        running.await_batches(3, 120)
        for number in range(rounds):
            node = choose(number)
            found.measure(running, node.kill9)
            if number + 1 < rounds:
                cluster.start()
                running.await_batches(running.choose.randint(1, 25))
    finish(on_three, running, found.longest)


def place_orders(database, halt):
    """Orders for the payment service, each in a transaction of its own, until halt is set. Returns their number."""
    with database.connect() as connection:
        for number in itertools.count():
            connection.execute(
                "select outbox.emit('orders.created', o, 'OrderCreated', jsonb_build_object('orderId', o, 'customerId',"
                " 'ada', 'amount', 0.01, 'currency', 'EUR', 'items', '[]'::jsonb, 'createdAt', '2026-01-01T00:00:00.000Z'))"
                " from (values ('order-' || %s)) as orders (o)", (number,)
            )
            if halt.wait(0.02):
                return number + 1


def kill_leaders(database, cluster, rounds):
    """Kill a leader of the orders, again and again; each time orders placed after it are paid by themselves."""
    paid = "select count(*) from shop.payment where status = 'approved'"
    for number in range(rounds):
        database.wait_for(f"select ({paid}) > {database.value(paid) + 20}", 120)
        cluster.leader("orders.created", number % 6).kill9()
        placed = database.value("select count(*) from outbox.event where topic = 'orders.created'")
        database.wait_for(f"select ({paid}) > {placed + 20}", 120)
        if number + 1 < rounds:
            cluster.start()


@lengths(1, 10)
def test_relay_and_consumer_outlive_leaders(on_three, postgres, cluster, service, unique, rounds):
    """Row 004.11: the leader of relayed and consumed partitions is killed under load: each order paid once, nobody helps."""
    postgres.psql_file(postgres.environment.root / "examples" / "shop" / "payment.sql", on_three.name)
    on_three.start_relay()
    service("outbox-payment", {
        "database": on_three.dsn(user="payment_service"), "bootstrap_servers": cluster.bootstrap,
        "group_id": unique("payment"), "kafka_properties": "topic.metadata.refresh.interval.ms=500",
    })
    halt = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        placing = pool.submit(place_orders, on_three, halt)
        try:
            kill_leaders(on_three, cluster, rounds)
            assert not placing.done()
        finally:
            halt.set()
        expected = sorted(f"order-{number}" for number in range(placing.result()))
    for topic in ("orders.created", "payments.completed"):
        cluster.wait_for_records(topic, len(expected), 120)
        found = sorted(record.key().decode() for record in cluster.read_all(topic))
        assert found == expected, f"{topic}: {len(found)} records"
    assert on_three.value("select count(*) from shop.payment where status = 'approved'") == len(expected)
    assert on_three.value("select count(*) from outbox.dead_letter") == 0


@pytest.mark.long
def test_frozen_leader_wakes_up(on_three, cluster, replicated):
    """A leader frozen until others lead, then awake with what waited in its sockets, as after a partition."""
    rounds, found = 10, Interruptions()
    with Rounds(on_three, cluster, [replicated], SEED + 1, rate=200) as running:
        running.await_batches(3, 120)
        for number in range(rounds):
            node = cluster.leader(replicated, number % 6)
            found.measure(running, node.pause)
            node.resume()
            running.await_batches(5)
            if number + 1 < rounds:
                cluster.start()
    finish(on_three, running, found.longest)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")
@pytest.mark.parametrize("_cluster", [{"apart": True}], indirect=True)
def test_broker_is_parted(on_three, cluster, replicated):
    """A broker partitioned away: a leader reaches nobody until others lead, then comes back."""
    found = Interruptions()
    with Rounds(on_three, cluster, [replicated], SEED + 3, rate=200) as running:
        running.await_batches(3, 120)
        for number in range(10):
            node = cluster.leader(replicated, number % 6)
            found.measure(running, partial(cluster.network.cut, node.node_id))
            cluster.network.heal()
            running.await_batches(5)
            cluster.start()
    finish(on_three, running, found.longest)


@lengths(1, 5)
def test_quorum_is_lost(on_three, cluster, replicated, rounds):
    """Two of three brokers down: emit goes on, the relay waits; with the second back it goes on alone."""
    found = Interruptions()
    with Rounds(on_three, cluster, [replicated], SEED + 2, rate=100) as running:
        for number in range(rounds):
            running.await_batches(3, 120)
            kept, second = 1 + number % 3, 1 + (number + 1) % 3
            for identity in {1, 2, 3} - {kept}:
                cluster.nodes[identity].kill9()
            stopped = on_three.value("select delivered_batch from outbox.relay_slot()")
            pending = "select count(*) from outbox.event"
            before = on_three.value(pending)
            wait_until(lambda: on_three.value(pending) > before + 100, 30, "writers to go on without a quorum")
            assert on_three.value("select delivered_batch from outbox.relay_slot()") <= stopped + 1
            found.measure(running, partial(cluster.nodes[second].start, wait=False))
            if number + 1 < rounds:
                cluster.start()
    finish(on_three, running, found.longest)
