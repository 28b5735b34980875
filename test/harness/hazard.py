# SPDX-License-Identifier: PostgreSQL
"""outbox-hazard (test/services/hazard.c) on a topic of its own: for tests of what a failing consumer does."""

import json
import uuid

from .wait import wait_until


class HazardTest:
    """A database and a producer; start() runs the program on them."""

    def __init__(self, broker, database, service, program, topic, group):
        self.broker = broker
        self.database = database
        self.make_service = service
        self.program = program
        self.topic = topic
        self.group = group
        self.producer = broker.producer()
        broker.create_topics([topic, f"{topic}.DLT"], 3)
        database.declare(topic, 3)
        root = database.cluster.environment.root
        database.cluster.psql_file(root / "test" / "services" / "hazard.sql", database.name)

    def settings(self, **config):
        """What the program is started with."""
        return {"database": self.database.dsn(), "bootstrap_servers": self.broker.bootstrap,
                "group_id": self.group, "topic": self.topic,
                "kafka_properties": "session.timeout.ms=3000\nheartbeat.interval.ms=500", **config}

    def start(self, wait=True, **config):
        return self.make_service(self.program, self.settings(**config), start=False).start(wait=wait)

    def run_until(self, done, starts, timeout=60, **config):
        """Start the program again whenever it has ended, at most that often; returns (service, how often it ended)."""
        for ends in range(starts):
            service = self.start(wait=False, **config)
            wait_until(lambda s=service: done() or not s.running, timeout, "the end of the work or of the process")
            if done():
                return service, ends
        raise AssertionError(f"the process has ended {starts} times")

    def produce(self, what, key="k", partition=0, event_id=None, value=None, headers=()):
        """Sends one record; value (bytes) instead of an event, headers besides its own. Returns the event id."""
        event_id = event_id or str(uuid.uuid4())
        value = json.dumps({"what": what}).encode() if value is None else value
        self.producer.produce(self.topic, value, key, partition=partition,
                              headers=[("ce_id", event_id), ("ce_type", "Hazard"), *headers])
        self.producer.poll(0)
        return event_id

    def flush(self):
        assert self.producer.flush(20) == 0

    def fail(self, what, message="seeded failure", code="P0001"):
        """Have the handler raise for events that say so."""
        self.database.execute("insert into hazard.failure values (%s, %s, %s)", (what, code, message))

    def heal(self):
        self.database.execute("delete from hazard.failure")

    def taken(self):
        """What the events taken said, in the order they were."""
        return [row[0] for row in self.database.execute("select event->>'what' from hazard.taken order by place")]

    def wait_taken(self, count, timeout=60):
        wait_until(lambda: len(self.taken()) == count, timeout, f"{count} effects")

    def letters(self, state="open"):
        return self.database.value("select count(*) from outbox.dead_letter where consumer = %s and state = %s",
                                   (self.group, state))

    def wait_letters(self, state, count, timeout=60):
        wait_until(lambda: self.letters(state) == count, timeout, f"{count} dead letters in state {state}")
