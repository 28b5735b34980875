# SPDX-License-Identifier: PostgreSQL
"""What crashes, transaction ids, clocks and an empty Kafka do to transactions of every shape (1.1 to 1.5, 2.5)."""

import random

import pytest
from checker import Load, check_database
from fault_rounds import Blows, Rounds, lengths
from harness import Database, wait_until

SEED = 40015


def step(connection, topic, key):
    """One event, with its truth, in the connection's transaction."""
    connection.execute("select checker.step(%s, %s, 10)", (topic, key))


@lengths(3, 200)
def test_asynchronous_commits_and_crashes(relay, postgres, kafka, topic, rounds):
    """1.5: commits that no one flushes, kill -9 just after the relay saw them, their ids reissued: phantom 0, lost 0."""
    postgres.configure(wal_writer_delay="10s")
    postgres.restart()
    Load(relay.dsn(), (topic,)).prepare()
    choose = random.Random(SEED)
    relay.execute("create table scratch (n int)")
    reissued = 0
    for _ in range(rounds):
        before = relay.value("select max(batch_no) from outbox.batch")
        with relay.connect() as connection:
            connection.execute("set synchronous_commit = off")
            for _ in range(choose.randint(1, 20)):
                step(connection, topic, "key")
            if choose.random() < 0.7:
                relay.wait_for("select delivered_batch > %s from outbox.relay_slot()", 30, (before,))
            connection.execute("begin; insert into scratch values (1)")
            newest = connection.execute("select pg_current_xact_id()::text::bigint").fetchone()[0]
            connection.execute("commit")  # wakes no relay, so nothing flushes it
            postgres.kill9()
        postgres.start()
        with relay.connect() as connection:
            step(connection, topic, "key")
        reissued += relay.value("select max(txid::text::bigint) from outbox.event") <= newest
    report = check_database(relay.dsn(), kafka.bootstrap, [topic]).require_ok()
    assert report.committed >= rounds and reissued > 0
    assert relay.status()["possibly_doubled"] == 0


def test_prepared_transactions_and_a_crash(relay, postgres, kafka, topic):
    """1.2: PREPARE, kill -9, restart; COMMIT PREPARED wakes nobody and is delivered all the same, ROLLBACK never."""
    Load(relay.dsn(), (topic,)).prepare()
    for name in ("kept", "given_up"):
        with relay.connect() as connection:
            connection.execute("begin")
            step(connection, topic, name)
            connection.execute(f"prepare transaction '{name}'")
    with relay.connect() as connection:
        step(connection, topic, "between")
    kafka.wait_for_records(topic, 1)
    postgres.kill9()
    postgres.start()
    relay.wait_state("idle")
    relay.execute("commit prepared 'kept'")
    assert [r.key() for r in kafka.wait_for_records(topic, 2)].count(b"kept") == 1
    relay.execute("rollback prepared 'given_up'")
    report = check_database(relay.dsn(), kafka.bootstrap, [topic]).require_ok()
    assert report.committed == 2


def test_subtransactions_and_long_transactions(relay, postgres, kafka, topic):
    """1.1: open during a whole load, 100 subtransactions, half of them rolled back, nested EXCEPTION blocks."""
    nested = """do $$ begin
        perform checker.step('{0}', 'outer', 1);
        begin
            perform checker.step('{0}', 'inner', 1);
            begin perform checker.step('{0}', 'innermost', 1); raise 'gone'; exception when others then null; end;
            perform checker.step('{0}', 'inner', 1);
            raise 'gone';
        exception when others then perform checker.step('{0}', 'handler', 1);
        end; end $$""".format(topic)
    blows = Blows(relay, postgres)
    with Rounds(relay, kafka, [topic], SEED, rate=300) as running, \
            relay.connect(autocommit=False) as long, relay.connect(autocommit=False) as many:
        step(long, topic, "long")
        for number in range(100):
            many.execute("savepoint s")
            step(many, topic, f"many-{number % 10}")
            if number % 2:
                many.execute("rollback to s")
        many.execute(nested)
        running.await_batches(5)
        many.commit()
        running.strike(2, blows.kill_sender)
        step(long, topic, "long")
        long.commit()
        running.await_batches(2)
    report = running.check().require_ok()
    own = relay.execute("select key, count(*) from checker.truth where key not like 'key-%' group by key")
    assert dict(own) == {"long": 2, "outer": 1, "handler": 1, **{f"many-{n}": 10 for n in range(0, 10, 2)}}
    assert report.delivered == report.committed


EPOCH = 2**32


def put_before_epoch(cluster, room):
    """Have the cluster's next transaction id be room below 2^32, as pg_upgrade does: freeze all, then pg_resetwal."""
    cluster.execute("alter database template0 allow_connections true")
    for (name,) in cluster.execute("select datname from pg_database"):
        cluster.execute("vacuum (freeze)", dbname=name)
    cluster.stop()
    first = EPOCH - room
    cluster.run("pg_resetwal", "-D", cluster.data, "-x", first, "-u", first)
    segment = cluster.data / "pg_xact" / "0FFF"
    segment.write_bytes(bytes(256 * 1024))
    cluster.environment.give(segment)
    cluster.start()
    for (name,) in cluster.execute("select datname from pg_database"):
        with cluster.connect(name) as connection:
            connection.execute("set allow_system_table_mods = on")
            connection.execute("update pg_class set relfrozenxid = %s where relfrozenxid <> '0'", (str(first),))
            connection.execute("update pg_database set datfrozenxid = %s where datname = current_database()", (str(first),))


