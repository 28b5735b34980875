# SPDX-License-Identifier: PostgreSQL
"""A record that ends the process of its consumer, every time."""

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from harness import wait_until


def test_crash_becomes_dead_letter(hazard):
    """Attempts that survive a crash: after three the record is a dead letter of class crash; others go on."""
    for n in range(10):
        hazard.produce(f"before-{n}", key=f"b{n}")
    hazard.produce("abort", key="bad")
    for n in range(10):
        hazard.produce(f"after-{n}", key=f"a{n}")
    hazard.flush()
    service, ends = hazard.run_until(lambda: len(hazard.taken()) == 20, 5, crash_max=3)
    assert ends == 3
    assert hazard.taken() == [f"before-{n}" for n in range(10)] + [f"after-{n}" for n in range(10)]
    rows = hazard.database.execute("select error_class, attempts, state, \"offset\" from outbox.dead_letter")
    assert rows == [("crash", 3, "open", 10)]
    wait_until(lambda: sum(line["event"] == "records_together" for line in service.log_lines()) >= 3, 30,
               "batches in every partition again")
    assert service.stop() == 0
    # A clean end leaves nothing that would have the next start be careful.
    assert hazard.database.value("select count(*) from outbox.consumer_attempt") == 0


def test_crash_in_a_retry(hazard):
    """Attempts that survive a crash: the same of a record that is tried again from outbox.dead_letter."""
    hazard.fail("first")
    service = hazard.start(retry_backoff_ms=100)
    hazard.produce("first")
    hazard.flush()
    hazard.wait_letters("open", 1)
    hazard.produce("abort-retry")
    hazard.produce("last")
    hazard.flush()
    hazard.wait_letters("held", 2)
    hazard.heal()
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    hazard.database.wait_for("select count(*) = 1 from hazard.taken")
    wait_until(lambda: not service.running, 30, "the process to end")
    _, ends = hazard.run_until(lambda: hazard.letters("open") == 1, 4, crash_max=3)
    assert ends == 2
    rows = hazard.database.execute("select error_class, attempts, state from outbox.dead_letter order by \"offset\"")
    assert rows == [("record", 5, "resolved"), ("crash", 3, "open"), ("held", 0, "held")]


def test_kills_are_not_the_records_fault(hazard):
    """Kill -9 between records makes no dead letter, however often; each effect is made once."""
    service = hazard.start()
    for n in range(3):
        for m in range(20):
            hazard.produce(f"{n}-{m}", key=f"{m}", partition=m % 3)
        hazard.flush()
        hazard.wait_taken(20 * n + 20)
        service.kill9()
        service = hazard.start()
    assert sorted(hazard.taken()) == sorted(f"{n}-{m}" for n in range(3) for m in range(20))
    assert hazard.database.value("select count(*) from outbox.dead_letter") == 0


def read_again(hazard):
    """Kafka's memory of the group goes back to the beginning, once no member is left."""
    request = [ConsumerGroupTopicPartitions(hazard.group, [TopicPartition(hazard.topic, 0, 0)])]

    def try_it():
        try:
            hazard.broker.admin.alter_consumer_group_offsets(request)[hazard.group].result(30)
        except KafkaException:
            return False
        return True
    wait_until(try_it, 30, "the group to be empty")


def test_crash_behind_duplicates(hazard):
    """Attempts that survive a crash: found also where each start reads more records again than a batch has;
    one that is a dead letter already is not looked into again."""
    settings = {"batch_max": 4, "crash_max": 2}
    service = hazard.start(**settings)
    for n in range(20):
        hazard.produce(f"{n}", key=f"{n}")
    hazard.flush()
    hazard.wait_taken(20)
    assert service.stop() == 0
    hazard.produce("abort", key="bad")
    hazard.produce("abort", key="worse")
    hazard.produce("last")
    hazard.flush()
    for ends in range(4):
        read_again(hazard)
        service = hazard.start(wait=False, **settings)
        wait_until(lambda s=service: len(hazard.taken()) == 21 or not s.running, 60, "the last effect or the end")
        if service.running:
            break
    assert service.running and ends == 3
    rows = hazard.database.execute("select error_class, attempts, state from outbox.dead_letter order by \"offset\"")
    assert rows == [("crash", 2, "open")] * 2
    assert len(set(hazard.taken())) == 21
