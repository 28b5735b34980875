# SPDX-License-Identifier: PostgreSQL
"""A relay's life: rewritten tables, changed settings, shutdown in every state, errors and idleness.

Prove F4 and F16 of the fault matrix: the life of a relay.
"""

import itertools
import os
import pathlib
import re
import shutil
import signal
import time

import psycopg
import pytest
from fault_rounds import is_alive
from harness import wait_until
from harness.process import descendants
from psycopg import sql
from steady_writer import SteadyWriter

SHUTDOWN_S = 5


def leaves(database, parent):
    return [row[0] for row in database.execute(
        "select relid::regclass::text from pg_partition_tree(%s::regclass) where isleaf order by 1", (parent,)
    )]


def rewrites(database, tablespace):
    """The commands that give a table or its indexes new storage, for every leaf of the ring and the batch log."""
    for leaf in [*leaves(database, "outbox.event"), *leaves(database, "outbox.batch")]:
        index = database.value("select indexrelid::regclass::text from pg_index where indrelid = %s::regclass limit 1",
                               (leaf,))
        yield f"vacuum full {leaf}"
        yield f"cluster {leaf} using {index.split('.')[-1]}"
        yield f"alter table {leaf} set tablespace {tablespace}"
        yield f"reindex table concurrently {leaf}"
        yield f"vacuum (freeze, analyze) {leaf}"
        yield f"alter table {leaf} set tablespace pg_default"
    # Rewrites every leaf; a column with such a default would make emit() refuse.
    yield ("alter table outbox.event add column shard double precision default random(), add column tenant text not null"
           " default 'acme'; alter table outbox.event drop column shard")
    yield "alter table outbox.event drop column tenant"
    yield "reindex index outbox.event_txid"
    yield "analyze outbox.event"
    yield "reindex schema outbox"


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_rewrites(relay, postgres, kafka, topic, every, unique):
    """F16: VACUUM FULL, CLUSTER, REINDEX, SET TABLESPACE, rewriting ALTER and pg_dump under load."""
    place = postgres.environment.make_directory(postgres.session.data / unique("tablespace"))
    space = place.name
    postgres.execute(sql.SQL("create tablespace {} location {}").format(sql.Identifier(space), str(place)))
    with SteadyWriter(relay, topic) as writer, relay.connect() as connection:
        writer.await_batches()
        commands = list(rewrites(relay, space))
        for command in [*commands[:-5:every], *commands[-5:]]:
            connection.execute(command)
            writer.await_commits(1)
        postgres.run("pg_dump", "-d", relay.dsn(), "-f", postgres.data / "dump.sql")
        writer.await_batches()
        writer.check(kafka)
    for leaf in [*leaves(relay, "outbox.event"), *leaves(relay, "outbox.batch")]:
        relay.execute(f"alter table {leaf} set tablespace pg_default")
    postgres.execute(sql.SQL("drop tablespace {}").format(sql.Identifier(space)))


def test_drop_extension_under_load(relay, kafka, topic, postgres):
    """F4: DROP EXTENSION under load, rolled back and committed, ends within the shutdown time; nothing is left behind."""
    with SteadyWriter(relay, topic) as writer:
        writer.await_batches()
        with relay.connect(autocommit=False) as connection:
            began = time.monotonic()
            connection.execute("set local lock_timeout = '30s'")
            connection.execute("drop extension outbox")
            assert time.monotonic() - began < SHUTDOWN_S
            connection.rollback()
        writer.await_batches()
        report = writer.check(kafka)
        assert report.delivered == report.committed
    sender = relay.status()["sender_pid"]
    relay.execute("drop extension outbox")
    assert not is_alive(sender)


def test_update_extension(own_postgres, make_database, session, kafka, topic_name):
    """Version skew: objects of another version stop the relay with a message, an update starts it."""
    environment = session.environment
    copy = session.data / "updated-installation"  # what is added here nobody else sees
    shutil.copytree(environment.pg_prefix, copy, symlinks=True, copy_function=os.link)
    try:
        postgres = own_postgres(start=False)
        postgres.bindir = copy / environment.bindir.relative_to(environment.pg_prefix)
        folder = pathlib.Path(postgres.run("pg_config", "--sharedir").strip()) / "extension"
        assert folder.is_relative_to(copy)
        for name in ("outbox--1.0--1.1.sql", "outbox--1.1--1.0.sql"):
            (folder / name).write_text("select 1;\n")
            (folder / name).chmod(0o644)
        relay = make_database(postgres.start())
        topic = relay.declare(topic_name)
        relay.start_relay()
        with SteadyWriter(relay, topic) as writer:
            writer.await_batches()
            with relay.connect(autocommit=False) as connection:
                connection.execute("alter extension outbox update to '1.1'")
                writer.await_batches()  # while the transaction is open, it keeps nothing back
                connection.commit()
            wait_until(lambda: relay.status()["pid"] is None and relay.status()["last_error"], 30, "the relay's end")
            assert relay.status()["last_error"] == (
                "the extension's objects are of version 1.1, its library is of version 1.0"
            )
            assert postgres.log_contains("ALTER EXTENSION outbox UPDATE")
            writer.await_commits()
            postgres.restart()
            wait_until(lambda: relay.status()["last_error"], 30, "the message after a restart")
            assert relay.status()["pid"] is None
            relay.execute("alter extension outbox update to '1.0'")
            writer.await_batches()
            writer.check(kafka)
        postgres.stop()
    finally:
        shutil.rmtree(copy)


