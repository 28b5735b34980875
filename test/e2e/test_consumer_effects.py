# SPDX-License-Identifier: PostgreSQL
"""Every event has one effect in a consumer, whatever is struck, sent twice or missing."""

import contextlib
import datetime
import itertools
import random
import threading
import uuid

import psycopg
import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from harness import wait_until

DAY_MS = 24 * 3600 * 1000


class OffsetWatch(threading.Thread):
    """Compares Kafka's committed offsets with the database's until stopped; `ahead` are those that were ahead."""

    def __init__(self, hazard):
        super().__init__(daemon=True)
        self.hazard = hazard
        self.ahead = []
        self.looks = 0
        self.stopping = threading.Event()

    def run(self):
        statement = "select topic, partition, next_offset from outbox.consumer_offsets(%s)"
        places = [TopicPartition(self.hazard.topic, number) for number in range(3)]
        consumer = self.hazard.broker.consumer(self.hazard.group)
        while not self.stopping.wait(0.05):
            try:
                # Kafka first: the database can only have moved on since.
                committed = [place for place in consumer.committed(places, timeout=10) if place.offset > 0]
                rows = self.hazard.database.execute(statement, (self.hazard.group,))
            except (KafkaException, psycopg.OperationalError):
                continue  # the group is not known yet, or the server is struck
            done = {(topic, partition): offset for topic, partition, offset in rows}
            self.ahead += [place for place in committed if place.offset > done.get((place.topic, place.partition), 0)]
            self.looks += bool(committed)
        consumer.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(30)


@contextlib.contextmanager
def handler_held_up(hazard):
    """Meanwhile no effect comes about; gives a probe for a process with a batch in hand, its name or None."""
    waiting = ("select min(application_name) from pg_stat_activity where datname = current_database()"
               " and application_name like 'member-%' and wait_event_type = 'Lock'")
    with hazard.database.connect(autocommit=False) as blocker:
        blocker.execute("lock table hazard.taken in exclusive mode")
        yield lambda: hazard.database.value(waiting)
        blocker.rollback()


