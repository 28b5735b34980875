# SPDX-License-Identifier: PostgreSQL
"""The launcher, the switch of a database and the commands that need a database alone.

Prove what start_relay and stop_relay promise, and what the design says of the worker.
"""

import concurrent.futures
import time

import psycopg
import pytest
from harness import wait_until
from psycopg import sql


def relay_pid(database):
    """Process id of the database's running relay, None while there is none."""
    return database.status()["pid"]


def wait_for_relay(database, other_than=None):
    """Wait for a relay process that is not other_than; returns its id."""
    def found():
        pid = relay_pid(database)
        return pid if pid != other_than else None
    return wait_until(found, 30, f"a relay of {database.name}")


def wait_for_none(database):
    wait_until(lambda: relay_pid(database) is None, 30, f"no relay of {database.name}")


def processes_of(cluster, name):
    return cluster.value(
        "select count(*) from pg_stat_activity where backend_type like 'outbox relay' and datname = %s", (name,)
    )


def run_alone(cluster, statement, *names):
    """Run a command that needs a database alone; returns its seconds."""
    began = time.monotonic()
    cluster.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
    return time.monotonic() - began


def test_not_preloaded(own_postgres, make_database):
    """start_relay without shared_preload_libraries says exactly what to add."""
    cluster = own_postgres(shared_preload_libraries=None, outbox__kafka_properties=None)
    database = make_database(cluster)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
        database.start_relay()
    assert error.value.diag.message_hint == (
        "Set shared_preload_libraries = 'outbox' in postgresql.conf and restart the server."
    )
    assert database.status()["state"] == "not preloaded"


def test_no_brokers_and_file(own_postgres, make_database):
    """start_relay refuses without brokers; a file that others can read is refused, a safe one is taken."""
    cluster = own_postgres(outbox__kafka_properties=None)
    database = make_database(cluster)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as error:
        database.start_relay()
    assert "bootstrap.servers" in error.value.diag.message_hint

    secrets = cluster.data / "kafka.properties"
    secrets.write_text("# brokers\nbootstrap.servers = 127.0.0.1:1\n")
    cluster.environment.give(secrets)
    secrets.chmod(0o644)
    cluster.configure(outbox__kafka_properties_file=secrets)
    cluster.reload()
    cluster.wait_for("select current_setting('outbox.kafka_properties_file') <> ''")
    with pytest.raises(psycopg.errors.ConfigFileError):
        database.start_relay()
    secrets.chmod(0o600)
    database.start_relay()
    wait_for_relay(database)


def test_switch(relay):
    """The relay starts at commit, goes at stop_relay, and an aborted call changes nothing."""
    relay.wait_state("idle")
    first = relay_pid(relay)
    with relay.connect(autocommit=False) as connection:
        connection.execute("select outbox.stop_relay()")
        connection.rollback()
    relay.stop_relay()
    wait_for_none(relay)
    assert relay.status()["state"] == "stopped"
    relay.start_relay()
    assert wait_for_relay(relay) != first


def test_terminated_relay_comes_back(relay):
    """pg_terminate_backend of the relay is harmless: another one starts and delivers on."""
    relay.wait_state("idle")
    first = relay_pid(relay)
    relay.execute("select pg_terminate_backend(%s)", (first,))
    wait_for_relay(relay, first)
    relay.wait_state("idle")


def test_launcher_comes_back(relay):
    """The relay outlives its launcher; the next launcher knows of it: it can be stopped and started."""
    relay.wait_state("idle")
    first = relay_pid(relay)
    launcher = "select pid from pg_stat_activity where backend_type = 'outbox launcher'"
    before = relay.cluster.value(launcher)
    relay.cluster.execute("select pg_terminate_backend(%s)", (before,))
    wait_until(lambda: relay.cluster.value(launcher) not in (before, None), 30, "another launcher")
    assert relay_pid(relay) == first
    relay.stop_relay()
    wait_for_none(relay)
    relay.start_relay()
    assert wait_for_relay(relay) != first
    relay.wait_state("idle")


