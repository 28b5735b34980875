# SPDX-License-Identifier: PostgreSQL
"""Through PgBouncer: emit() in every mode, services in session mode and never in transaction mode."""

import json

import psycopg
import pytest
from harness import wait_until
from harness.pooler import Pooler

# What a service sets in its sessions, and the server's own values.
SETTINGS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "tcp_keepalives_idle")


@pytest.fixture
def pooler(session, postgres, unique):
    """pooler(mode, size): a started Pooler before the run's cluster."""
    made = []

    def make(mode, size=1, **options):
        made.append(Pooler(session, postgres, mode, size, name=unique("pgbouncer"), **options))
        return made[-1].start()
    yield make
    for found in made:
        found.stop()


def settings_of(connection):
    return [connection.execute(f"show {name}").fetchone()[0] for name in SETTINGS]


def flow(database, correlation_id):
    """Keys of the events of a flow."""
    header = json.dumps([{"name": "correlationid", "value": correlation_id}])
    return [row[0] for row in database.execute("select key from outbox.events where headers @> %s::jsonb order by 1", (header,))]


def test_emit(pooler, database, topic):
    """Field K10: two clients on one session of a pool: each commits its own events, with its own correlation id alone."""
    pool = pooler("transaction")
    keys = "select array_agg(convert_from(key, 'UTF8') order by seq) from outbox.event"
    emit = "select outbox.emit(%s, %s, 'Tested', '{}')"
    insert = "insert into outbox.outgoing (topic, key, type, payload) values (%s, %s, 'Tested', '{}')"
    with pool.connect(database.name, autocommit=False) as one, pool.connect(database.name, autocommit=False) as other:
        servers = set()
        for client in (one, other):
            servers.add(client.execute("select pg_backend_pid()").fetchone())
            client.commit()
        for number in range(3):
            one.execute("set local outbox.correlation_id = 'flow-one'")
            one.execute(emit, (topic, f"one-{number}"))
            one.execute(insert, (topic, f"insert-{number}"))
            one.commit()
            other.execute(emit, (topic, f"other-{number}"))
            other.execute(insert, (topic, f"undone-{number}"))
            other.rollback()
            other.execute(emit, (topic, f"other-{number}"))
            other.commit()
            with pytest.raises(psycopg.Error), one.transaction():
                one.execute(emit, (topic, f"failed-{number}"))
                one.execute("select 1 / 0")
    assert len(servers) == 1
    mine = [f"{kind}-{number}" for number in range(3) for kind in ("one", "insert")]
    assert database.value(keys) == [key for number in range(3)
                                    for key in (f"one-{number}", f"insert-{number}", f"other-{number}")]
    assert flow(database, "flow-one") == sorted(mine)
    assert database.value("select count(*) from outbox.event") == 9


@pytest.mark.parametrize("mode", ("transaction", "statement"))
def test_service(pooler, hazard, mode):
    """Field K10: in transaction mode a service says what it needs, sets nothing in a session of the pool, and works when it has it."""
    pool = pooler(mode, size=2)
    hazard.produce("taken", key="k")
    hazard.flush()
    with pool.connect(hazard.database.name) as application:
        before = settings_of(application)
        service = hazard.start(wait=False, database=pool.dsn(hazard.database.name))
        halted = wait_until(lambda: [line for line in service.log_lines() if line["event"] == "partition_halted"], 60,
                            "the service to say what it needs")
        assert "pool_mode = session" in halted[0]["msg"] and halted[0]["level"] == "error"
        wait_until(lambda: "halted" in service.request("GET", "/readyz")[1], 60, "the service to be halted")
        # Every session there is: two applications at once have both.
        with pool.connect(hazard.database.name) as second:
            for _ in range(10):
                assert settings_of(application) == before and settings_of(second) == before
        assert application.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
    assert service.request("GET", "/livez")[0] == 200 and hazard.taken() == []
    pool.restart("session")
    hazard.wait_taken(1)
    service.wait_ready(60)
    assert service.stop() == 0


def test_session_mode(pooler, hazard):
    """Field K10: in session mode a service runs, and what it has set goes with its session, also where none is to spare at its start."""
    pool = pooler("session", size=2)
    with pool.connect(hazard.database.name) as application:
        before = settings_of(application)
    service = hazard.start(database=pool.dsn(hazard.database.name))
    hazard.produce("taken")
    hazard.flush()
    hazard.wait_taken(1)
    assert service.stop() == 0
    with pool.connect(hazard.database.name) as application, pool.connect(hazard.database.name) as second:
        assert settings_of(application) == before and settings_of(second) == before