# ------------------------------------------------------------- settings


def test_reload(relay, postgres, kafka, topic, unique):
    """Lifecycle: SIGHUP applies what can be applied live, in a storm of them as well; a wrong address is an error and no loss."""
    good = postgres.settings["outbox.kafka_properties"]
    with SteadyWriter(relay, topic) as writer:
        writer.await_batches()
        pid = relay.status()["pid"]

        def apply(**settings):
            postgres.configure(**settings)
            postgres.reload()
        apply(outbox__kafka_properties="bootstrap.servers=127.0.0.1:1")
        wait_until(lambda: (relay.status()["last_error"] or "").find("127.0.0.1:1") >= 0, 60, "the wrong address")
        apply(outbox__kafka_properties=good)
        writer.await_batches()

        apply(outbox__batch_max_events="1", outbox__retention="1h")
        relay.wait_for("select events = 1 from outbox.batches order by batch_no desc limit 1")
        apply(outbox__batch_max_events="50000")
        before = writer.committed
        while writer.committed < before + 100:
            postgres.reload()
            writer.await_commits(1)
        apply(outbox__delivery="at_least_once")
        wait_until(lambda: relay.status()["delivery"] == "at_least_once", 60, "the other delivery")
        writer.await_batches(3)
        apply(outbox__delivery="exactly_once")
        writer.await_batches(3)
        # What at_least_once had under way when its sender was replaced may come twice, and is counted.
        report = writer.report(kafka)
        doubled, report.doubled = len(report.doubled), []
        report.require_ok()
        assert doubled <= relay.status()["possibly_doubled"]
    for envelope, source in (("none", None), ("cloudevents", b"/elsewhere")):
        other = relay.declare(unique("reload"))
        apply(outbox__envelope=envelope, outbox__source="/elsewhere")

        numbers = itertools.count(1)

        def taken_up():
            relay.emit(other, "k")
            newest = max(kafka.wait_for_records(other, next(numbers)), key=lambda record: record.offset())
            return dict(newest.headers() or []).get("ce_source") == source
        wait_until(taken_up, 60, f"a record with envelope {envelope}")
    assert relay.status()["pid"] == pid


# ------------------------------------------------------------- shutdown


def wait_sender(relay):
    return wait_until(lambda: relay.status()["sender_pid"], 30, "a sender")


def reach(relay, postgres, kafka, topic, state):
    """Bring an idle relay into a state and leave it there; returns the sender's pid."""
    relay.wait_state("idle")
    sender = wait_sender(relay)
    if state == "idle":
        return sender
    if state == "hold":
        relay.make_hold()
        return relay.status()["sender_pid"]
    if state == "replicating":
        postgres.configure(synchronous_standby_names="nobody")
        postgres.reload()
        postgres.wait_for("show synchronous_standby_names")
        with relay.connect() as connection:
            connection.execute("set synchronous_commit = local")
            connection.execute("select outbox.emit(%s, 'k', 'Tested', '{}')", (topic,))
        relay.wait_state("replicating", 60)
        return relay.status()["sender_pid"]
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 1)
    if state == "sending":
        kafka.pause()
        relay.emit(topic, "k")
        relay.wait_state("sending", 60)
    elif state == "connecting":
        relay.stop_relay()
        relay.wait_state("stopped")
        kafka.pause()
        relay.start_relay()
        relay.wait_state("connecting", 60)
        return wait_sender(relay)
    else:
        kafka.stop()
        relay.emit(topic, "k")
        relay.wait_state("backoff", 90)
    return relay.status()["sender_pid"]