def test_states_are_logged(own_postgres, make_database, kafka):
    """At DEBUG2 the log has each state of the worker: start, failure, back-off, stop, a command's suspension."""
    cluster = own_postgres(log_min_messages="debug2")
    database = make_database(cluster)
    oid = database.value("select oid from pg_database where datname = current_database()")

    def wait_for_steps(since, *steps):
        for step in steps:
            wait_until(lambda step=step: cluster.log_contains(f"outbox relay 0 of database {oid}: {step}", since),
                       30, step)
        return cluster.log_size()
    database.start_relay()
    database.wait_state("idle")
    since = wait_for_steps(0, "ask, absent -> asked", "start, asked -> looking", "on, looking -> running")
    database.execute("select pg_terminate_backend(%s)", (relay_pid(database),))
    since = wait_for_steps(since, "gone, running -> backoff", "time, backoff -> asked", "on, looking -> running")
    with pytest.raises(psycopg.errors.ObjectInUse), database.connect():
        run_alone(cluster, "drop database {}", database.name)
    since = wait_for_steps(since, "suspend, running -> suspended", "resume, suspended -> asked",
                           "on, looking -> running")
    database.stop_relay()
    wait_for_steps(since, "ask, running -> asked", "off, looking -> ending", "gone, ending -> absent")


def set_switch(connection, database, on):
    """By hand, from another database."""
    statement = sql.SQL("alter database {} set outbox.relay = {}")
    connection.execute(statement.format(sql.Identifier(database.name), sql.Literal(on)))


def has_slot(database):
    return database.value("select exists (select from outbox.databases where database = current_database())")


def wait_for_look(database):
    wait_until(lambda: not has_slot(database), 30, "the look after CREATE EXTENSION to be over")


def give_slot_back(cluster, database):
    """Have a transaction that is rolled back give back the slot, which nobody uses."""
    with cluster.connect(autocommit=False) as connection:
        set_switch(connection, database, False)
        connection.rollback()
    assert not has_slot(database)


def test_no_look_is_lost(faulty, make_database, points):
    """Whoever asks for a look finds the database's slot given back just now: it is made anew, and the relay comes.
    So it is with a session that turns the switch on, and with the launcher after the server's start."""
    database = make_database(faulty)
    wait_for_look(database)
    points.arm("worker-ask", "wait")
    with concurrent.futures.ThreadPoolExecutor() as pool, faulty.connect() as connection:
        done = pool.submit(set_switch, connection, database, True)
        points.await_fired("worker-ask")
        give_slot_back(faulty, database)
        points.release("worker-ask")
        done.result(30)
    wait_for_relay(database)

    looked_at = faulty.execute("select datname from pg_database where datallowconn order by ctid")
    points.arm("worker-ask", "wait", looked_at.index((database.name,)) + 1)
    faulty.restart()
    points.await_fired("worker-ask")
    give_slot_back(faulty, database)
    points.release("worker-ask")
    wait_for_relay(database)


def test_interrupted_resume(faulty, make_database, points):
    """A command that is cancelled just when it has let the relay go on tells the launcher all the same."""
    database = make_database(faulty)
    wait_for_look(database)
    database.start_relay()
    first = wait_for_relay(database)
    with concurrent.futures.ThreadPoolExecutor() as pool, database.connect() as connection:
        points.arm("worker-moved", "wait")
        done = pool.submit(connection.execute, "alter extension outbox update")
        points.await_fired("worker-moved")
        wait_until(lambda: first not in faulty.processes("outbox relay"), 30, "the relay's end")
        points.arm("worker-moved", "wait")
        points.await_fired("worker-moved")
        faulty.execute("select pg_cancel_backend(%s)", (connection.info.backend_pid,))
        points.release("worker-moved")
        assert isinstance(done.exception(30), (psycopg.errors.QueryCanceled, type(None)))
    wait_for_relay(database, first)


def test_server_restart(own_postgres, make_database, kafka):
    """After a restart of the server the relay comes back by itself and is idle."""
    cluster = own_postgres()
    database = make_database(cluster)
    make_database(cluster, extension=False)
    database.start_relay()
    database.wait_state("idle")
    cluster.restart()
    database.wait_state("idle")
    assert cluster.value("select count(*) from pg_stat_activity where backend_type = 'outbox relay'") == 1


def test_drop_database(postgres, make_database, kafka):
    """DROP DATABASE works at once while the relay runs, and takes it along."""
    database = make_database(postgres)
    database.start_relay()
    database.wait_state("idle")
    assert run_alone(postgres, "drop database {}", database.name) < 5
    assert processes_of(postgres, database.name) == 0


