# SPDX-License-Identifier: PostgreSQL
"""A consumer group of outbox-consume processes that come, go and die under a steady load, and what it did."""

import contextlib
import threading
import time
import uuid

import pytest
from confluent_kafka import ConsumerGroupState
from harness import wait_until
from harness.payment import SHORT_SESSION


def hold(probe, seconds):
    """Have probe() checked, by its own assertions, again and again for so long."""
    end = time.monotonic() + seconds

    def over():
        probe()
        return time.monotonic() >= end
    wait_until(over, seconds + 60, f"{seconds} s to pass", interval=0.5)


def sizes(short, full):
    """Arguments of the form in make check, and of the one in make check-long."""
    return [short, pytest.param(*full, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]


class MemberGroup:
    """outbox-consume on one topic, each process an instance of `threads` members.

    Its function app.handle notes each effect with instance, place and time, and sleeps `work` seconds before.
    """

    def __init__(self, kafka, database, service, topic, group, partitions):
        self.kafka = kafka
        self.database = database
        self.make_service = service
        self.topic = topic
        self.group = group
        self.partitions = partitions
        self.services = {}
        self.produced = set()
        self.producer = kafka.producer()
        kafka.create_topic(topic, partitions)
        database.declare(topic, partitions)
        database.execute("create schema app")
        database.execute('create table app.effect (place bigserial, event uuid, partition integer, "offset" bigint,'
                         " instance text, at timestamptz)")
        self.handler()

    def handler(self, work=0):
        self.database.execute(f"""
            create or replace function app.handle(event outbox.consumed_event) returns text language plpgsql as $$ begin
                if {work} > 0 then
                    perform pg_sleep({work});
                end if;
                insert into app.effect (event, partition, "offset", instance, at) values
                    (event.id, event.partition, event."offset", current_setting('application_name'), clock_timestamp());
                return 'done';
            end $$""")

    def start(self, name, wait=False, **config):
        """An instance, made new or started again."""
        if name not in self.services:
            self.services[name] = self.make_service("outbox-consume", {
                "database": self.database.dsn(application_name=name), "bootstrap_servers": self.kafka.bootstrap,
                "topics": self.topic, "group_id": self.group, "function": "app.handle",
                "kafka_properties": SHORT_SESSION, **config}, f"{self.group}-{name}", start=False)
        return self.services[name].start(wait=wait)

    def running(self):
        return [name for name, service in self.services.items() if service.running]

    def stop_all(self):
        """SIGTERM to all at once; every one ends well."""
        names = self.running()
        for name in names:
            self.services[name].child.process.terminate()
        assert {name: self.services[name].stop(60) for name in names} == dict.fromkeys(names, 0)

    # The group, as the broker has it

    def members(self):
        """{member id: its partitions}; {} while it is rebalanced."""
        found = self.kafka.admin.describe_consumer_groups([self.group])[self.group].result(30)
        if found.state != ConsumerGroupState.STABLE:
            return {}
        return {member.member_id: sorted(p.partition for p in member.assignment.topic_partitions)
                for member in found.members}

    def wait_spread(self, count, timeout=60):
        """Wait until that many members have the partitions among them, evenly; returns members()."""
        def spread():
            members = self.members()
            owned = [len(partitions) for partitions in members.values()]
            even = len(members) == count and sum(owned) == self.partitions and max(owned) - min(owned) <= 1
            return members if even else None
        return wait_until(spread, timeout, f"{count} members to share {self.partitions} partitions", interval=0.2)

    # The load

    def produce(self, partition):
        event = str(uuid.uuid4())
        self.produced.add(event)
        self.producer.produce(self.topic, b"{}", f"k{partition}", partition=partition,
                              headers=[("ce_id", event), ("ce_type", "Tested")])

    def produce_each(self, count=1):
        for _ in range(count):
            for partition in range(self.partitions):
                self.produce(partition)
        assert self.producer.flush(60) == 0

    @contextlib.contextmanager
    def load(self, rate):
        """So many records a second for each partition, meanwhile."""
        halt = threading.Event()

        def write():
            while not halt.wait(1 / rate):
                for partition in range(self.partitions):
                    self.produce(partition)
                self.producer.poll(0)
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        try:
            yield
        finally:
            halt.set()
            thread.join(60)
            assert self.producer.flush(60) == 0

    # The effects

    def effects(self):
        return self.database.value("select count(*) from app.effect")

    def await_effects(self, count, timeout=60):
        """Wait until every partition has so many effects more."""
        counts = "select partition, count(*) from app.effect group by 1"
        before = dict(self.database.execute(counts))

        def reached():
            now = dict(self.database.execute(counts))
            return all(now.get(p, 0) - before.get(p, 0) >= count for p in range(self.partitions))
        wait_until(reached, timeout, f"{count} effects more of each partition")

    def check_effects(self, timeout=60):
        """Every record has exactly one effect, those of a partition in its order, none is a dead letter."""
        wait_until(lambda: self.effects() >= len(self.produced), timeout, f"effects of {len(self.produced)} records")
        rows = self.database.execute("select event::text from app.effect")
        assert len(rows) == len(self.produced) and {row[0] for row in rows} == self.produced
        late = ('select count(*) from (select "offset" < lag("offset") over (partition by partition order by place) late'
                " from app.effect) o where late")
        assert self.database.value(late) == 0
        assert self.database.value("select count(*) from outbox.dead_letter") == 0

    def now(self):
        return self.database.value("select clock_timestamp()")

    def gaps(self, since):
        """{partition: (longest time (s) between two effects since then, the instances that made them)}."""
        rows = self.database.execute("""
            select partition, max(extract(epoch from gap))::float, array_agg(distinct instance)
            from (select partition, instance, at - lag(at) over (partition by partition order by place) gap
                from app.effect where at >= %s) e group by 1""", (since,))
        return {partition: (gap, set(instances)) for partition, gap, instances in rows}

    def rebalances(self, kind, other_than=None):
        """Of the running instances since their start, together."""
        series = f'outbox_consumer_rebalances_total{{consumer="{self.group}",kind="{kind}"}}'
        return sum(self.services[name].metrics().get(series, 0) for name in self.running() if name != other_than)

    def log_events(self, name, event):
        return [line for line in self.services[name].log_lines() if line["event"] == event]


@pytest.fixture
def member_group(kafka, make_database, postgres, service, topic_name, unique):
    """make(partitions): a MemberGroup, nothing of it running."""
    def make(partitions):
        return MemberGroup(kafka, make_database(postgres), service, topic_name, unique("members"), partitions)
    return make
