# SPDX-License-Identifier: PostgreSQL
"""A log that is not the one that was read: topics made anew, cut or trimmed, offsets lost or set: every record's effect once.

A record's tag is its content; the effects must be the tags, each once."""

import itertools

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from harness import KafkaBroker, wait_until

KEEP_ALL = {}
COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.9"}
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


class Log:
    """A topic: how it is made, how many records its next life holds."""

    def __init__(self, name, partitions=2, config=None, ids=True, tombstones=False, second=6, second_partitions=None):
        self.name = name
        self.partitions = partitions
        self.config = config or KEEP_ALL
        self.ids = ids
        self.tombstones = tombstones
        self.second = second
        self.second_partitions = second_partitions or partitions
        self.numbers = itertools.count(1)


class Reader:
    """A database with a table of effects, outbox-consume on many topics, and a producer."""

    def __init__(self, broker, database, service, group):
        self.broker = broker
        self.database = database
        self.make_service = service
        self.group = group
        self.logs = []
        self.tags = []
        self.renew_producer()
        database.execute("create schema app")
        database.execute("create table app.effect (place bigserial, tag text, topic text, partition int, pos bigint)")
        database.execute("create function app.handle(event outbox.consumed_bytes) returns text language plpgsql as $f$"
                         " begin insert into app.effect (tag, topic, partition, pos) values"
                         " (convert_from(event.key, 'UTF8'), event.topic, event.partition, event.\"offset\");"
                         " return 'done'; end $f$")

    def renew_producer(self):
        """Somebody else writes from now on, who does not count on what the logs have lost."""
        self.producer = self.broker.producer(topic_metadata_refresh_interval_ms=1000, allow_auto_create_topics=False)

    def add(self, log):
        self.logs.append(log)
        self.make(log, log.partitions)
        return log

    def make(self, log, partitions):
        self.broker.create_topic(log.name, partitions, log.config)

    def start(self, **config):
        self.service = self.make_service("outbox-consume", {
            "database": self.database.dsn(), "bootstrap_servers": self.broker.bootstrap, "group_id": self.group,
            "topics": ",".join(log.name for log in self.logs), "function": "app.handle", "value_format": "bytes",
            "kafka_properties": "session.timeout.ms=6000\ntopic.metadata.refresh.interval.ms=1000", **config})
        return self.service

    def produce(self, log, count, partitions=None):
        """So many records for each partition; their tags are their keys."""
        for partition in range(partitions or log.partitions):
            for _ in range(count):
                tag = f"{log.name}-{next(log.numbers)}"
                self.tags.append(tag)
                value = None if log.tombstones and len(self.tags) % 2 else b"value"
                self.producer.produce(log.name, value, tag, partition=partition,
                                      headers=[("ce_id", self.new_id())] if log.ids else None)
                self.producer.poll(0)

    def new_id(self):
        return self.database.value("select gen_random_uuid()::text")

    def flush(self):
        assert self.producer.flush(30) == 0

    def effects(self):
        return sorted(row[0] for row in self.database.execute("select tag from app.effect"))

    def missing(self):
        return sorted(set(self.tags) - set(self.effects()))

    def wait_effects(self, timeout=90):
        """Wait until every record has its effect; no one has two."""
        try:
            wait_until(lambda: not self.missing(), timeout, "an effect of every record")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.missing()[:20]}") from None
        assert self.effects() == sorted(self.tags)

    def metric(self, name, log):
        return self.service.metrics().get(f'{name}{{consumer="{self.group}",topic="{log.name}"}}')

    def logged(self, event, log=None):
        return [line for line in self.service.log_lines()
                if line["event"] == event and (log is None or line["msg"].startswith(f"{log.name} ["))]

    def ends(self):
        """{(topic, partition): (first offset, end)} as they are now."""
        found = {}
        consumer = self.broker.consumer()
        try:
            known = self.broker.admin.list_topics(timeout=10).topics
            for log in self.logs:
                for partition in known[log.name].partitions:
                    found[log.name, partition] = consumer.get_watermark_offsets(TopicPartition(log.name, partition))
        finally:
            consumer.close()
        return found

    def check_committed(self):
        """No committed offset stays above its log's end."""
        def above():
            ends = self.ends()
            return {place: (offset, ends[place]) for place, (offset, _) in self.broker.group_offsets(self.group).items()
                    if place in ends and offset > ends[place][1]}
        wait_until(lambda: not above(), 20, "Kafka's committed offsets within their logs")


