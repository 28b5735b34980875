# SPDX-License-Identifier: PostgreSQL
"""One database with the extension."""

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

    def status(self):
        """The row of outbox.relay_status as a dict, or None."""
        with self.connect() as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            return cursor.execute("select * from outbox.relay_status").fetchone()

    def wait_state(self, state, timeout=30.0):
        """Wait until relay_status.state is state."""
        wait_until(lambda: (self.status() or {}).get("state") == state, timeout, f"relay state {state}")
