# SPDX-License-Identifier: PostgreSQL
"""Many databases on one server: each relays by itself and stands in nobody's way.

Prove F4 of the fault matrix where a server has many databases.
"""

import contextlib
import time

import psycopg
import pytest
from harness import wait_until
from psycopg import sql
from steady_writer import SteadyWriter

SEED = 41001


def run(cluster, statement, *names):
    """Run one statement on the database postgres; returns its seconds, without the checkpoint that DROP DATABASE makes."""
    cluster.execute("checkpoint")
    began = time.monotonic()
    cluster.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
    return time.monotonic() - began


def listed(cluster, database, asked="postgres"):
    """The row of outbox.databases about a database, as a dict; None when there is none."""
    with cluster.connect(asked) as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        return cursor.execute("select * from outbox.databases where database = %s", (database.name,)).fetchone()


@pytest.fixture
def writing(postgres, make_database, kafka, unique):
    """start(count): that many databases with a relay, each with a SteadyWriter at work."""
    with contextlib.ExitStack() as stack:
        def start(count):
            found = []
            for number in range(count):
                database = make_database(postgres)
                topic = database.declare(unique("many"))
                database.start_relay()
                found.append(stack.enter_context(SteadyWriter(database, topic, seed=SEED + number)))
            return found
        yield start