def test_failed_drop_keeps_the_relay(relay):
    """A DROP DATABASE that fails, or that its user may not do, leaves the relay running."""
    relay.wait_state("idle")
    first = relay_pid(relay)
    cluster = relay.cluster
    name = sql.Identifier(relay.name)
    cluster.execute("drop role if exists outbox_nobody")
    cluster.execute("create role outbox_nobody createdb")
    try:
        with cluster.connect() as connection:
            connection.execute("set role outbox_nobody")
            for statement in (
                "drop database {}", "alter database {} rename to other", "create database other template {}"
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL(statement).format(name))
    finally:
        cluster.execute("drop role outbox_nobody")
    assert relay_pid(relay) == first

    with relay.connect():
        with pytest.raises(psycopg.errors.ObjectInUse):
            cluster.execute(sql.SQL("drop database {}").format(name))
    wait_for_relay(relay, first)
    relay.wait_state("idle")


def test_rename_and_template(postgres, make_database, kafka, unique):
    """RENAME and CREATE DATABASE TEMPLATE work while the relay runs; the copy does not relay."""
    database = make_database(postgres)
    database.start_relay()
    database.wait_state("idle")
    copy = make_database(postgres, extension=False)
    run_alone(postgres, "drop database {}", copy.name)
    assert run_alone(postgres, "create database {} template {}", copy.name, database.name) < 5
    database.wait_state("idle")
    assert copy.status()["state"] == "stopped"
    assert processes_of(postgres, copy.name) == 0

    renamed = unique("renamed")
    assert run_alone(postgres, "alter database {} rename to {}", database.name, renamed) < 5
    database.name = renamed
    database.wait_state("idle")


def test_drop_extension(relay):
    """DROP EXTENSION ends the relay; rolled back it goes on; made again it starts anew."""
    relay.wait_state("idle")
    first = relay_pid(relay)
    with relay.connect(autocommit=False) as connection:
        connection.execute("drop extension outbox")
        assert processes_of(relay.cluster, relay.name) == 0
        connection.rollback()
    wait_for_relay(relay, first)
    relay.wait_state("idle")

    relay.execute("drop extension outbox")
    wait_until(lambda: processes_of(relay.cluster, relay.name) == 0, 30, "no relay")
    relay.execute("create extension outbox")
    relay.start_relay()
    relay.wait_state("idle")


def test_drop_extension_ends_the_wait(database, topic_name):
    """DROP EXTENSION: events that waited for a relay are gone, outbox.databases does not go on telling of them."""
    waiting = "select count(*) from outbox.databases where database = current_database() and waiting_since is not null"
    database.declare(topic_name)
    database.emit(topic_name, "k")
    assert database.value(waiting) == 1
    database.execute("drop extension outbox")
    database.execute("create extension outbox")
    assert database.value(waiting) == 0


def test_worker_limit(own_postgres, make_database):
    """Without a free worker slot the launcher says which setting to raise and tries again."""
    cluster = own_postgres(max_worker_processes=2, max_logical_replication_workers=0)
    first, second = make_database(cluster), make_database(cluster)
    first.start_relay()
    second.start_relay()
    wait_until(lambda: cluster.log_contains("raise max_worker_processes"), 30, "the hint in the log")
    running = wait_until(
        lambda: [database for database in (first, second) if relay_pid(database)], 30, "one relay"
    )
    assert len(running) == 1
    waiting = second if running[0] is first else first
    assert "max_worker_processes" in waiting.status()["last_error"]
    running[0].stop_relay()
    wait_for_relay(waiting)


def test_ring_rotation(own_postgres, make_database, kafka, topic_name):
    """Relayed events older than outbox.retention leave; the ring comes round; nothing waiting is lost."""
    cluster = own_postgres(outbox__retention="3s", outbox__segment_size="1MB")
    database = make_database(cluster)
    database.declare(topic_name)
    old = database.emit(topic_name, "k", payload='{"a": "%s"}' % ("x" * 5000))
    database.wait_for("select count(*) = 1 from outbox.event")
    database.start_relay()
    database.wait_state("idle")

    def rotated():
        database.emit(topic_name, "k")
        return database.status()["rotations"] >= 9
    wait_until(rotated, 60, "a turn of the ring", interval=0.1)
    gone = "select not exists (select from outbox.event where id = %s)"
    assert database.value(gone, (old,))
    database.wait_for("select count(*) = 0 from outbox.event where created_at < now() - interval '30 s'")

    database.stop_relay()
    wait_for_none(database)
    waiting = database.emit(topic_name, "k")
    database.wait_for("select min(created_at) < clock_timestamp() - interval '4 s' from outbox.event where id = %s",
                      parameters=(waiting,))
    assert not database.value(gone, (waiting,))
    sent = database.status()["events_sent"]
    database.start_relay()
    wait_until(lambda: database.status()["events_sent"] > sent, 30, "the waiting event to be sent")
