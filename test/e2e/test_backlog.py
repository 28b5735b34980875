# SPDX-License-Identifier: PostgreSQL
"""A backlog: in order through a temporary file when it is larger than the relay's memory; limited when wanted."""

import random

import psycopg
import pytest
from harness import wait_until
from harness.process import private_mib

TRANSACTIONS = 40
PIECES = 3
EVENTS = 50  # of a transaction in each piece
TOTAL = TRANSACTIONS * PIECES * EVENTS  # more than 2,048, which 64 kB hold

ORDERS = {
    "on": "order by pg_xact_commit_timestamp(txid::xid), txid, seq",
    "off": "order by max(seq) over (partition by txid), seq",
}


def store_interleaved(database, topic, seed):
    """Transactions that emit in turn and commit in another order, none delivered yet."""
    shuffled = random.Random(seed)
    connections = [database.connect(autocommit=False) for _ in range(TRANSACTIONS)]
    try:
        for _ in range(PIECES):
            for connection in shuffled.sample(connections, TRANSACTIONS):
                connection.execute(
                    "select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(1, %s) n", (topic, EVENTS)
                )
        for connection in shuffled.sample(connections, TRANSACTIONS):
            connection.commit()
    finally:
        for connection in connections:
            connection.close()


def ids(kafka, topic):
    return [dict(record.headers())["ce_id"].decode() for record in kafka.wait_for_records(topic, TOTAL)]


def temporary_files(cluster):
    return cluster.value("select count(*) from pg_ls_tmpdir()")


@pytest.mark.parametrize("commit_timestamp", ["on", "off"])
def test_order_beyond_memory(own_postgres, make_database, kafka, topic_name, commit_timestamp):
    """Drain at any backlog: what does not fit outbox.window_memory is sent in the same order, then the file goes."""
    postgres = own_postgres(
        track_commit_timestamp=commit_timestamp, outbox__window_memory="64kB", outbox__batch_max_events=700,
        log_temp_files=0,
    )
    database = make_database(postgres)
    topic = database.declare(topic_name, 1)
    store_interleaved(database, topic, 41)
    expected = [str(id) for id, in database.execute(f"select id from outbox.event {ORDERS[commit_timestamp]}")]
    assert len(expected) == TOTAL
    database.start_relay()
    assert ids(kafka, topic) == expected
    wait_until(lambda: temporary_files(postgres) == 0, 30, "the temporary file to be removed")
    assert postgres.log_contains("temporary file: path")
    batches = database.value("select count(*) from outbox.batch where events > 0")
    assert batches >= TOTAL / 700


