# SPDX-License-Identifier: PostgreSQL
"""Copies of a server: restarts, a volume on another node, copies of files and of blocks."""

import os
import signal

import pytest
from harness import Database, FaultPoints, wait_until
from harness.copies import CopiedCluster, change_directory, living

WAITS = "its session is waited for"
DELIVERIES = ["exactly_once", pytest.param("at_least_once", marks=pytest.mark.long)]
OTHER_DELIVERIES = ["at_least_once", pytest.param("exactly_once", marks=pytest.mark.long)]


def keys(kafka, topic):
    return sorted(record.key().decode() for record in kafka.read_all(topic))


def send(database, *names):
    """One event a name to the database's own topic, delivered."""
    for name in names:
        database.emit(database.topic, name)
    database.wait_delivered(60)


def wait_hold(database, reason):
    database.wait_state("hold", 60)
    assert reason in database.status()["hold_reason"]


def same_in(cluster, database):
    """The same database in a cluster that is a copy."""
    found = Database(cluster, database.name)
    found.topic = database.topic
    return found


@pytest.fixture
def original(own_postgres, kafka, unique):
    """make(**conf): a database of a cluster of its own, whose relay has delivered event "first"."""
    def make(**conf):
        cluster = own_postgres(**conf)
        database = Database(cluster, cluster.create_database("orders"))
        database.topic = database.declare(unique("topic"))
        database.start_relay()
        send(database, "first")
        return database
    return make


def wait_left(kafka, database):
    """Wait until no sender of the database's installation is a member of its group."""
    name = database.transactional_id()
    return lambda: wait_until(lambda: not living(kafka, name), 30, "the group is empty")


def lose_node(database):
    """Kill everything at once: a sender that outlived its relay by a moment would leave its group."""
    os.kill(database.status()["sender_pid"], signal.SIGSTOP)
    database.cluster.kill9()


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_restarts_wait_for_nothing(relay, postgres, kafka, topic, delivery):
    """Normal, immediate and crash restarts, each at once: a member of this directory is a process that is dead."""
    postgres.configure(**{"outbox.delivery": delivery})
    postgres.restart()
    relay.topic = topic
    since = postgres.log_size()
    installation = relay.transactional_id()
    send(relay, "0")
    for number, mode in enumerate(("fast", "immediate", "kill"), 1):
        if mode == "kill":
            postgres.kill9()
            postgres.start()
        else:
            postgres.restart(mode)
        send(relay, str(number))
    found = keys(kafka, topic)
    assert sorted(set(found)) == ["0", "1", "2", "3"]
    assert len(found) == 4 or delivery == "at_least_once"
    assert relay.transactional_id() == installation
    assert not postgres.log_contains(WAITS, since) and not postgres.log_contains("would not be seen", since)


def test_replaced_sender_leaves(relay, postgres, kafka, topic):
    """A sender that works and is replaced for new settings leaves its group first, so nobody waits for its session. One
    of several, as it has 200 ms for that."""
    relay.topic = topic
    send(relay, "0")
    left = []
    for number in range(1, 6):
        sender = relay.status()["sender_pid"]
        postgres.configure(**{"outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}\nlinger.ms={number}"})
        postgres.reload()
        relay.wait_for("select sender_pid <> %s and state = 'idle' from outbox.relay_status", 60, (sender,))
        left.append(len(living(kafka, relay.transactional_id())) == 1)
        if left[-1]:
            break
    assert any(left)
    send(relay, "1")
    assert keys(kafka, topic) == ["0", "1"]


@pytest.mark.parametrize("delivery", OTHER_DELIVERIES)
def test_volume_moves_to_another_node(original, kafka, delivery):
    """The node dies, another one has its volume: on when the dead sender's session is over, with the same installation.

    After a stop in order, at once."""
    database = original(**{"outbox__delivery": delivery})
    cluster, installation = database.cluster, database.transactional_id()
    lose_node(database)
    change_directory(cluster)
    since = cluster.log_size()
    cluster.start()
    send(database, "second")
    assert cluster.log_contains(WAITS, since)

    left = wait_left(kafka, database)
    cluster.stop()
    left()
    change_directory(cluster)
    since = cluster.log_size()
    cluster.start()
    send(database, "third")
    assert not cluster.log_contains(WAITS, since)
    assert database.transactional_id() == installation
    found = keys(kafka, database.topic)
    assert sorted(set(found)) == ["first", "second", "third"]
    assert len(found) == 3 or delivery == "at_least_once"  # whose cursor follows the events


def test_file_copy_holds(original, kafka, copy_cluster, unique):
    """A copy of the files, started while the original is stopped, holds whatever is set, and after restarts; each
    database for itself. Where it was moved, adopt('resend') loses and doubles nothing. The original goes on."""
    database = original()
    other = Database(database.cluster, database.cluster.create_database("stock"))
    other.topic = other.declare(unique("topic"))
    other.start_relay()
    send(other, "first")
    database.cluster.stop()
    clone = copy_cluster(CopiedCluster, database.cluster, way="files", **{"outbox.on_divergence": "resend"}).start()
    copies = [same_in(clone, database), same_in(clone, other)]
    for copy in copies:
        wait_hold(copy, "the data directory was copied or moved")
        copy.emit(copy.topic, "waiting")
    clone.restart()
    for copy in copies:
        wait_hold(copy, "the data directory was copied or moved")

    copies[0].execute("select outbox.adopt('resend')")
    copies[0].wait_delivered()
    assert keys(kafka, database.topic) == ["first", "waiting"]
    clone.restart()
    send(copies[0], "later")
    wait_hold(copies[1], "the data directory was copied or moved")
    assert copies[0].transactional_id() != copies[1].transactional_id()

    since = database.cluster.log_size()
    database.cluster.start()
    send(database, "original")
    send(other, "original")
    assert keys(kafka, database.topic) == ["first", "later", "original", "waiting"]
    assert keys(kafka, other.topic) == ["first", "original"]
    assert not database.cluster.log_contains(WAITS, since)