@pytest.mark.parametrize("state", [
    "replicating", "sending", *(pytest.param(state, marks=pytest.mark.long)
                                for state in ("idle", "hold", "connecting", "backoff")),
])
@pytest.mark.parametrize("how", ["fast", pytest.param("smart", marks=pytest.mark.long),
                                 pytest.param("terminate", marks=pytest.mark.long),
                                 pytest.param("kill9", marks=pytest.mark.long)])
def test_shutdown(relay, postgres, kafka, topic, state, how):
    """Shutdown within 5 s in every state, Kafka there, paused or gone; no sender outlives its relay."""
    sender = reach(relay, postgres, kafka, topic, state)
    pid = relay.status()["pid"]
    processes = descendants(postgres.pid)
    began = time.monotonic()
    if how == "kill9":
        os.kill(postgres.pid, signal.SIGKILL)
    elif how == "terminate":
        relay.execute("select pg_terminate_backend(%s)", (pid,))
    else:
        assert postgres.stop(how, 60) == 0
    wait_until(lambda: not is_alive(pid), SHUTDOWN_S, "the relay's end")
    assert time.monotonic() - began < SHUTDOWN_S
    assert sender is None or not is_alive(sender)
    if how == "kill9":
        postgres.kill9()
        wait_until(lambda: not any(map(is_alive, processes)), 30, "the end of the orphans, which hold shared memory")
    postgres.configure(synchronous_standby_names=None)  # else the database's removal waits for it
    if postgres.running:
        postgres.reload()


# --------------------------------------------------------------- errors


def test_error_and_repair(relay, kafka, topic, postgres):
    """After an error the worker says why and tries again with back-off; repaired, it goes on by itself.

    One of them is a batch row that a trigger keeps away: nothing is sent without it.
    """
    def wait_error(part):
        wait_until(lambda: part in (relay.execute("select last_error from outbox.relay_slot()")[0][0] or ""), 30,
                   "the reason in last_error")
    with SteadyWriter(relay, topic) as writer:
        writer.await_batches()
        writer.stop()
    relay.wait_state("idle")
    relay.execute("drop index outbox.event_txid")
    relay.execute("select checker.step(%s, 'k', 100)", (topic,))
    wait_error("event_0")
    relay.execute("create index event_txid on outbox.event (txid)")
    sent = relay.value("select count(*) from checker.truth")
    kafka.wait_for_records(topic, sent, timeout=60)
    relay.wait_state("idle")
    relay.execute("create function public.keep_away() returns trigger language plpgsql as 'begin return null; end'")
    relay.execute("create trigger keep_away before insert on outbox.batch for each row execute function public.keep_away()")
    relay.execute("select checker.step(%s, 'k', 1)", (topic,))
    wait_error("keeps the relay's row from being written")
    assert len(kafka.read_all(topic)) == sent
    relay.execute("drop trigger keep_away on outbox.batch")
    kafka.wait_for_records(topic, relay.value("select count(*) from checker.truth"), timeout=60)
    writer.check(kafka)


def test_crash_loop_does_not_spin(relay, postgres, kafka, topic):
    """A relay that fails at each start backs off 1 s, then 2 s, and keeps the reason in last_error."""
    relay.wait_state("idle")
    relay.execute("alter table outbox.batch rename to gone")
    since = postgres.log_size()
    began = time.monotonic()
    relay.execute("select pg_terminate_backend(pid) from outbox.relay_slot()")
    slot = "select state, last_error from outbox.relay_slot()"

    def failed(times):
        with open(postgres.child.log_path, "rb") as log:
            log.seek(since)
            return len(re.findall(rb'relation "outbox.batch" does not exist', log.read())) >= times
    wait_until(lambda: failed(2), 60, "two failed starts")
    assert time.monotonic() - began >= 3  # 1 s after the end, then 2 s
    wait_until(lambda: relay.execute(slot)[0][0] == "backoff", 10, "the back-off in the status")
    assert relay.execute(slot)[0][1] == 'relation "outbox.batch" does not exist'
    relay.execute("alter table outbox.gone rename to batch")
    relay.emit(topic, "k")
    relay.start_relay()  # asks anew: the back-off is over
    assert len(kafka.wait_for_records(topic, 1)) == 1


@pytest.mark.long
def test_ends_of_an_idle_relay_do_not_add_up(relay):
    """Back-off: a relay that was idle in between starts again after 1 s each time, not after 1, 2, 4, 8, 16 s."""
    for _ in range(5):
        relay.wait_state("idle", 60)
        pid = relay.status()["pid"]
        began = time.monotonic()
        relay.execute("select pg_terminate_backend(%s)", (pid,))
        wait_until(lambda: relay.status()["pid"] not in (None, pid), 60, "the next relay")
    assert time.monotonic() - began < 12


