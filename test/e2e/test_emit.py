# SPDX-License-Identifier: PostgreSQL
"""emit() around restarts, rewritten leaves and servers that cannot write."""

import psycopg
import pytest


def segment_of(connection, event_id):
    return connection.execute("select segment from outbox.event where id = %s", (event_id,)).fetchone()[0]


def emit(connection, topic):
    return connection.execute("select outbox.emit(%s, 'k', 'Tested', '{}')", (topic,)).fetchone()[0]


def put_into_segment(database, segment):
    """One event written as the ring's newest, by hand, into a leaf of choice."""
    database.execute(
        "insert into outbox.event (txid, seq, segment, id, topic, type, created_at)"
        " values (pg_current_xact_id(), nextval('outbox.event_seq'), %s, gen_random_uuid(), 'by.hand', 'T', now())",
        (segment,),
    )


def test_segment_is_found_again_after_a_restart(postgres, database, topic):
    """Row 001.1: after a restart new events go into the leaf that holds the newest ones."""
    with database.connect() as connection:
        assert segment_of(connection, emit(connection, topic)) == 0
        put_into_segment(database, 5)
        # Known in shared memory until the server stops.
        assert segment_of(connection, emit(connection, topic)) == 0
    put_into_segment(database, 5)
    postgres.restart()
    with database.connect() as connection:
        assert segment_of(connection, emit(connection, topic)) == 5


def test_segment_does_not_depend_on_the_snapshot(own_postgres, make_database):
    """An old REPEATABLE READ or SERIALIZABLE snapshot emits into the current leaf.

    Without shared_preload_libraries the leaf is looked for in every call."""
    cluster = own_postgres(shared_preload_libraries="")
    database = make_database(cluster)
    topic = database.declare("snapshot")
    for segment, level in ((3, "repeatable read"), (6, "serializable")):
        with database.connect() as old:
            old.execute(f"begin isolation level {level}")
            old.execute("select count(*) from outbox.event")
            put_into_segment(database, segment)
            event_id = emit(old, topic)
            old.execute("commit")
            assert segment_of(old, event_id) == segment


def test_outgoing_in_replica_role_without_preload(own_postgres, make_database):
    """A session that has not loaded the library yet and is in replica role stores what it counts."""
    cluster = own_postgres(shared_preload_libraries="")
    database = make_database(cluster)
    topic = database.declare("outgoing")
    for statement in ("insert into outbox.outgoing (topic, key, type) values (%s, 'k', 'Replica'), (%s, 'k', 'Replica')",
                      "insert into outbox.outgoing (topic, key, type) select t, 'k', 'Replica' from unnest(array[%s, %s]) t"):
        with database.connect() as fresh:
            fresh.execute("set session_replication_role = replica")
            assert fresh.execute(statement, (topic, topic)).rowcount == 2
    with database.connect() as fresh:
        fresh.execute("set session_replication_role = replica")
        with fresh.cursor().copy("copy outbox.outgoing (topic, key, type) from stdin") as rows:
            rows.write_row((topic, "k", "Replica"))
    assert database.value("select count(*) from outbox.event where type = 'Replica'") == 5


def test_emit_goes_on_after_a_leaf_is_rewritten(database, topic):
    """A leaf with a new relfilenode, and the extension made again, in the middle of a session."""
    with database.connect() as connection:
        emit(connection, topic)
        database.execute("vacuum full outbox.event_0")
        emit(connection, topic)
        database.execute("reindex index concurrently outbox.event_0_txid_idx")
        emit(connection, topic)
        assert connection.execute(
            "select count(*) from outbox.event_0 where txid >= '3'::xid8").fetchone()[0] == 3
        database.execute("drop extension outbox")
        database.execute("create extension outbox")
        database.declare(topic)
        emit(connection, topic)
        assert connection.execute("select count(*) from outbox.event").fetchone()[0] == 1


def test_emit_is_refused_in_recovery(own_postgres, make_database):
    """A standby refuses emit() with the SQLSTATE of a read-only server."""
    cluster = own_postgres()
    database = make_database(cluster)
    topic = database.declare("recovery")
    with database.connect() as connection:
        emit(connection, topic)
    cluster.stop()
    signal = cluster.data / "standby.signal"
    signal.touch()
    cluster.environment.give(signal)
    cluster.start()
    with database.connect() as connection:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="during recovery"):
            emit(connection, topic)
    cluster.stop()
    signal.unlink()
    cluster.start()
    with database.connect() as connection:
        emit(connection, topic)


def test_given_ids(relay, kafka, topic):
    """Ids given to outbox.outgoing arrive as they are, whatever their version: of another time, the same twice in a batch, max."""
    given = ["11111111-1111-4111-8111-111111111111", "ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000",
             "11111111-1111-4111-8111-111111111111", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
    relay.execute("insert into outbox.outgoing (topic, key, type, id) select %s, 'k', 'T', id from unnest(%s::uuid[]) with ordinality i (id, n)"
                  " order by n", (topic, given))
    assert [dict(m.headers())["ce_id"].decode() for m in kafka.wait_for_records(topic, len(given))] == given