@pytest.fixture
def reader(kafka, database, service, unique):
    return Reader(kafka, database, service, unique("anew"))


def make_anew(reader, logs):
    reader.broker.delete_topics([log.name for log in logs])
    reader.renew_producer()
    for log in logs:
        reader.make(log, log.second_partitions)
        reader.produce(log, log.second, log.second_partitions)
    reader.flush()


def add_kinds(reader, unique):
    """A topic of each kind, with ids and without."""
    for ids in (True, False):
        for options in ({"second": 4}, {"second": 16}, {"second": 10}, {"second": 12, "second_partitions": 1},
                        {"config": COMPACT, "second": 12}, {"config": APPEND_TIME, "second": 12},
                        {"tombstones": True, "second": 4}):
            reader.add(Log(unique("anew"), ids=ids, **options))


@pytest.mark.parametrize("running", (False, True), ids=("down", "running"))
def test_made_anew(reader, unique, running):
    """Topics deleted and made anew by somebody else, shorter, as long and longer, with fewer partitions, compacted,
    with append times and tombstones, with ids and without: every record's effect once, told and counted."""
    add_kinds(reader, unique)
    for log in reader.logs:
        reader.produce(log, 10)
    reader.flush()
    reader.start()
    assert {reader.metric("outbox_consumer_log_changes_total", log) for log in reader.logs} == {0}
    reader.wait_effects()
    before = dict(reader.database.execute("select topic || partition, seen_to from outbox.consumer_offset"))
    if not running:
        assert reader.service.stop() == 0
    make_anew(reader, reader.logs)
    if not running:
        reader.start()
    reader.wait_effects()
    for log in reader.logs:
        assert reader.metric("outbox_consumer_log_changes_total", log) >= log.second_partitions
        assert {line["level"] for line in reader.logged("log_made_anew", log)} == {"warning"}
    after = dict(reader.database.execute("select topic || partition, seen_to from outbox.consumer_offset"))
    assert all(after[place] >= seen for place, seen in before.items())
    reader.check_committed()
    for log in reader.logs:
        reader.produce(log, 1, log.second_partitions)
    reader.flush()
    reader.wait_effects()
    assert reader.service.stop() == 0


def delete_records(reader, log, before):
    """The log of each partition starts there from now on."""
    places = [TopicPartition(log.name, partition, before) for partition in range(log.partitions)]
    for deleted in reader.broker.admin.delete_records(places).values():
        deleted.result(30)


def set_offsets(reader, offsets):
    """What Kafka's tool does to a group without members: {log: offset}."""
    places = [TopicPartition(log.name, p, offset) for log, offset in offsets.items() for p in range(log.partitions)]
    request = [ConsumerGroupTopicPartitions(reader.group, places)]
    reader.broker.admin.alter_consumer_group_offsets(request)[reader.group].result(30)