@pytest.mark.parametrize("events, rounds", [
    (3000, 3), pytest.param(100000, 50, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_kills(hazard, events, rounds):
    """Row 000.3, row F17: consumers killed with -9 and the database restarted at work: each effect once, none early.

    Every second kill surely meets a batch in hand, the others come while records are left."""
    choose = random.Random(30003)
    sent = []
    members = {name: hazard.start(wait=False, database=hazard.database.dsn(application_name=name), batch_max=50, threads=2)
               for name in ("member-0", "member-1")}
    count = "select count(*) from hazard.taken"

    def send(number):
        sent.extend(hazard.produce(f"{n}", key=f"k{n % 500}", partition=n % 3) for n in range(number))
        hazard.flush()
    with OffsetWatch(hazard) as watch:
        for number in range(rounds):
            goal = len(sent) + 1
            with contextlib.ExitStack() as until_struck:
                at_work = until_struck.enter_context(handler_held_up(hazard)) if number % 2 == 0 else None
                send(events // rounds + (events % rounds if number == 0 else 0))
                if at_work:
                    name = wait_until(at_work, 120, "a batch in hand")
                else:
                    wait_until(lambda goal=goal: hazard.database.value(count) >= goal, 120, f"{goal} effects")
                    name = choose.choice(sorted(members))
                members[name].kill9()
            if number % 5 == 1:
                hazard.database.cluster.stop("immediate")
                hazard.database.cluster.start()
            members[name].start(wait=False)
        wait_until(lambda: hazard.database.value(count) >= events, 120, "all effects")
        assert [member.stop() for member in members.values()] == [0, 0]
        ends = watch.looks + 3
        wait_until(lambda: watch.looks >= ends, 30, "a look at the final offsets")
    taken = [row[0] for row in hazard.database.execute("select event_id from hazard.taken")]
    assert len(sent) == events and sorted(taken) == sorted(sent)
    assert watch.looks > 3 + rounds and watch.ahead == []
    assert hazard.database.value("select count(*) from outbox.dead_letter") == 0
    found = [line["event"] for member in members.values() for line in member.log_lines()]
    assert found.count("records_alone") >= 1, "nobody has seen that a member ended with work in hand"


def event_id_of(at):
    """An event id of version 7, as emit() makes them, of that time."""
    return str(uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | uuid.uuid4().int >> 66))


def test_duplicates_at_other_offsets(hazard, unique):
    """Row 004.10: the same events again at other offsets: one effect in each of two groups, a day later too."""
    groups = [hazard.group, unique("second")]
    services = [hazard.start(group_id=group) for group in groups]
    # A day later the claims and the times in the ids are a day old, and what is too old is forgotten.
    a_day_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=25)
    events = [event_id_of(a_day_ago) for _ in range(50)] + [str(uuid.uuid4()) for _ in range(50)]
    expected = sorted(events * 2)

    def taken():
        return sorted(row[0] for row in hazard.database.execute("select event_id from hazard.taken"))

    def duplicates(service, group):
        name = f'outbox_consumer_records_total{{consumer="{group}",topic="{hazard.topic}",result="duplicate"}}'
        return service.metrics().get(name, 0)

    def send(times):
        for number, event in itertools.product(range(times), events):
            hazard.produce("paid", key=event, partition=number % 3, event_id=event)
        hazard.flush()

    def wait_duplicates(number):
        for service, group in zip(services, groups):
            wait_until(lambda s=service, g=group: duplicates(s, g) == number, 60, f"{number} duplicates in {group}")
    send(3)
    wait_duplicates(200)
    assert taken() == expected
    hazard.database.execute("update outbox.idempotency set processed_at = processed_at - interval '25 h'")
    for old in (event_id_of(a_day_ago - datetime.timedelta(days=50)), str(uuid.uuid4())):
        hazard.database.execute("select outbox.claim('old', %s)", (old,))
    hazard.database.execute("update outbox.idempotency set processed_at = now() - interval '50 days' where consumer = 'old'")
    assert hazard.database.execute("select emptied, deleted from outbox.idempotency_maintain()") == [(1, 1)]
    send(2)
    wait_duplicates(400)
    assert taken() == expected


def test_dlt_topic_missing(hazard):
    """F17: without its DLT topic a consumer goes on; the dead letter is published once, with Spring's headers."""
    hazard.broker.delete_topic(f"{hazard.topic}.DLT")
    hazard.fail("bad", code="OBX01")
    hazard.start(dlt_headers="spring")
    hazard.database.start_relay()
    hazard.produce("good", key="a")
    hazard.produce("bad", key="b")
    hazard.produce("good", key="c")
    hazard.flush()
    hazard.wait_taken(2)
    hazard.wait_letters("open", 1)
    found = hazard.broker.wait_for_records(f"{hazard.topic}.DLT", 1)
    assert [record.value() for record in found] == [b'{"what": "bad"}']
    headers = dict(found[0].headers())
    assert headers["kafka_dlt-original-offset"] == (1).to_bytes(8, "big")
    assert headers["kafka_dlt-original-partition"] == bytes(4)
    assert headers["kafka_dlt-exception-message"] == b"seeded failure"
    assert headers["dlt-fingerprint"].decode() == hazard.database.value("select fingerprint from outbox.dead_letter")


def test_retention_warning(hazard):
    """At start a topic that keeps records longer than claims are kept is named, with both times."""
    def keep(days):
        entry = ConfigEntry("retention.ms", str(days * DAY_MS), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, hazard.topic, incremental_configs=[entry])
        hazard.broker.admin.incremental_alter_configs([resource])[resource].result(30)

    def warnings(service):
        return [line["msg"] for line in service.log_lines() if line["event"] == "retention_exceeds_window"]
    keep(40)
    service = hazard.start()
    wait_until(lambda: warnings(service), 30, "a warning")
    assert f"topic {hazard.topic} keeps records 40.0 days, outbox.idempotency_retention is 35.0 days" in warnings(service)[0]
    assert service.stop() == 0 and len(warnings(service)) == 1
    keep(30)
    service = hazard.start()
    hazard.produce("good")
    hazard.flush()
    hazard.wait_taken(1)
    assert service.stop() == 0 and warnings(service) == []