def test_killed_with_an_open_window(own_postgres, make_database, kafka, topic_name):
    """Kill -9 of the server: a window's file does not stay behind, its events come once and in order."""
    postgres = own_postgres(outbox__window_memory="64kB", outbox__batch_max_events=10)  # 600 batches
    database = make_database(postgres)
    topic = database.declare(topic_name, 1)
    store_interleaved(database, topic, 42)
    expected = [str(id) for id, in database.execute(f"select id from outbox.event {ORDERS['on']}")]
    database.start_relay()
    database.wait_for("select batch_no >= 2 from outbox.relay_status")
    kafka.pause()
    wait_until(lambda: database.status()["state"] == "sending", 30, "a batch under way")
    assert temporary_files(postgres) > 0
    postgres.kill9()
    kafka.resume()
    postgres.configure(**{"outbox.batch_max_events": 1000})
    postgres.start()
    assert ids(kafka, topic) == expected
    wait_until(lambda: temporary_files(postgres) == 0, 30, "the temporary files to be removed")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_memory_of_a_large_backlog(relay, kafka, topic):
    """Memory: of 3,000,000 waiting events, 96 MB as an array, the relay keeps a part; below 160 MiB with its sender."""
    events = 3_000_000
    relay.wait_state("idle")
    relay.stop_relay()
    relay.wait_state("stopped")
    for _ in range(30):
        relay.execute(
            "select count(outbox.emit(%s, n::text, 'T', '{}')) from generate_series(1, %s) n", (topic, events // 30)
        )
    relay.start_relay()
    seen = []

    def finished():
        sent, *pids = relay.execute("select events_sent, pid, sender_pid from outbox.relay_slot()")[0]
        seen.append([private_mib(pid) if pid else 0 for pid in pids])
        return sent >= events
    wait_until(finished, 600, "the backlog to be sent", interval=0.1)
    assert min(map(max, zip(*seen))) > 1
    assert max(map(sum, seen)) < 160
    assert max(relay_mib for relay_mib, _ in seen) < 100


# outbox.max_backlog -----------------------------------------------------

REFUSED = "the backlog of outbox is too large"
PAYLOAD = '"' + "x" * 998 + '"'  # as JSON 1,000 bytes, with its key 1,001


def limited(database, action="error", limit="20kB"):
    """A session with the limit; transactions are the caller's."""
    connection = database.connect(autocommit=False)
    connection.execute(f"set outbox.max_backlog = '{limit}'; set outbox.max_backlog_action = '{action}'")
    connection.commit()
    return connection


def emit(connection, topic, events=1):
    connection.execute(
        "select count(outbox.emit(%s, 'k', 'T', %s::jsonb)) from generate_series(1, %s)", (topic, PAYLOAD, events)
    )


def backlog(database):
    return database.status()["backlog_bytes"]


def truth(database):
    """The backlog as the tables tell it."""
    return database.value(
        "select coalesce(sum(octet_length(key) + octet_length(payload) + coalesce(octet_length(headers), 0)), 0)"
        " from outbox.unsent"
    )


def test_limit_refuses_while_kafka_is_away(relay, postgres, kafka, topic):
    """max_backlog: past it emit raises or warns, as set, with both sizes; it resumes when Kafka is back."""
    relay.emit(topic, "first")
    kafka.wait_for_records(topic, 1)
    relay.wait_for("select backlog_bytes = 0 from outbox.relay_status")
    kafka.stop()
    with limited(relay) as connection:
        emit(connection, topic, 20)
        connection.commit()
        assert backlog(relay) == truth(relay) == 20 * 1001
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match=REFUSED) as refused:
            emit(connection, topic)
        connection.rollback()
        assert refused.value.diag.message_detail == (
            "20020 bytes are not delivered yet, this transaction brings 1001; outbox.max_backlog is 20 kB."
        )
        assert "relay_status" in refused.value.diag.message_hint
        assert backlog(relay) == 20 * 1001
    notices = []
    with limited(relay, "warn") as connection:
        connection.add_notice_handler(lambda notice: notices.append((notice.sqlstate, notice.message_primary)))
        emit(connection, topic, 2)
        emit(connection, topic, 2)
        connection.commit()
    assert notices == [("53400", REFUSED)]
    assert backlog(relay) == truth(relay) == 24 * 1001
    postgres.restart("immediate")
    relay.wait_for("select backlog_bytes = 24 * 1001 from outbox.relay_status")
    kafka.start()
    kafka.wait_for_records(topic, 25)
    relay.wait_for("select backlog_bytes = 0 from outbox.relay_status")
    with limited(relay) as connection:
        emit(connection, topic, 20)
        connection.commit()
    kafka.wait_for_records(topic, 45)


def test_backlog_counts_what_commits(database, postgres, topic):
    """max_backlog: transactions and savepoints rolled back do not count, prepared ones do; no relay runs."""
    with limited(database) as connection:
        emit(connection, topic, 5)
        connection.rollback()
        assert backlog(database) == 0
        emit(connection, topic, 1)
        connection.execute("savepoint outer_one")
        emit(connection, topic, 2)
        connection.execute("savepoint inner_one")
        emit(connection, topic, 3)
        connection.execute("release inner_one")
        connection.execute("savepoint inner_two")
        emit(connection, topic, 4)
        connection.execute("rollback to inner_two")
        connection.commit()
        assert backlog(database) == truth(database) == 6 * 1001
        emit(connection, topic, 1)
        connection.execute("savepoint outer_one")
        emit(connection, topic, 2)
        connection.execute("savepoint inner_one")
        emit(connection, topic, 3)
        connection.execute("release inner_one")
        connection.execute("rollback to outer_one")
        connection.commit()
        assert backlog(database) == truth(database) == 7 * 1001
        emit(connection, topic, 10)
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            emit(connection, topic, 4)
        connection.rollback()
        assert backlog(database) == 7 * 1001
        emit(connection, topic, 3)
        connection.execute(f"prepare transaction '{database.name}'")
        assert backlog(database) == 10 * 1001
    database.execute(f"commit prepared '{database.name}'")
    assert backlog(database) == truth(database) == 10 * 1001
    postgres.configure(outbox__max_backlog="20kB")
    postgres.restart("immediate")
    database.wait_for("select backlog_bytes = 10 * 1001 from outbox.relay_status")
    database.execute("drop extension outbox")
    database.execute("create extension outbox")
    assert backlog(database) == 0


