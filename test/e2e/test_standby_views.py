# SPDX-License-Identifier: PostgreSQL
"""What the views say where no relay can know: a hot standby, a server without the library, a relay that is off."""

import psycopg
import pytest
from harness import Database
from harness.copies import make_standby, wait_replayed

VIEWS = "select c.relname from pg_class c where c.relnamespace = 'outbox'::regnamespace and c.relkind = 'v' order by 1"
WRITERS = (
    "select outbox.start_relay()", "select outbox.stop_relay()", "select outbox.emit('{topic}', 'k', 'T', '{{}}')",
    "insert into outbox.outgoing values ('{topic}', 'k', 'T', '{{}}')", "select outbox.declare_topic('other')",
    "select outbox.claim('c', gen_random_uuid())", "select * from outbox.idempotency_maintain()",
    "select outbox.replay('-infinity', 'infinity')", "select outbox.dead_letter_purge(now())",
    "select outbox.grant_topic('{topic}', 'postgres')", "select outbox.server_identity()",
)


def flow_states(database):
    return [row[0] for row in database.execute("select state from outbox.flow order by at")]


def require_unknown(database, state):
    """What nobody can know here is NULL, or no row; every view answers."""
    for (view,) in database.execute(VIEWS):
        database.execute(psycopg.sql.SQL("select * from outbox.{}").format(psycopg.sql.Identifier(view)))
    status = database.status()
    assert status["state"] == state and status["batch_no"] == 3
    unknown = ("oldest_unsent_age", "delivered_batch", "delivered_at", "pid", "started_at", "last_error", "hold_reason")
    assert {name: status[name] for name in unknown} == dict.fromkeys(unknown)
    assert (status["events_sent"], status["dead_letters_open"], status["keys_held"]) == (0, 0, 0)
    assert database.execute("select * from outbox.backlog") == []
    assert flow_states(database)[:2] == ["sent", "sent"]
    return status


def test_views_of_a_standby(own_postgres, copy_cluster, make_database, kafka, topic_name):
    """On a hot standby, with the library and without: state standby, no age that grows, no backlog; what writes says it cannot."""
    primary = own_postgres()
    database = make_database(primary)
    topic = database.declare(topic_name)
    database.start_relay()
    for _ in range(3):
        database.emit(topic, "k")
        database.wait_delivered()
    standby = copy_cluster(make_standby, primary)
    wait_replayed(primary, standby)
    copy = Database(standby, database.name)
    for library in ("outbox", None):
        standby.configure(shared_preload_libraries=library)
        standby.restart()
        assert require_unknown(copy, "standby")["backlog_bytes"] is None
        assert flow_states(copy) == ["sent", "sent", None]
        assert copy.execute("select * from outbox.databases") == []
        for statement in WRITERS:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                copy.execute(statement.format(topic=topic))
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            copy.execute("select outbox.adopt('resend')")
    assert database.status()["oldest_unsent_age"] is None and flow_states(database) == ["sent"] * 3

    primary.stop()
    standby.configure(shared_preload_libraries="outbox")
    standby.restart()
    standby.promote()
    copy.wait_state("idle")
    assert flow_states(copy) == ["sent"] * 3 and copy.status()["backlog_bytes"] == 0


def test_views_without_a_relay(own_postgres, make_database, kafka, topic_name):
    """After a restart with the relay off, or without the library, all delivered: no age; a new event has one."""
    cluster = own_postgres()
    database = make_database(cluster)
    topic = database.declare(topic_name)
    database.start_relay()
    for _ in range(3):
        database.emit(topic, "k")
        database.wait_delivered()
    database.stop_relay()
    database.wait_state("stopped")
    assert database.status()["oldest_unsent_age"] is None and flow_states(database) == ["sent"] * 3
    cluster.restart()
    require_unknown(database, "stopped")
    cluster.configure(shared_preload_libraries=None)
    cluster.restart()
    assert require_unknown(database, "not preloaded")["backlog_bytes"] is None
    assert flow_states(database) == ["sent", "sent", None]
    database.emit(topic, "k")
    assert database.status()["oldest_unsent_age"].total_seconds() >= 0
    assert database.execute("select events from outbox.backlog") == [(1,)]
    assert flow_states(database) == ["sent", "sent", None, "waiting"]
