# SPDX-License-Identifier: PostgreSQL
"""Many Kafka transactions in a row, and what tells that one producer sent them."""

from checker import Load


def write_singly(database, topic, count=1000):
    """count events in transactions of their own, before there is a relay."""
    Load(database.dsn(), (topic,)).prepare()
    with database.connect() as connection, connection.pipeline():
        for number in range(count):
            connection.execute("select checker.step(%s, %s, 10)", (topic, f"key-{number % 10}"))


def assert_no_rebuild(database, log_text, count=1000):
    """count Kafka transactions were sent by one producer: log_text is that of the brokers."""
    status = database.status()
    assert status["batches_sent"] >= count
    assert (status["suspect_transactions"], status["recoveries"]) == (0, 0)
    assert log_text.count(f"Initialized transactionalId {database.transactional_id()} ") == 1
