# SPDX-License-Identifier: PostgreSQL
"""Requests and answers of Kafka transactions held, dropped and cut by a proxy; hanging transactions."""

import itertools
import os
import signal

import pytest
from checker import Load, check_database
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec
from fault_rounds import Blows
from harness import wait_until
from harness.proxy import APIS
from struck_relay import Struck, require_unharmed, suffer_all

SIDES = ("request", "answer")
ACTIONS = ("hold", "drop", "cut")

# A lost answer is noticed after a second instead of ten.
QUICK = "socket.timeout.ms=1000\nmessage.timeout.ms=8000\ntransaction.timeout.ms=20000"


@pytest.fixture
def proxied(postgres, kafka, proxy):
    """The run's cluster, whose relays go through the proxy and notice a lost answer soon."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}\n{QUICK}")
    postgres.reload()
    return postgres


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
    """Torn transactions: six requests, their answers, held, dropped and cut: 36 cases under load."""
    struck = {api: Struck(make_database(proxied), proxy, unique("torn")) for api in APIS}
    cases = {api: list(itertools.product([api], SIDES, ACTIONS)) * rounds for api in APIS}
    outcomes = suffer_all(struck, cases)
    assert len(outcomes) == 36 * rounds
    for case, suspects, recoveries in outcomes:
        assert_noticed(case, suspects, recoveries)
    require_unharmed(struck, kafka)


def test_held_commit_cannot_reach_the_next_transaction(proxied, kafka, proxy, database, topic):
    """A held EndTxn(commit) is released inside the next transaction, which aborts: its event stays invisible.

    KAFKA-17754; without the fence after a suspect commit the event "Aborted" is read here."""
    owner = database.transactional_id().encode()
    commit = proxy.strike("EndTxn", "request", "hold", owner)
    properties = proxied.settings["outbox.kafka_properties"]
    proxied.configure(outbox__kafka_properties=f"{properties}\nmessage.max.bytes=20000")
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
    """Hanging transactions: a sender frozen past transaction.timeout.ms holds no reader, and wakes up fenced."""
    postgres.configure(
        outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}\nsocket.timeout.ms=2000\ntransaction.timeout.ms=3000"
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