def test_five_databases(postgres, writing, make_database, kafka):
    """Many databases: five relay at once; others come and go meanwhile, each within 2 s."""
    writers = writing(5)
    for writer in writers:
        writer.await_batches(2)
    for number in range(4):
        other = make_database(postgres)
        other.declare(other.name)
        if number % 2:
            other.start_relay()
            other.wait_state("idle")
        else:
            other.emit(other.name, "k")
        assert run(postgres, ("drop database {}", "drop database {} with (force)")[number // 2], other.name) < 2
    for writer in writers:
        writer.await_batches(2)
    names = [writer.database.name for writer in writers]
    assert postgres.value("select count(distinct datname) from pg_stat_activity"
                          " where backend_type = 'outbox relay' and datname = any(%s)", (names,)) == 5
    for writer in writers:
        writer.check(kafka)


def test_own_database_is_forced_away(postgres, writing, kafka):
    """DROP DATABASE: without FORCE it fails on the writer alone, with FORCE it takes all along at once."""
    kept, dropped = writing(2)
    dropped.await_batches(2)
    name = dropped.database.name
    with pytest.raises(psycopg.errors.ObjectInUse) as error:
        run(postgres, "drop database {}", name)
    assert "1 other session" in error.value.diag.message_detail
    dropped.await_batches(2)
    sender = dropped.database.status()["sender_pid"]
    assert run(postgres, "drop database {} with (force)", name) < 2
    assert sender not in postgres.processes("outbox-sender")
    assert not kept.database.value("select exists (select from outbox.database_slots() where database not in "
                                   "(select oid from pg_database))")
    dropped.stop()
    kept.await_batches(2)
    kept.check(kafka)


@pytest.mark.parametrize("delivery", [
    "hold", pytest.param("stopped", marks=pytest.mark.long), pytest.param("paused", marks=pytest.mark.long),
])
def test_drop_while_a_relay_waits(postgres, make_database, kafka, topic_name, delivery):
    """DROP DATABASE of another database: below 2 s whatever a relay waits for (pg_cron 318)."""
    waiting, other = make_database(postgres), make_database(postgres)
    waiting.declare(topic_name)
    waiting.start_relay()
    waiting.wait_state("idle")
    if delivery == "hold":
        waiting.make_hold()
    elif delivery == "stopped":
        kafka.stop()
        waiting.emit(topic_name, "k")
        wait_until(lambda: waiting.status()["state"] in ("backoff", "connecting", "fencing"), 60, "a relay without Kafka")
    else:
        kafka.pause()
        waiting.emit(topic_name, "k")
        wait_until(lambda: waiting.status()["state"] in ("fencing", "sending", "connecting"), 60, "a relay that waits")
    assert run(postgres, "drop database {}", other.name) < 2
    assert run(postgres, "drop database {}", waiting.name) < 2
    if delivery == "paused":
        kafka.resume()


def test_nobody_relays(own_postgres, make_database, kafka, topic_name):
    """A database with events and no relay shows up for operators, from any database, after a restart too."""
    cluster = own_postgres()
    cluster.execute("create extension outbox")
    forgotten = make_database(cluster)
    forgotten.declare(topic_name)
    assert (listed(cluster, forgotten) or {}).get("waiting_since") is None
    forgotten.emit(topic_name, "k")
    emitted = forgotten.value("select created_at from outbox.events")
    row = listed(cluster, forgotten)
    assert (row["wanted"], row["pid"], row["state"]) == (False, None, "stopped")
    assert row["waiting_since"] >= emitted and row["waiting_age"].total_seconds() >= 0

    cluster.stop()
    since = cluster.log_size()
    cluster.start()
    waiting_since = wait_until(lambda: (listed(cluster, forgotten) or {}).get("waiting_since"), 30, "the waiting database")
    assert waiting_since == emitted
    assert not cluster.log_contains("exited with exit code", since)  # the looks leave no line each

    forgotten.start_relay()
    wait_until(lambda: listed(cluster, forgotten)["waiting_since"] is None, 30, "the end of the wait")
    row = listed(cluster, forgotten, forgotten.name)
    assert row["wanted"] and row["pid"] == forgotten.status()["pid"]
    assert len(kafka.wait_for_records(topic_name, 1)) == 1

    cluster.execute("create role nobody")
    cluster.execute("create role operator")
    cluster.execute("select outbox.grant_operate('operator')")
    with cluster.connect() as connection:
        connection.execute("set role operator")
        assert connection.execute("select count(*) from outbox.databases").fetchone() == (1,)
        connection.execute("set role nobody")
        for query in ("select * from outbox.databases", "select * from outbox.database_slots()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)


def test_switch_by_hand(postgres, make_database, kafka):
    """Many databases: ALTER DATABASE ... SET outbox.relay by hand and ALLOW_CONNECTIONS take effect at once; rolled back, never."""
    database = make_database(postgres)
    database.start_relay()
    database.wait_state("idle")
    first = database.status()["pid"]

    with postgres.connect(autocommit=False) as connection:
        connection.execute(sql.SQL("alter database {} set outbox.relay = off").format(sql.Identifier(database.name)))
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("prepare transaction 'switch'")
        connection.rollback()
    run(postgres, "alter database {} set work_mem = '5MB'", database.name)
    assert database.status()["pid"] == first
    for off in ("alter database {} set outbox.relay = off", "alter database {} reset outbox.relay",
                "alter database {} reset all", 'alter database {} set "Outbox.Relay" = off'):
        run(postgres, off, database.name)
        wait_until(lambda: database.status()["pid"] is None, 10, "the relay's end")
        run(postgres, "alter database {} set outbox.relay = on", database.name)
        database.wait_state("idle")

    run(postgres, "alter database {} allow_connections false", database.name)
    postgres.stop()
    since = postgres.log_size()
    postgres.start()
    postgres.wait_for("select exists (select from pg_stat_activity where backend_type = 'outbox launcher')")
    run(postgres, "alter database {} allow_connections true", database.name)
    database.wait_state("idle")
    assert not postgres.log_contains("not currently accepting connections", since)
    assert not postgres.log_contains("exited with exit code 1", since)


def test_connections_refused(postgres, make_database, kafka, unique):
    """Many databases: sessions of one that refuses new connections keep its slot to themselves; it relays again."""
    refusing, other = make_database(postgres), make_database(postgres)
    topic = refusing.declare(unique("refusing"))
    refusing.start_relay()
    refusing.wait_state("idle")
    with refusing.connect() as connection:
        def row():
            return connection.execute(
                "select wanted, waiting_since from outbox.databases where database = current_database()").fetchone()
        connection.execute("select outbox.emit(%s, 'k', 'T', '{}')", (topic,))
        kafka.wait_for_records(topic, 1)
        run(postgres, "alter database {} allow_connections false", refusing.name)
        wait_until(lambda: row() is None or not row()[0], 30, "the relay's failure to connect")
        other.start_relay()
        other.wait_state("idle")
        connection.execute("select outbox.emit(%s, 'k', 'T', '{}')", (topic,))
        assert row()[1] is not None
        assert connection.execute("select backlog_bytes from outbox.relay_status").fetchone()[0] > 0
        assert other.status()["backlog_bytes"] == 0 and listed(postgres, other, other.name)["waiting_since"] is None
        run(postgres, "alter database {} allow_connections true", refusing.name)
        kafka.wait_for_records(topic, 2)
        wait_until(lambda: row() == (True, None), 30, "the relay's return")
    other.wait_state("idle")


@pytest.mark.parametrize("switch, locked", [("off", "lock table outbox.event in access exclusive mode"),
                                            ("on", "alter sequence outbox.event_seq owner to postgres")], ids=["off", "on"])
def test_looks_that_wait(postgres, make_database, kafka, switch, locked):
    """Many databases: looks at stopped databases that take their time keep no relay from starting,
    nor do relays behind an open change of the owner, which locks event_seq."""
    other = make_database(postgres)
    waiting = "select count(*) from pg_stat_activity where backend_type = 'outbox relay' and wait_event_type = 'Lock'"
    with contextlib.ExitStack() as stack:
        for database in [make_database(postgres) for _ in range(3)]:
            connection = stack.enter_context(database.connect(autocommit=False))
            connection.execute(locked)
            run(postgres, "alter database {} set outbox.relay = " + switch, database.name)
        wait_until(lambda: postgres.value(waiting) == 3, 30, "three looks that wait")
        other.start_relay()
        other.wait_state("idle")
        assert postgres.value(waiting) == 3


@pytest.mark.long
def test_all_slots_taken(own_postgres, make_database, kafka):
    """Worker limits: the 65th database is told so, and is served when another one is dropped."""
    cluster = own_postgres(fsync="off", max_worker_processes=100, max_logical_replication_workers=0)
    cluster.execute("create database model")
    cluster.execute("create extension outbox", dbname="model")
    names = [f"tenant_{number}" for number in range(64)]
    for name in names:
        cluster.create_database(name, extension=False, template="model")
        cluster.execute("select outbox.declare_topic('t')", dbname=name)
        cluster.execute("select outbox.emit('t', 'k', 'Tested', '{}')", dbname=name)
    late = make_database(cluster)
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded) as error:
        late.start_relay()
    assert "at most 64 databases" in str(error.value)
    late.declare("late")
    late.emit("late", "k")
    cluster.drop_database(names[0])
    late.start_relay()
    late.wait_state("idle", 60)
