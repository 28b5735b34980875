# SPDX-License-Identifier: PostgreSQL
"""The producer of the harness keeps the order of a partition."""

from harness.kafka import KafkaClient
from harness.kafka_errors import ERRORS


def test_order_survives_a_refusal(kafka, proxy, topic_name):
    """The first request to a topic just made is refused, as by a leader that is not ready yet, while more are produced.

    The answer is late, so that a producer which sends the next request before it has the answer would send it then."""
    kafka.create_topic(topic_name, 1)
    refused = proxy.strike("Produce", "request", "refuse", error=ERRORS["NOT_LEADER_OR_FOLLOWER"])
    proxy.delay = 0.5
    producer = KafkaClient(proxy.bootstrap).producer()
    producer.produce(topic_name, "0", partition=0)
    assert refused.struck.wait(60)
    proxy.delay = 0
    for number in range(1, 100):
        producer.produce(topic_name, str(number), partition=0)
    assert producer.flush(60) == 0
    assert [record.value() for record in kafka.read_all(topic_name)] == [b"%d" % number for number in range(100)]