def test_offsets_lost_and_set(reader, unique):
    """Offsets expired, or set forwards, backwards and beyond the end by Kafka's tool; records deleted before they were
    read, or after it: with ids and without, what is there has its effect once, what is not is told and counted, once."""
    forwards, backwards, trimmed, stepped_over, read_before = [
        [reader.add(Log(unique("set"), ids=ids)) for ids in (True, False)] for _ in range(5)]
    unread = trimmed + stepped_over
    for log in reader.logs:
        reader.produce(log, 10)
    reader.flush()
    reader.start()
    reader.wait_effects()
    assert reader.service.stop() == 0
    for log in reader.logs:
        known = len(reader.tags)
        reader.produce(log, 6)
        if log in unread:
            del reader.tags[known:known + 3], reader.tags[known + 3:known + 6]
    reader.flush()
    for log in unread + read_before:
        delete_records(reader, log, 13 if log in unread else 8)
    set_offsets(reader, {forwards[0]: 16, forwards[1]: 1000, **{log: 4 for log in backwards + read_before},
                         **{log: 15 for log in stepped_over}})
    reader.start()
    reader.wait_effects()
    for log in reader.logs:
        lost = 3 * log.partitions if log in unread else 0
        assert reader.metric("outbox_consumer_lost_records_total", log) == lost
        assert {line["level"] for line in reader.logged("records_lost", log)} == ({"warning"} if lost else set())
        assert reader.metric("outbox_consumer_log_changes_total", log) == 0
    assert reader.service.stop() == 0
    reader.broker.admin.delete_consumer_groups([reader.group])[reader.group].result(30)
    for log in reader.logs:
        reader.produce(log, 2)
    reader.flush()
    reader.start()
    reader.wait_effects()
    assert {line["level"] for line in reader.logged("no_committed_offset")} == {"warning"}
    # Running, with all that was read deleted: nothing is lost, nothing is said.
    delete_records(reader, forwards[0], 18)
    reader.produce(forwards[0], 1)
    reader.flush()
    reader.wait_effects()
    assert reader.metric("outbox_consumer_lost_records_total", forwards[0]) == 0
    reader.check_committed()
    assert reader.service.stop() == 0


def test_by_our_relay(reader, unique):
    """The relay makes a deleted topic again and the consumer reads on: markers between the records, effects once."""
    database = reader.database
    log = Log(unique("relayed"), partitions=1)
    reader.logs.append(log)
    database.declare(log.name, 1)
    database.start_relay()

    def emit(count):
        for _ in range(count):
            tag = f"{log.name}-{next(log.numbers)}"
            reader.tags.append(tag)
            database.emit(log.name, tag)
    emit(8)
    reader.broker.wait_for_records(log.name, 8)
    reader.start()
    reader.wait_effects()
    for running in (True, False):
        reader.broker.delete_topic(log.name)
        if not running:
            assert reader.service.stop() == 0
        emit(3)
        reader.broker.wait_for_records(log.name, 3)
        if not running:
            reader.start()
        reader.wait_effects()
    assert reader.metric("outbox_consumer_log_changes_total", log) == 1
    assert reader.metric("outbox_consumer_lost_records_total", log) == 0
    reader.check_committed()


def cut(broker, topic, partition, batches):
    """Leave so many record batches of a stopped broker's log, as an unclean election or a lost disk write does."""
    folder = broker.data / "log" / f"{topic}-{partition}"
    path = folder / f"{0:020}.log"
    data = path.read_bytes()
    end = 0
    for _ in range(batches):
        end += 12 + int.from_bytes(data[end + 8:end + 12], "big")
    assert 0 < end < len(data)
    with path.open("r+b") as log:
        log.truncate(end)
    for index in folder.glob("*index"):
        index.unlink()
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        (broker.data / "log" / name).unlink(missing_ok=True)


