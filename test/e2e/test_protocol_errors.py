# SPDX-License-Identifier: PostgreSQL
"""Kafka's own errors in answers to each request of a transaction: the request was done, or the broker never saw it.

make check takes a part of the cases, another one each time: OUTBOX_SEED repeats the one whose seed was printed.
"""

import itertools
import os
import random
import time

import pytest
from fault_rounds import lengths
from harness import OVERSIZED
from harness.kafka_errors import ERRORS
from struck_relay import Struck, require_unharmed, suffer_all

SEED = int(os.environ.get("OUTBOX_SEED", time.time_ns() // 10**6 % 10**6))
SIDES = ("request", "answer")
RELAYS = 4

COORDINATOR = ("COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR")
FENCED = ("INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED")
STATE = ("INVALID_PRODUCER_ID_MAPPING", "INVALID_TXN_STATE", "TRANSACTION_ABORTABLE")
SEQUENCE = ("OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID")
REPLICA = ("NOT_LEADER_OR_FOLLOWER", "REQUEST_TIMED_OUT", "NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
           "KAFKA_STORAGE_ERROR")

# What the protocol lets a broker answer; TRANSACTION_ABORTABLE is unknown to librdkafka 2.0.2.
ANSWERS = {
    "InitProducerId": COORDINATOR + FENCED + ("CONCURRENT_TRANSACTIONS",),
    "OffsetFetch": COORDINATOR + ("UNSTABLE_OFFSET_COMMIT",),
    "AddPartitionsToTxn": COORDINATOR + FENCED + STATE + ("CONCURRENT_TRANSACTIONS",),
    "AddOffsetsToTxn": COORDINATOR + FENCED + STATE + ("CONCURRENT_TRANSACTIONS",),
    "TxnOffsetCommit": COORDINATOR + FENCED + STATE + ("REQUEST_TIMED_OUT",),
    "Produce": FENCED + STATE + SEQUENCE + REPLICA,
    "EndTxn": COORDINATOR + FENCED + STATE + ("CONCURRENT_TRANSACTIONS",),
}
NEEDS_NEW_PRODUCER = {ERRORS[name] for name in FENCED + STATE + SEQUENCE}


def choose_cases(api, rounds):
    """Arguments of Struck.suffer: each pair of side and error rounds times, or a third of them once."""
    every = [(api, side, "refuse", ERRORS[name]) for side, name in itertools.product(SIDES, ANSWERS[api])]
    return every * rounds or random.Random(f"{SEED} {api}").sample(every, len(every) // 3)


def expected(api, error):
    """(suspect transactions, recoveries): a request done again is suspect where it could act late."""
    if error in NEEDS_NEW_PRODUCER:
        return 0, 1 + (api == "InitProducerId")
    return int(api in ("TxnOffsetCommit", "EndTxn")), int(api in ("InitProducerId", "OffsetFetch"))


@pytest.fixture
def proxied(postgres, kafka, proxy):
    """The run's cluster, whose relays go through the proxy."""
    print(f"seed={SEED}")
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}")
    postgres.reload()
    return postgres


@lengths(0, 10)
def test_each_request_is_answered_with_each_error(proxied, kafka, proxy, make_database, unique, rounds):
    """F7: protocol errors injected under load, the request done or not: nothing lost, doubled, reordered.

    A commit that was done and answered with an error is the one that a relay without its look would send again."""
    cases = [case for api in ANSWERS for case in choose_cases(api, rounds)]
    struck = {number: Struck(make_database(proxied), proxy, unique("refused")) for number in range(RELAYS)}
    outcomes = suffer_all(struck, {number: cases[number::RELAYS] for number in struck})
    assert len(outcomes) == len(cases)
    for (api, side, _, error), suspects, recoveries in outcomes:
        assert (suspects, recoveries) == expected(api, error), f"{api} {side} {error}"
    require_unharmed(struck, kafka)


@lengths(0, 3)
def test_abort_is_answered_with_each_error(proxied, kafka, proxy, database, topic_name, rounds):
    """F7: the abort of a batch with a refused event is done or not, and answered with an error: one dead letter."""
    cases = choose_cases("EndTxn", rounds)
    cases = cases if rounds else cases[:4]
    kafka.create_topic(topic_name, 1, {"max.message.bytes": "2000"})
    database.declare(topic_name, 1)
    owner = database.transactional_id().encode()
    database.start_relay()
    for number, (api, side, action, error) in enumerate(cases):
        abort = proxy.strike(api, side, action, owner, error=error)
        database.execute(f"select outbox.emit(%s, 'k', 'Refused', {OVERSIZED})", (topic_name,))
        assert abort.struck.wait(60), f"no abort for {side} {error}"
        database.wait_for(f"select count(*) = {number + 1} from outbox.dead_letter", 60)
        database.emit(topic_name, "k", f"Good-{number}")
        database.wait_delivered()
    records = kafka.read_all(topic_name)
    types = [dict(record.headers())["ce_type"].decode() for record in records]
    assert types == [f"Good-{number}" for number in range(len(cases))]
    assert database.value("select count(*) from outbox.dead_letter") == len(cases)
    assert database.status()["hold_reason"] is None


def test_a_fenced_relay_waits_and_looks(proxied, kafka, proxy, database, topic):
    """A relay that was fenced leaves the other one alone for a second, then looks before it fences."""
    owner = database.transactional_id().encode()
    database.start_relay()
    database.emit(topic, "k", "First")
    database.wait_delivered()
    fenced = proxy.strike("EndTxn", "request", "refuse", owner, error=ERRORS["PRODUCER_FENCED"])
    look = proxy.strike("OffsetFetch", "answer", "hold", owner)
    fence = proxy.strike("InitProducerId", "answer", "hold", owner)
    database.emit(topic, "k", "Second")
    assert fenced.struck.wait(60) and look.struck.wait(60)
    assert look.struck_at - fenced.struck_at >= 1.0
    assert not fence.struck.is_set()
    proxy.release(look)
    assert fence.struck.wait(60)
    proxy.release(fence)
    database.wait_delivered()
    types = [dict(record.headers())["ce_type"].decode() for record in kafka.wait_for_records(topic, 2)]
    assert types == ["First", "Second"]
    status = database.status()
    assert status["recoveries"] == 1 and "fenced" in status["last_error"]


@pytest.mark.parametrize(("delivery", "written"), [("exactly_once", ["First", "Second"]),
                                                   ("at_least_once", ["Second", "First", "Second"])])
def test_a_later_record_does_not_stand_for_an_earlier_one(postgres, kafka, proxy, make_database, unique, delivery,
                                                          written):
    """A topic that was made anew has no leader yet for one request and takes the next.

    A log without a record of its producer takes any sequence number as its first, and librdkafka takes the
    earlier request for written as soon as the later one is."""
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}\nbatch.num.messages=1",
                       outbox__delivery=delivery)
    postgres.reload()
    database, topic = make_database(postgres), unique("later")
    kafka.create_topic(topic, 1)
    database.declare(topic, 1)
    database.start_relay()
    database.wait_state("idle")
    refused = proxy.strike("Produce", "request", "refuse", topic.encode(), error=ERRORS["NOT_LEADER_OR_FOLLOWER"])
    proxy.delay = 0.3  # so that both requests are under way
    with database.connect(autocommit=False) as connection:
        for kind in ("First", "Second"):
            connection.execute("select outbox.emit(%s, 'k', %s, '{}')", (topic, kind))
        connection.commit()
    assert refused.struck.wait(60), "no record was sent"
    proxy.delay = 0.0
    database.wait_delivered()
    types = [dict(record.headers())["ce_type"].decode() for record in kafka.wait_for_records(topic, len(written))]
    assert types == written
