# SPDX-License-Identifier: PostgreSQL
"""One database with the extension."""

import contextlib

import psycopg

from .wait import wait_until


class Database:
    """One database of a cluster, with what relay tests ask again and again."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    def dsn(self, **options):
        return self.cluster.dsn(self.name, **options)

    def connect(self, autocommit=True, **options):
        return psycopg.connect(self.dsn(**options), autocommit=autocommit)

    def execute(self, statement, parameters=None):
        return self.cluster.execute(statement, parameters, self.name)

    def value(self, statement, parameters=None):
        return self.cluster.value(statement, parameters, self.name)

    def wait_for(self, query, timeout=30.0, parameters=None, what=None):
        return self.cluster.wait_for(query, timeout, self.name, parameters, what)

    def declare(self, topic, partitions=3):
        """Declare a topic, so that emit takes it; the relay creates it. Returns its name."""
        self.execute("select outbox.declare_topic(%s, %s)", (topic, partitions))
        return topic

    def emit(self, topic, key, type="Tested", payload="{}", headers=None):
        """One event in its own transaction; payload and headers are JSON text. Returns the id as text."""
        return str(self.value(
            "select outbox.emit(%s, %s, %s, %s::jsonb, %s::jsonb)", (topic, key, type, payload, headers)
        ))

    def start_relay(self):
        self.execute("select outbox.start_relay()")

    def stop_relay(self):
        self.execute("select outbox.stop_relay()")

    def transactional_id(self):
        """The relay's name in Kafka: of its transactions and of its cursor's group."""
        return f"outbox-relay.{self.value('select id from outbox.installation')}"

    @contextlib.contextmanager
    def unguarded(self, table):
        """Let a superuser change a table whose guard refuses it, as what can happen to history."""
        self.execute(f"alter table only {table} disable trigger refuse_change")
        try:
            yield
        finally:
            self.execute(f"alter table only {table} enable always trigger refuse_change")

    def make_hold(self):
        """Have the relay, which has a batch row in the first segment, take the database for a copy, and hold."""
        self.stop_relay()
        self.wait_state("stopped")
        with self.unguarded("outbox.batch_0"):
            self.execute("update outbox.batch_0 set database = 1")
        self.start_relay()
        self.wait_state("hold")

    def status(self):
        """The row of outbox.relay_status as a dict, or None."""
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            return cursor.execute("select * from outbox.relay_status").fetchone()

    def wait_state(self, state, timeout=30.0):
        """Wait until relay_status.state is state."""
        wait_until(lambda: (self.status() or {}).get("state") == state, timeout, f"relay state {state}")

    def wait_delivered(self, timeout=30.0):
        """Wait until every event is delivered and the relay is idle."""
        newest = "select max(batch_no) from outbox.batch"

        def delivered():
            status = self.status()
            unsent = self.value("select coalesce(sum(events), 0) from outbox.backlog")
            return unsent == 0 and status["state"] == "idle" and status["delivered_batch"] == self.value(newest)
        wait_until(delivered, timeout, "all events delivered")

    def await_batches(self, count=1, timeout=60.0, require=None, interval=0.02):
        """Wait until count batches more than the newest are delivered; the server may be away meanwhile.

        require  called with each look; what it raises as WritersFailed ends the wait
        """
        newest = "select coalesce(max(batch_no), 0) from outbox.batch"
        before = wait_until(lambda: (self.value(newest),), timeout, "the batch log")[0]

        def delivered():
            if require:
                require()
            found = self.value("select delivered_batch from outbox.relay_slot()")
            return found is not None and found >= before + count
        wait_until(delivered, timeout, f"{count} batches more than {before}", interval)