def test_transaction_ids_pass_an_epoch(own_postgres, kafka, topic_name):
    """1.3: a load, an open transaction and a crash across 2^32: nothing lost, doubled, invented or out of order."""
    cluster = own_postgres(autovacuum="off")
    put_before_epoch(cluster, 3000)
    database = Database(cluster, cluster.create_database("epochs"))
    topic = database.declare(topic_name)
    database.start_relay()
    load = Load(database.dsn(), (topic,), transactions=4000, writers=2, keys=100, seed=SEED, async_share=0.5).prepare()
    with database.connect() as connection:
        connection.execute("begin")
        step(connection, topic, "across")
        connection.execute("prepare transaction 'across'")
    load.start().wait()
    old, new = database.execute("select min(txid::text::bigint), max(txid::text::bigint) from outbox.event")[0]
    assert old < EPOCH < new
    cluster.kill9()
    cluster.start()
    database.execute("commit prepared 'across'")
    report = check_database(database.dsn(), kafka.bootstrap, [topic]).require_ok()
    assert report.committed > 3000


def test_clock_is_set_back(shifted_clock, kafka, topic_name):
    """F10: an hour back under load: looks and back-offs go on, and what commits across the step is ordered by seq."""
    cluster, shift_clock = shifted_clock
    database = Database(cluster, cluster.create_database("clocks"))
    topic = database.declare(topic_name)
    database.start_relay()
    database.wait_state("idle")
    before = cluster.value("select clock_timestamp()")
    blows = Blows(database, cluster)
    with Rounds(database, kafka, [topic], SEED, rate=200, keys=5) as running:
        running.await_batches(3)
        kafka.pause()
        database.wait_for("select count(*) > 100 from outbox.unsent")
        shift_clock(-3600)
        unsent = database.value("select count(*) from outbox.unsent")
        database.wait_for("select count(*) > %s from outbox.unsent", parameters=(unsent + 100,))
        kafka.resume()
        running.await_batches(3)
        blows.kill_sender()
        running.await_batches(3)
    running.check().require_ok()
    assert cluster.value("select clock_timestamp()") < before
    with database.connect() as connection:
        connection.execute("begin")
        step(connection, topic, "prepared")
        connection.execute("prepare transaction 'prepared'")
    shift_clock(-7200)
    database.execute("commit prepared 'prepared'")  # found by the look alone
    check_database(database.dsn(), kafka.bootstrap, [topic]).require_ok()


def test_clock_is_set_forward(shifted_clock, kafka, topic_name):
    """Steps forward far beyond outbox.retention: delivered history goes, nothing undelivered does: neither what an
    open transaction has emitted, nor what waits for Kafka, nor what is emitted when the clock is right again."""
    cluster, shift_clock = shifted_clock
    cluster.configure(outbox__retention="1min", outbox__segment_size="1MB")
    cluster.reload()
    database = Database(cluster, cluster.create_database("forward"))
    topic = database.declare(topic_name)
    database.start_relay()
    database.wait_state("idle")

    def wait_rotations(more):
        wanted = database.status()["rotations"] + more
        wait_until(lambda: database.status()["rotations"] >= wanted, 60, f"{wanted} rotations")

    with Rounds(database, kafka, [topic], SEED, rate=200, keys=5) as running, database.connect() as connection:
        running.await_batches(3)
        first = database.value("select min(seq) from outbox.event")
        connection.execute("begin")
        step(connection, topic, "open")
        running.await_batches(3)
        shift_clock(1200)
        wait_rotations(1)
        running.await_batches(3)
        connection.execute("commit")
        running.await_batches(3)
        shift_clock(1800)  # the age of a leaf counts from when the ring moved on
        wait_until(lambda: database.value("select min(seq) from outbox.event") > first, 60, "the end of old history")
        kafka.pause()
        database.wait_for("select count(*) > 200 from outbox.unsent")
        shift_clock(3000)
        unsent = database.value("select count(*) from outbox.unsent")
        database.wait_for("select count(*) > %s from outbox.unsent", parameters=(unsent + 200,))
        kafka.resume()
        running.await_batches(3)
        wait_rotations(1)
        shift_clock(0)
        running.await_batches(3)
    running.check().require_ok()


def test_kafka_is_replaced_by_an_empty_one(relay, postgres, kafka, topic):
    """No offset: the last batch may be doubled, which is logged and counted; what was not sent arrives."""
    Load(relay.dsn(), (topic,)).prepare()
    with relay.connect() as connection:
        for number in range(3):
            step(connection, topic, "before")
            kafka.wait_for_records(topic, number + 1)
        relay.wait_state("idle")
        since = postgres.log_size()
        kafka.replace()
        step(connection, topic, "while away")
        relay.wait_for("select events = 1 from outbox.batches order by batch_no desc limit 1")
        kafka.start()
        assert [r.key() for r in kafka.wait_for_records(topic, 1)] == [b"while away"]
        assert postgres.log_contains("Kafka has no cursor, batch 4 is sent again and may be doubled", since)
        assert relay.status()["possibly_doubled"] == 1
        step(connection, topic, "after")
        kafka.wait_for_records(topic, 2)
    report = check_database(relay.dsn(), kafka.bootstrap, [topic], 1)
    assert {row.key for row in report.lost} == {"before"}  # they went to the broker that was replaced
    assert report.delivered == 2 and not report.phantom
