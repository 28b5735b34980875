# SPDX-License-Identifier: PostgreSQL
"""Requests and answers of Kafka transactions held, dropped and cut by a proxy; hanging transactions."""

import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from checker import Load, check_database
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec
from fault_rounds import Blows
from harness import wait_until
from harness.proxy import APIS

SIDES = ("request", "answer")
ACTIONS = ("hold", "drop", "cut")

# A lost answer is noticed after a second instead of ten.
QUICK = "socket.timeout.ms=1000;message.timeout.ms=8000;transaction.timeout.ms=20000"


@pytest.fixture
def proxied(postgres, kafka, proxy):
    """The run's cluster, whose relays go through the proxy and notice a lost answer soon."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap};{QUICK}")
    postgres.reload()
    return postgres


class Struck:
    """A database with its relay and a writer; strikes hit the requests of its transactional id only."""

    def __init__(self, database, proxy, topic):
        self.database = database
        self.proxy = proxy
        self.topic = database.declare(topic)
        Load(database.dsn(), (topic,)).prepare()
        self.owner = database.transactional_id().encode()
        database.start_relay()
        self.connection = database.connect()
        self.halt = threading.Event()
        self.writer = threading.Thread(target=self.write, daemon=True)

    def write(self):
        with self.database.connect() as connection:
            for number in itertools.count():
                connection.execute("select checker.step(%s, %s, 50)", (self.topic, f"key-{number % 7}"), prepare=True)
                if self.halt.wait(0.02):
                    return

    def __enter__(self):
        self.writer.start()
        self.await_batches(2)
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.writer.join(30)
        self.connection.close()

    def counts(self):
        """(delivered batch, suspect transactions, recoveries) of the relay."""
        return self.connection.execute(
            "select coalesce(delivered_batch, -1), suspect_transactions, recoveries from outbox.relay_slot()"
        ).fetchone()

    def await_batches(self, count):
        before = self.counts()[0]
        wait_until(lambda: self.counts()[0] >= before + count, 90, f"{count} batches after {before}", interval=0.02)

    def suffer(self, api, side, action):
        """One case, until the relay goes on; returns (suspects, recoveries, seconds without a batch) of it."""
        _, suspects, recoveries = self.counts()
        strike = self.proxy.strike(api, side, action, self.owner)
        if api == "InitProducerId":
            os.kill(wait_until(lambda: self.database.status()["sender_pid"], 30, "a sender"), signal.SIGKILL)
        assert strike.struck.wait(60), f"no {api} came"
        began = time.monotonic()
        self.await_batches(2)
        lasted = time.monotonic() - began
        if action == "hold":
            self.proxy.release(strike)
            self.await_batches(3)
        _, more_suspects, more_recoveries = self.counts()
        return more_suspects - suspects, more_recoveries - recoveries, lasted


def run_cases(struck, api, rounds):
    """All cases of one API; returns {(api, side, action): [outcome of suffer]}."""
    with struck:
        return {
            (api, side, action): [struck.suffer(api, side, action) for _ in range(rounds)]
            for side in SIDES for action in ACTIONS
        }


def assert_noticed(case, suspects, recoveries):
    """The relay counted what it must not trust: a torn transaction, or a failed one."""
    api = case[0]
    if api == "InitProducerId":
        # The killed sender; and one that was held fences its successor when it comes.
        assert recoveries >= 1, f"{case}: {suspects} suspects, no recovery"
    elif api != "Produce":
        assert suspects + recoveries >= 1, f"{case}: nobody noticed"


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_each_request_and_answer_is_hurt(proxied, kafka, proxy, make_database, unique, rounds):
    """Issue 4, torn transactions: six requests, their answers, held, dropped and cut: 36 cases under load."""
    struck = {api: Struck(make_database(proxied), proxy, unique("torn")) for api in APIS}
    with ThreadPoolExecutor(len(struck)) as pool:
        running = [pool.submit(run_cases, struck[api], api, rounds) for api in struck]
        outcomes = {case: outcome for ran in running for case, outcome in ran.result().items()}
    assert len(outcomes) == 36
    for case, found in outcomes.items():
        print(*case, *(f"suspects={s} recoveries={r} seconds={t:.1f}" for s, r, t in found))
        for suspects, recoveries, _ in found:
            assert_noticed(case, suspects, recoveries)
    for one in struck.values():
        report = check_database(one.database.dsn(), kafka.bootstrap, [one.topic], 90).require_ok()
        print(one.topic, report.summary())
        assert one.database.status()["hold_reason"] is None


def test_held_commit_cannot_reach_the_next_transaction(proxied, kafka, proxy, database, topic):
    """Issue 4: a held EndTxn(commit) is released inside the next transaction, which aborts: its event stays invisible.

    KAFKA-17754; without the fence after a suspect commit the event "Aborted" is read here."""
    owner = database.transactional_id().encode()
    commit = proxy.strike("EndTxn", "request", "hold", owner)
    properties = proxied.settings["outbox.kafka_properties"]
    proxied.configure(outbox__kafka_properties=f"{properties};message.max.bytes=20000")
    proxied.reload()
    database.start_relay()
    database.emit(topic, "k", "First")
    assert commit.struck.wait(60)
    kafka.wait_for_records(topic, 1)  # librdkafka has sent the commit again
    wait_until(lambda: database.status()["suspect_transactions"] >= 1, 30, "the suspicion")
    abort = proxy.strike("EndTxn", "request", "hold", owner)
    with database.connect(autocommit=False) as connection:
        emit = "select outbox.emit(%s, 'k', %s, to_jsonb(repeat('x', %s)))"
        connection.execute(emit, (topic, "Aborted", 10))
        connection.execute(emit, (topic, "Refused", 50_000))
    assert abort.struck.wait(60)
    proxy.release(commit)
    assert commit.answered.wait(30)
    proxy.release(abort)
    database.emit(topic, "k", "Last")
    records = kafka.wait_for_records(topic, 3)
    types = [dict(record.headers())["ce_type"].decode() for record in records]
    assert types == ["First", "Aborted", "Last"]
    assert len(kafka.read_all(topic, isolation="read_uncommitted")) >= 4  # an aborted copy is in the log


def end_of(kafka, topic, partition, isolation):
    """The end of the partition for that isolation level: high watermark or last stable offset."""
    place = TopicPartition(topic, partition)
    found = kafka.admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=isolation)
    return found[place].result(10).offset


def test_hanging_transaction_ends(postgres, kafka, proxy, database, topic_name):
    """Issue 4, hanging transactions: a sender frozen past transaction.timeout.ms holds no reader, and wakes up fenced."""
    postgres.configure(
        outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap};socket.timeout.ms=2000;transaction.timeout.ms=3000"
    )
    postgres.reload()
    topic = database.declare(topic_name, 1)
    Load(database.dsn(), (topic,)).prepare()
    owner = database.transactional_id().encode()
    strike = proxy.strike("EndTxn", "request", "hold", owner, nth=3)
    database.start_relay()

    def write():
        database.execute("select checker.step(%s, 'k', 10)", (topic,))
        return strike.struck.is_set()
    wait_until(write, 60, "a transaction that hangs")
    sender = Blows(database, postgres).process("sender_pid")
    os.kill(sender, signal.SIGSTOP)
    hung = end_of(kafka, topic, 0, IsolationLevel.READ_COMMITTED)
    assert hung < end_of(kafka, topic, 0, IsolationLevel.READ_UNCOMMITTED)
    wait_until(lambda: end_of(kafka, topic, 0, IsolationLevel.READ_COMMITTED) > hung, 60,
               "the last stable offset to move while the sender is frozen")
    proxy.release(strike)
    os.kill(sender, signal.SIGCONT)
    database.execute("select checker.step(%s, 'k', 10)", (topic,))
    check_database(database.dsn(), kafka.bootstrap, [topic], 90).require_ok()
    status = database.status()
    assert status["recoveries"] >= 1 and "fenced" in status["last_error"]
    assert (end_of(kafka, topic, 0, IsolationLevel.READ_COMMITTED)
            == end_of(kafka, topic, 0, IsolationLevel.READ_UNCOMMITTED))