def test_backlog_heals(relay, kafka, topic):
    """max_backlog: whatever was counted wrongly, an idle relay puts right."""
    relay.emit(topic, "k")
    kafka.wait_for_records(topic, 1)
    with relay.connect() as connection:
        connection.execute("begin")
        emit(connection, topic, 5)
        connection.execute(f"prepare transaction '{relay.name}'")
    relay.wait_for("select backlog_bytes = 0 from outbox.relay_status")
    relay.execute(f"commit prepared '{relay.name}'")
    kafka.wait_for_records(topic, 6)
    relay.wait_for("select backlog_bytes = 0 from outbox.relay_status")
    with limited(relay) as connection:
        emit(connection, topic, 3)
        connection.commit()
    kafka.wait_for_records(topic, 9)
    relay.wait_for("select backlog_bytes = 0 from outbox.relay_status")


def test_backlog_without_a_relay(own_postgres, make_database, topic_name):
    """max_backlog: after a restart it holds without a relay too; what is read is bounded, without a limit nothing."""
    cluster = own_postgres()
    plain, kept = make_database(cluster), make_database(cluster)
    for database in (plain, kept):
        database.declare(topic_name)
        for events in (10000, 500):  # of 3 bytes
            database.execute(
                "select count(outbox.emit(%s, 'k', 'T', '{}')) from generate_series(1, %s)", (topic_name, events)
            )
        assert backlog(database) == truth(database) == 31500
    cluster.execute(f"alter database {kept.name} set outbox.max_backlog = '20kB'")
    cluster.restart()
    wait_until(lambda: backlog(kept) >= 30000, 30, "the backlog to be found")
    assert backlog(kept) == 30000
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match=REFUSED):
        kept.emit(topic_name, "k")
    plain.wait_for("select waiting_since is not null from outbox.databases where database = current_database()")
    cluster.wait_for("select count(*) = 0 from pg_stat_activity where backend_type = 'outbox relay'")
    assert backlog(plain) == 0

    cluster.execute(f"alter database {kept.name} set outbox.max_backlog = '1MB'")
    cluster.execute(f"alter database {kept.name} reset outbox.relay")
    wait_until(lambda: backlog(kept) == 31500, 30, "all of the backlog to be found")
    kept.emit(topic_name, "k")


def test_backlog_after_adopt(relay, postgres, make_database, kafka, topic):
    """max_backlog: after outbox.adopt it is what will be sent, without Kafka too."""
    relay.emit(topic, "delivered")
    kafka.wait_for_records(topic, 1)
    relay.wait_state("idle")
    relay.stop_relay()
    relay.wait_state("stopped")
    with relay.connect() as connection:
        emit(connection, topic, 3)
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", relay.dsn()), restored.name)
    kafka.stop()
    restored.start_relay()
    restored.wait_state("hold")
    restored.execute("select outbox.adopt('skip')")
    restored.wait_for("select s.state <> 'hold' and s.backlog_bytes = 0 from outbox.relay_status s")
    with restored.connect() as connection:
        emit(connection, topic, 2)
    assert backlog(restored) == truth(restored) == 2 * 1001
    kafka.start()
    kafka.wait_for_records(topic, 3)
    restored.wait_for("select backlog_bytes = 0 from outbox.relay_status")