@pytest.mark.parametrize("running", (False, pytest.param(True, marks=pytest.mark.long)), ids=("down", "running"))
def test_log_cut(session, database, service, unique, running):
    """The end of a log is lost, and others write behind it, also beyond the old end, while the consumer is down or has
    looked for the log in vain: read again from the newest record that is still there, so the prefix's letters and claims are known;
    every record's effect once."""
    broker = KafkaBroker(session, unique("cut")).start()
    try:
        reader = Reader(broker, database, service, unique("cut"))
        logs = [reader.add(Log(unique("cut"), partitions=1, ids=ids, second=second))
                for ids in (True, False) for second in (2, 12)]
        reader.start()
        for number in range(10):
            for log in logs:
                reader.produce(log, 1)
            reader.flush()  # a batch for each
            if number == 4:
                reader.wait_effects()
                assert reader.service.restart()
        reader.wait_effects()
        if not running:
            assert reader.service.stop() == 0
        broker.kill9()
        if running:
            unread = f'outbox_consumer_log_checks_total{{consumer="{reader.group}",result="unread"}}'
            wait_until(lambda: reader.service.metrics().get(unread, 0) >= len(logs), 60, "checks without an answer")
        for log in logs:
            cut(broker, log.name, 0, 7)
        broker.start()
        reader.renew_producer()
        for log in logs:
            reader.produce(log, log.second)
        reader.flush()
        if not running:
            reader.start()
        reader.wait_effects()
        for log in logs:
            assert reader.metric("outbox_consumer_log_changes_total", log) == 1
            assert "after the newest record" in reader.logged("log_made_anew", log)[0]["msg"]
        reader.check_committed()
        assert reader.service.stop() == 0
    finally:
        broker.stop()


def old_id(topic, partition, offset):
    """The event id of a record without one before time stamp and content were part of it."""
    value = 0xcbf29ce484222325
    for byte in topic.encode():
        value = (value ^ byte) * 0x100000001b3 % 2**64
    value ^= partition << 16
    return (f"{value >> 32:08x}-{value >> 16 & 0xffff:04x}-8{value & 0xfff:03x}-"
            f"{0x8000 | offset >> 48 & 0x3fff:04x}-{offset & 0xffffffffffff:012x}")


def test_old_identity(reader, unique):
    """What an earlier version has processed of records without id is known by its place, until the log is made anew."""
    log = reader.add(Log(unique("old"), ids=False, second=12))
    reader.produce(log, 8)
    reader.flush()
    reader.start()
    reader.wait_effects()
    assert reader.service.stop() == 0
    # What an earlier version left.
    reader.database.execute("delete from outbox.idempotency")
    for partition in range(2):
        for offset in range(8):
            reader.database.execute("select outbox.claim(%s, %s)", (reader.group, old_id(log.name, partition, offset)))
    reader.database.execute("delete from outbox.consumer_anchor")
    reader.database.execute("update outbox.consumer_offset set old_ids_to = null, last_offset = null, last_digest = null")
    set_offsets(reader, {log: 0})
    reader.start()
    duplicates = f'outbox_consumer_records_total{{consumer="{reader.group}",topic="{log.name}",result="duplicate"}}'
    wait_until(lambda: reader.service.metrics().get(duplicates) == 16, 60, "16 duplicates")
    reader.produce(log, 2)
    reader.flush()
    reader.wait_effects()
    assert reader.service.stop() == 0
    make_anew(reader, [log])
    reader.start()
    reader.wait_effects()


@pytest.mark.long
def test_checks_leave_anchors(reader, unique):
    """While it runs a consumer checks its logs every 30 s and leaves anchors; a log made anew behind its back, and longer,
    is read again from its beginning."""
    log = reader.add(Log(unique("watched"), partitions=1, ids=False, second=40))
    reader.start()

    def anchors():
        return [row[0] for row in reader.database.execute("select \"offset\" from outbox.consumer_anchor order by 1")]

    def has_anchors(count):
        reader.produce(log, 1)
        reader.flush()
        return len(anchors()) >= count
    wait_until(lambda: has_anchors(3), 120, "three anchors", interval=2)
    reader.wait_effects()
    checks = reader.service.metrics()[f'outbox_consumer_log_checks_total{{consumer="{reader.group}",result="same"}}']
    assert checks >= 2 and anchors()[0] == 0
    make_anew(reader, [log])
    reader.wait_effects()
    assert reader.metric("outbox_consumer_log_changes_total", log) == 1
