# SPDX-License-Identifier: PostgreSQL
"""A link or quota too slow for a batch: it gets more time with each try, later ones are smaller."""

import re

import pytest
from harness import KafkaBroker, set_producer_quota, wait_until

MB = 1 << 20
IMPATIENT = "message.timeout.ms=2000\ntransaction.timeout.ms=4000\nsocket.timeout.ms=1500"

# Random bytes: nothing that compression makes small.
BYTES = """
    select outbox.emit_bytes(%s, decode(lpad(to_hex(n), 8, '0'), 'hex'), 'Large', (
        select string_agg(uuid_send(gen_random_uuid()), '') from generate_series(1, {size} / 16) where n > 0), 'application/x')
    from generate_series(1, {count}) n"""


@pytest.fixture
def quota(kafka, postgres, unique):
    """quota(rate, properties): the relay's client.id may produce so many bytes a second."""
    client = unique("slow")

    def limit(rate, properties=""):
        set_producer_quota(kafka.bootstrap, client, rate)
        postgres.configure(outbox__kafka_properties=f"bootstrap.servers={kafka.bootstrap}\nclient.id={client}\n{properties}")
        postgres.reload()
    yield limit
    set_producer_quota(kafka.bootstrap, client, None)


def emit(database, topic, count, size):
    """Emit count events of size random bytes in one transaction."""
    database.execute(BYTES.format(size=size, count=count), (topic,))


def batches(database):
    """Events of each batch, in order."""
    return database.value("select array_agg(events order by batch_no) from outbox.batch where batch_no > 0")


def errors(database, said, *parts):
    """Notes last_error in said; does one of those so far hold all parts?"""
    error = database.status()["last_error"]
    if error and error not in said:
        said.append(error)
    return any(all(part in text for part in parts) for text in said)


def test_quota_lets_a_batch_pass(database, kafka, quota, topic):
    """A stored batch that a quota of 300 kB/s keeps from passing in time passes with more; the next are smaller."""
    quota(300000, IMPATIENT)
    emit(database, topic, 20, MB // 10)
    said = []
    database.start_relay()
    wait_until(lambda: errors(database, said, "bytes a second", "the next try may take"), 60, "an error that names the rate")
    assert database.status()["delivered_batch"] == 0
    wait_until(lambda: database.status()["delivered_batch"] == 1, 90, "the batch to pass")
    assert batches(database) == [20]
    emit(database, topic, 8, MB // 10)
    assert len(kafka.wait_for_records(topic, 28, 60)) == 28
    assert max(batches(database)[1:]) < 4
    assert len({r.value() for r in kafka.read_all(topic)}) == 28


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_slow_link(database, postgres, kafka, proxy, topic):
    """32 MB get through a link of 64 kB/s with the default time-outs; Kafka's largest transaction holds them."""
    proxy.rate = 64000
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={proxy.bootstrap}")
    postgres.reload()
    emit(database, topic, 320, MB // 10)
    database.start_relay()
    wait_until(lambda: database.status()["delivered_batch"] == 1, 1200, "the batch to pass")
    print(f"recoveries: {database.status()['recoveries']}, last error: {database.status()['last_error']}")
    assert batches(database) == [320]
    assert len(kafka.wait_for_records(topic, 320)) == 320
    emit(database, topic, 20, MB // 10)
    assert len(kafka.wait_for_records(topic, 340, 120)) == 340
    assert max(batches(database)[1:]) <= 6


@pytest.fixture
def short_kafka(session, unique):
    """A broker whose transactions take 6 s at most."""
    broker = KafkaBroker(session, unique("short"), {"transaction.max.timeout.ms": "6000"}).start()
    yield broker
    broker.kill9()


def test_what_cannot_pass_is_named(short_kafka, database, postgres, unique, topic_name):
    """Size, rate and remedy of a batch that no transaction of Kafka's is long enough for; raising the quota ends it."""
    client = unique("stuck")
    set_producer_quota(short_kafka.bootstrap, client, 100000)
    postgres.configure(outbox__kafka_properties=f"bootstrap.servers={short_kafka.bootstrap}\nclient.id={client}\n{IMPATIENT}")
    postgres.reload()
    database.declare(topic_name, 1)
    emit(database, topic_name, 20, MB // 10)
    said = []
    database.start_relay()
    wait_until(lambda: errors(database, said, "does not pass", "bytes a second", "producer_byte_rate",
                              "transaction.max.timeout.ms"), 90, "an error that says what helps")
    text = next(error for error in said if "does not pass" in error)
    assert re.search(r"the batch of 209\d{4} bytes does not pass: \d+ were acknowledged \(\d+ bytes a second\)", text)
    assert "6000 ms" in text and text.endswith("Message timed out")
    set_producer_quota(short_kafka.bootstrap, client, None)
    assert len(short_kafka.wait_for_records(topic_name, 20, 60)) == 20


def test_transaction_timeout_above_the_brokers(relay, postgres, kafka, topic):
    """last_error names transaction.timeout.ms, our value and Kafka's limit, and ends with Kafka's words."""
    properties = f"bootstrap.servers={kafka.bootstrap}"
    postgres.configure(outbox__kafka_properties=f"{properties}\ntransaction.timeout.ms=900001")
    postgres.reload()
    relay.emit(topic, "k")
    said = []
    wait_until(lambda: errors(relay, said, "transaction.timeout.ms is 900001", "transaction.max.timeout.ms of the brokers, which is 900000"),
               60, "an error that names both")
    assert said[-1].rstrip(".").endswith("configured for the broker") or "timeout" in said[-1].rsplit(": ", 1)[1], said[-1]
    postgres.configure(outbox__kafka_properties=properties)
    postgres.reload()
    assert len(kafka.wait_for_records(topic, 1)) == 1