@pytest.mark.long
def test_file_copy_holds_without_kafka(original, kafka, copy_cluster):
    """A copy that cannot reach Kafka holds as well, and is decided about; afterwards its own installation begins."""
    database = original()
    database.cluster.stop()
    clone = copy_cluster(CopiedCluster, database.cluster, way="files",
                         **{"outbox.kafka_properties": "bootstrap.servers=127.0.0.1:1"}).start()
    copy = same_in(clone, database)
    wait_hold(copy, "the data directory was copied or moved")
    installation = copy.transactional_id()
    copy.execute("select outbox.adopt('skip')")
    copy.wait_for("select id::text <> right(%s, 36) from outbox.installation", 30, (installation,))
    clone.configure(**{"outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}"})
    clone.restart()
    send(copy, "copy")
    assert keys(kafka, database.topic) == ["copy", "first"]


def test_copied_blocks_win_over_a_stopped_original(original, kafka, copy_cluster):
    """A copy of the volume's blocks cannot be told from the original that is stopped: the first to write wins, the
    other holds, whatever is set. So does an older state of the volume; it goes on where nothing was sent since."""
    database = original(**{"outbox__on_divergence": "resend"})
    left = wait_left(kafka, database)
    database.cluster.stop()
    left()
    clone = copy_cluster(CopiedCluster, database.cluster, way="blocks").start()
    winner = same_in(clone, database)
    send(winner, "winner")
    clone.stop()

    database.cluster.start()
    database.emit(database.topic, "loser")
    wait_hold(database, "a copy of this server went on")
    database.cluster.restart()
    wait_hold(database, "a copy of this server went on")
    assert keys(kafka, database.topic) == ["first", "winner"]
    clone.start()
    send(winner, "on")
    assert keys(kafka, database.topic) == ["first", "on", "winner"]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_copied_blocks_beside_the_original(original, kafka, copy_cluster, delivery):
    """A copy of the blocks beside the original that runs: the copy looks at it, then holds, also when the original
    is gone; it has fenced and sent nothing, and stands in nobody's way. In make check the copy looks for 13 s, not 25."""
    database = original(**{"outbox__delivery": delivery})
    left = wait_left(kafka, database)
    database.cluster.stop()
    left()
    brief = delivery == "exactly_once"
    clone = copy_cluster(CopiedCluster, database.cluster, way="blocks", variant="faults" if brief else None)
    if brief:
        FaultPoints(clone).mutate("brief_look")
    database.cluster.start()
    send(database)
    clone.start()
    copy = same_in(clone, database)
    copy.emit(copy.topic, "copy")
    wait_hold(copy, "another server sends for this installation")
    send(database, "second")
    assert database.status()["recoveries"] == 0 and database.status()["hold_reason"] is None

    database.cluster.stop()
    clone.restart()
    wait_hold(copy, "another server sends for this installation")
    since = database.cluster.log_size()
    database.cluster.start()
    send(database, "third")
    assert not database.cluster.log_contains(WAITS, since)
    copy.execute("select outbox.adopt('resend')")
    copy.wait_delivered()
    assert keys(kafka, database.topic) == ["copy", "first", "second", "third"]
    assert copy.transactional_id() != database.transactional_id()


def test_restored_copy_starts_without_its_relay(original, kafka, copy_cluster):
    """docs/operations.md: without the library in shared_preload_libraries no relay runs; stop_relay() makes it so for good."""
    database = original()
    database.emit(database.topic, "second")
    database.wait_delivered()
    database.cluster.stop()
    clone = copy_cluster(CopiedCluster, database.cluster, way="files")
    copy = same_in(clone, database)
    clone.run("pg_ctl", "-D", clone.data, "-w", "-l", clone.data / "restored.log",
              "-o", "-c shared_preload_libraries=''", "start")
    try:
        assert copy.value("select count(*) from pg_stat_activity where backend_type like 'outbox%%'") == 0
        assert copy.value("select count(*) from outbox.event") == 2
        relaying = """select datname from pg_database join pg_db_role_setting s on s.setdatabase = pg_database.oid
                      where 'outbox.relay=on' = any (s.setconfig)"""
        assert copy.execute(relaying) == [(database.name,)]
        copy.stop_relay()
    finally:
        clone.run("pg_ctl", "-D", clone.data, "-w", "-m", "fast", "stop")
    clone.start()
    copy.emit(copy.topic, "copy")
    copy.wait_for("select not switched_on from outbox.relay_slot()")
    assert copy.status()["state"] == "stopped"
    assert keys(kafka, database.topic) == ["first", "second"]
