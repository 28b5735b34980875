# SPDX-License-Identifier: PostgreSQL
"""What is committed is delivered, nothing else, and in order: no faults here but one."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from back_to_back import assert_no_rebuild, write_singly
from checker import Load, check_database
from checker.load import KINDS
from fault_rounds import Blows, Rounds

SEED = 20241


@pytest.mark.parametrize("transactions", [100000])
def test_events_are_delivered_if_and_only_if_committed(relay, kafka, unique, transactions):
    """Row 001.1: COMMIT, ROLLBACK, SAVEPOINT, PREPARE mixed; set of events = set of committed, order per key kept."""
    topics = tuple(relay.declare(unique("mixed")) for _ in range(2))
    load = Load(relay.dsn(), topics, transactions=transactions, writers=4, keys=500, seed=SEED)
    result = load.run()
    assert result.transactions == transactions and set(result.done) == set(KINDS)
    report = check_database(relay.dsn(), kafka.bootstrap, topics, 120).require_ok()
    print(f"seed={SEED} seconds={result.seconds:.1f} {report.summary()}")
    fewest = result.done["commit"] + result.done["savepoint"] + result.done["commit_prepared"]
    assert report.committed >= fewest + 2 * result.done["several"]
    assert relay.value("select count(*) from outbox.event") == report.committed
    assert relay.status()["recoveries"] == 0


def write_steps(dsn, topic, number, steps, keys):
    """One writer: steps transactions on keys spread over all of them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for step in range(steps):
            key = f"key-{(number * 31 + step * 17) % keys}"
            connection.execute("select checker.step(%s, %s, 100)", (topic, key), prepare=True)
    return steps


@pytest.mark.parametrize("steps", [80, pytest.param(1500, marks=pytest.mark.long)])
def test_order_per_key_of_many_writers(relay, kafka, topic, steps):
    """Row 001.3 at the relay: 64 writers, 1,000 keys, key_seq rising per key in one partition, across a restart."""
    writers, keys = 64, 1000
    Load(relay.dsn(), (topic,)).prepare()
    relay.execute("select checker.step(%s, 'first', 1)", (topic,))
    kafka.wait_for_records(topic, 1)
    with ThreadPoolExecutor(writers) as pool:
        written = [pool.submit(write_steps, relay.dsn(), topic, n, steps, keys) for n in range(writers)]
        relay.wait_for("select delivered_batch > 3 from outbox.relay_slot()", 60)
        assert relay.value("select pg_terminate_backend(pid) from outbox.relay_slot()")
        assert sum(w.result() for w in written) == writers * steps
    report = check_database(relay.dsn(), kafka.bootstrap, [topic], 120).require_ok()
    assert report.committed == writers * steps + 1
    assert relay.value("select count(*) from checker.counter") == keys + 1


def test_back_to_back_transactions_are_not_suspect(database, postgres, kafka, topic):
    """The watch for torn transactions: 1,000 Kafka transactions in a row see no producer rebuilt."""
    postgres.configure(outbox__batch_max_events=1)
    postgres.reload()
    write_singly(database, topic)
    database.start_relay()
    check_database(database.dsn(), kafka.bootstrap, [topic], 240).require_ok()
    assert_no_rebuild(database, kafka.child.log())


def write_bulk(connection, topic, transactions, events):
    """Transactions of that many events each, one after another."""
    for number in range(transactions):
        connection.execute(
            "select checker.step(%s, 'bulk-' || n %% 20, 20) from generate_series(1, %s) n",
            (topic, events + number),
        )


def assert_cuts(database, limit):
    """The batch log keeps the limit, and cuts inside only what is larger than it."""
    value = database.value
    assert value("select sum(events) from outbox.batch") == value("select count(*) from outbox.event")
    assert value("select max(events) from outbox.batch") == limit
    cut = value("select count(*) from outbox.batch where upper_txid is not null")
    wrongly = value(
        "select count(*) from outbox.batch b where upper_txid is not null"
        " and (select count(*) from outbox.event e where e.txid = b.upper_txid) <= %s", (limit,)
    )
    assert cut > 0 and wrongly == 0


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.long)])
def test_transactions_larger_than_a_batch(database, postgres, kafka, topic, rounds):
    """Chunking: transactions around and far above batch_max_events arrive exactly once, in order, despite kills."""
    limit = 100
    postgres.configure(outbox__batch_max_events=limit)
    postgres.reload()
    database.start_relay()
    blows = Blows(database, postgres)
    with Rounds(database, kafka, [topic], seed=SEED, rate=300) as running, database.connect() as connection:
        for number in range(rounds):
            write_bulk(connection, topic, 2, 1000)
            write_bulk(connection, topic, 4, limit - 2)
            running.await_batches(running.choose.randint(1, 12))
            blows.kill_sender()
            if number % 3 == 2:
                blows.terminate("outbox relay")
        running.await_batches(1)
    running.check().require_ok()
    assert_cuts(database, limit)
