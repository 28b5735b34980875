# SPDX-License-Identifier: PostgreSQL
"""Commands that need a relay's database alone, in transactions that stay open."""

import psycopg
import pytest
from harness import wait_until
from psycopg import sql


def listed(asked, database):
    """(state, hold_reason) of a database in outbox.databases, as another one shows it."""
    return asked.execute("select state, hold_reason from outbox.databases where database = %s", (database.name,))[0]


def rename(connection, old, new):
    connection.execute(sql.SQL("alter database {} rename to {}").format(sql.Identifier(old), sql.Identifier(new)))


def pid_of(connection):
    return connection.info.backend_pid


@pytest.fixture
def relays(request, postgres, make_database, kafka):
    """Idle databases: the first has no relay and looks at the others, which have."""
    found = [make_database(postgres) for _ in range(request.param)]
    for database in found[1:]:
        database.declare(database.name)
        database.start_relay()
    for database in found[1:]:
        database.wait_state("idle")
    return found


def require_relaying(kafka, *databases):
    for database in databases:
        topic = database.value("select name from outbox.topic")
        database.wait_state("idle")
        before = len(kafka.read_all(topic))
        database.emit(topic, "k")
        kafka.wait_for_records(topic, before + 1)


@pytest.mark.parametrize("relays", [4], indirect=True)
def test_renames_in_one_transaction(relays, postgres, kafka, unique):
    """Three relays' databases are renamed in one transaction, one of them in a savepoint that is rolled back first; while
    it is open outbox.databases names the command, and at its end, by commit or by rollback, all relay on."""
    asked, first, second, third = relays
    names = {database: unique("renamed") for database in relays[1:]}
    with postgres.connect(autocommit=False) as connection:
        rename(connection, first.name, names[first])
        connection.execute("savepoint s")
        rename(connection, second.name, names[second])
        rename(connection, third.name, names[third])
        reason = f"suspended by ALTER DATABASE of process {pid_of(connection)} until its transaction ends"
        for database in relays[1:]:
            assert listed(asked, database) == ("suspended", reason)
        connection.execute("rollback to savepoint s")
        require_relaying(kafka, second, third)
        assert listed(asked, first) == ("suspended", reason)
        rename(connection, second.name, names[second])
        rename(connection, third.name, names[third])
        connection.rollback()
        require_relaying(kafka, first, second, third)

        for database, name in names.items():
            rename(connection, database.name, name)
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            connection.execute("prepare transaction 'renamed'")
        connection.rollback()
        for database, name in names.items():
            rename(connection, database.name, name)
        connection.commit()
    for database, name in names.items():
        database.name = name
    require_relaying(kafka, first, second, third)


@pytest.mark.parametrize("relays", [3], indirect=True)
def test_open_changes_of_the_extension(relays, postgres, kafka):
    """An open ALTER EXTENSION UPDATE does not keep the relay from sending.  An open DROP EXTENSION does: the view of another
    database names it, a third one relays and is dropped meanwhile; its session killed, the relay is back."""
    asked, database, other = relays
    with database.connect(autocommit=False) as connection:
        connection.execute("alter extension outbox update")
        require_relaying(kafka, database)
        connection.rollback()
        connection.execute("savepoint s")
        connection.execute("alter extension outbox update")
        require_relaying(kafka, database)
        connection.commit()
        require_relaying(kafka, database)

        connection.execute("savepoint s")
        connection.execute("alter extension outbox update")
        require_relaying(kafka, database)
        worker = database.status()["pid"]
        connection.execute("rollback to savepoint s")
        connection.commit()
        require_relaying(kafka, database)
        assert database.status()["pid"] == worker

        connection.execute("drop extension outbox")
        assert listed(asked, database) == (
            "suspended", f"suspended by DROP EXTENSION of process {pid_of(connection)} until its transaction ends")
        require_relaying(kafka, other)
        postgres.drop_database(other.name)
        postgres.execute("select pg_terminate_backend(%s)", (pid_of(connection),))
        wait_until(lambda: listed(asked, database)[0] == "idle", 60, "the relay's return")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    require_relaying(kafka, database)