def test_row_security_hides_nothing(relay, kafka, topic):
    """A policy on the relay's tables cannot make it skip events in silence.

    emit() refuses where an INSERT of the owner would be denied.
    """
    relay.wait_state("idle")
    tables = ("outbox.event", "outbox.batch", *leaves(relay, "outbox.event"))

    def emit_and_force():
        """No event is ever stored while row security is not forced for all others to see."""
        with relay.connect(autocommit=False) as connection:
            for table in tables:
                connection.execute(f"alter table {table} no force row level security")
            connection.execute("select outbox.emit(%s, 'k', 'T', '{}')", (topic,))
            for table in tables:
                connection.execute(f"alter table {table} enable row level security, force row level security")
            connection.commit()
    emit_and_force()
    assert len(kafka.wait_for_records(topic, 1)) == 1
    relay.execute("select pg_terminate_backend(pid) from outbox.relay_slot()")
    emit_and_force()
    assert len(kafka.wait_for_records(topic, 2)) == 2
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match='Row security of table "event" is forced'):
        relay.emit(topic, "k")


# ----------------------------------------------------------------- idle


def switches(pid):
    """Voluntary context switches of all threads of a process: how often it woke up."""
    total = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.M)[1])
    return total


def unchanged(read, seconds):
    """The value of read() when it stays the same for that long, else None."""
    value, began = read(), time.monotonic()
    wait_until(lambda: read() != value or time.monotonic() - began >= seconds, seconds + 30, "the interval", 0.1)
    return value if read() == value else None


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.long)])
def test_idle(own_postgres, make_database, kafka, topic_name, seconds):
    """An idle relay writes no WAL, wakes up fewer than twice a second, its sender fewer than 15 times (12 of them
    librdkafka's threads for producer and member, issue 11, K7); no CPU."""
    cluster = own_postgres(autovacuum="off", checkpoint_timeout="1h", bgwriter_lru_maxpages="0", wal_level="minimal",
                           max_wal_senders="0")
    database = make_database(cluster)
    database.declare(topic_name)
    database.start_relay()
    database.emit(topic_name, "k")
    kafka.wait_for_records(topic_name, 1)
    database.wait_state("idle")
    pid = database.status()["pid"]
    wait_until(lambda: database.status()["delivered_batch"] == 1, 30, "the delivery")
    with database.connect() as connection:
        def wal():
            return connection.execute("select pg_current_wal_insert_lsn()").fetchone()[0]
        settled = wait_until(lambda: unchanged(wal, 1), 60, "no WAL for a second")
        sender = database.status()["sender_pid"]
        began, woke, ran, sender_woke = time.monotonic(), switches(pid), cpu_ticks(pid), switches(sender)
        wait_until(lambda: time.monotonic() - began >= seconds, seconds + 30, "the interval", interval=0.5)
        passed = time.monotonic() - began
        assert wal() == settled
        relay_rate, sender_rate = (switches(pid) - woke) / passed, (switches(sender) - sender_woke) / passed
        print(f"wake-ups a second: relay {relay_rate:.2f}, sender {sender_rate:.2f}; "
              f"ticks of the relay: {cpu_ticks(pid) - ran}")
        assert relay_rate < 2
        assert sender_rate < 15
        assert (cpu_ticks(pid) - ran) / passed < 1  # of 100 a second


def test_idle_sender_goes(relay, postgres, kafka, topic, topic_name, unique):
    """Idle relay: a sender without work ends, then fewer than 2 wake-ups a second are left; work brings another."""
    def sender():
        return relay.status()["sender_pid"]
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 1)
    first = sender()
    postgres.configure(outbox__sender_idle_timeout="1s")
    postgres.reload()
    wait_until(lambda: not sender(), 30, "the sender's end")
    assert not is_alive(first) and relay.status()["state"] == "idle"
    pid = relay.status()["pid"]
    began, woke = time.monotonic(), switches(pid)
    wait_until(lambda: time.monotonic() - began >= 3, 30, "the interval", interval=0.5)
    assert (switches(pid) - woke) / (time.monotonic() - began) < 2
    assert not sender()

    other = relay.declare(unique("declared"), 2)
    wait_until(lambda: other in kafka.admin.list_topics(timeout=10).topics, 30, "the declared topic in Kafka")
    wait_until(lambda: not sender(), 30, "the second sender's end")
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 2)
    relay.wait_state("idle")
    status = relay.status()
    assert status["pid"] == pid and status["recoveries"] == 0 and status["last_error"] is None
