# SPDX-License-Identifier: PostgreSQL
"""A backlog larger than the relay's memory: the same order, through a temporary file."""

import random

import pytest
from harness import wait_until

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
    """Issue 4, drain at any backlog: what does not fit outbox.window_memory is sent in the same order, then the file goes."""
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
    """Issue 4, kill -9 of the server: a window's file does not stay behind, its events come once and in order."""
    postgres = own_postgres(outbox__window_memory="64kB", outbox__batch_max_events=100)
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
    postgres.start()
    assert ids(kafka, topic) == expected
    wait_until(lambda: temporary_files(postgres) == 0, 30, "the temporary files to be removed")
