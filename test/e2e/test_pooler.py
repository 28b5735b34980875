# SPDX-License-Identifier: PostgreSQL
"""Through PgBouncer: emit() in every mode, services in session mode and never in transaction mode."""

import contextlib
import json
import threading

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
    """Two clients on one session of a pool: each commits its own events, with its own correlation id alone."""
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


def wait_halted(service):
    """Wait until the service has told why it halts; returns the line."""
    def halted():
        return [line for line in service.log_lines() if line["event"] == "partition_halted"]
    found = wait_until(halted, 60, "the service to say why it does not work")
    wait_until(lambda: "halted" in service.request("GET", "/readyz")[1], 60, "the service to be halted")
    assert service.request("GET", "/livez")[0] == 200 and found[0]["level"] == "error"
    return found[0]["msg"]


@contextlib.contextmanager
def busy(pool, database, clients):
    """So many clients of the pool use its sessions without a pause."""
    stop = threading.Event()

    def use():
        with pool.connect(database) as connection:
            while not stop.is_set():
                connection.execute("select pg_sleep(random() / 500)")
    threads = [threading.Thread(target=use) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def all_settings(pool, database):
    """The settings of every session of the pool: each is held by a transaction."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pool.connect(database, autocommit=False)) for _ in range(pool.size)]
        found = [settings_of(client) for client in clients]
        assert len({client.execute("select pg_backend_pid()").fetchone() for client in clients}) == pool.size
        assert all(client.execute("select count(*) from pg_prepared_statements").fetchone() == (0,) for client in clients)
    return found


def test_service(pooler, hazard):
    """In transaction mode a service says what it needs, leaves nothing in a session of the pool, and works when it has it."""
    pool = pooler("transaction", size=3)
    hazard.produce("taken", key="k")
    hazard.flush()
    before = all_settings(pool, hazard.database.name)
    with busy(pool, hazard.database.name, 2):
        service = hazard.start(wait=False, database=pool.dsn(hazard.database.name))
        assert "pool_mode = session" in wait_halted(service)
    assert all_settings(pool, hazard.database.name) == before and hazard.taken() == []
    pool.restart("session")
    hazard.wait_taken(1)
    service.wait_ready(60)
    assert service.stop() == 0


def test_statement_mode(pooler, hazard):
    """Neither does a service work in statement mode, and it says the same."""
    pool = pooler("statement")
    service = hazard.start(wait=False, database=pool.dsn(hazard.database.name))
    assert "pool_mode = session" in wait_halted(service)


def test_refused_parameter(pooler, hazard):
    """A parameter that the pooler does not take is no outage."""
    pool = pooler("session")
    service = hazard.start(wait=False, database=pool.dsn(hazard.database.name, options="-c work_mem=8MB"))
    assert "unsupported startup parameter" in wait_halted(service)


def test_session_mode(pooler, hazard):
    """In session mode a service runs, and what it has set goes with its session, also where none is to spare."""
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


def test_stale_pooler(pooler, hazard):
    """What PgBouncer tells of a server that was read-only when it first asked does not keep a service from it."""
    name, cluster = hazard.database.name, hazard.database.cluster
    pool = pooler("session")
    cluster.execute(f"alter database {name} set default_transaction_read_only = on")
    with pool.connect(name) as first:
        process = first.execute("select pg_backend_pid()").fetchone()
    cluster.execute(f"alter database {name} reset default_transaction_read_only")
    cluster.execute("select pg_terminate_backend(%s, 60000)", process)
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        pool.connect(name, target_session_attrs="read-write")
    hazard.produce("taken")
    hazard.flush()
    service = hazard.start(database=pool.dsn(name))
    hazard.wait_taken(1)
    assert service.stop() == 0
