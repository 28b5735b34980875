# SPDX-License-Identifier: PostgreSQL
"""A record that ends its session, or raises for itself alone what is waited for: tried alone, then a dead letter of class crash."""

import psycopg
import pytest
from harness import wait_until

# Two seconds in place of a minute.
SOON = {"crash_after_seconds": 2}


def letters_of(hazard):
    """(what, class, SQLSTATE, attempts, state) of each dead letter, in the order of the records."""
    return hazard.database.execute("""select convert_from(value, 'UTF8')::json->>'what', error_class, sqlstate, attempts, state
        from outbox.dead_letter order by partition, "offset" """)


def logged(service, event):
    return sum(line["event"] == event for line in service.log_lines())


@pytest.mark.parametrize("code, sqlstate", (("end", "57P01"), ("57014", "57014"), ("58030", "58030"), ("XX000", "XX000"),
                                            ("53200", "53200"), ("40001", "40001"), ("25006", "25006")))
def test_alone(hazard, code, sqlstate):
    """Field K5: after five tries over the time, class crash; the records around it are done once each, its key's later ones are held."""
    hazard.fail("bad", code=code)
    for n in range(5):
        hazard.produce(f"before-{n}", key=f"b{n}", partition=n % 3)
    hazard.produce("bad", key="bad", partition=1)
    hazard.produce("behind", key="bad", partition=1)
    for n in range(5):
        hazard.produce(f"after-{n}", key=f"a{n}", partition=n % 3)
    hazard.flush()
    hazard.start(**SOON)
    hazard.wait_letters("held", 1)
    hazard.wait_taken(10)
    assert len(set(hazard.taken())) == 10
    (what, failure, code, attempts, state), held = letters_of(hazard)
    assert (what, failure, code, state) == ("bad", "crash", sqlstate, "open") and attempts >= 5
    assert held == ("behind", "held", None, 0, "held")
    assert hazard.database.value("select count(*) from outbox.consumer_trouble") == 0


def test_others_go_on(hazard):
    """Field K5: while one record is tried alone the other partitions' are done, also those that came in one batch with it."""
    hazard.fail("bad", code="58030")
    hazard.produce("bad", key="bad", partition=1)
    for n in range(10):
        hazard.produce(f"other-{n}", key=f"{n}", partition=2 * (n % 2))
    hazard.flush()
    hazard.start(crash_after_seconds=3600)
    hazard.wait_taken(10)
    assert letters_of(hazard) == []
    hazard.heal()
    hazard.wait_taken(11)


def test_database_away(hazard):
    """Field K5: what all records fail with is the database's, however long: none is a dead letter, each is done once it is healed."""
    hazard.database.execute("""create function hazard.no_space() returns trigger language plpgsql as
        $$ begin raise disk_full using message = 'no space left on device'; end $$;
        create trigger no_space before insert on hazard.taken execute function hazard.no_space()""")
    for n in range(12):
        hazard.produce(f"{n}", key=f"{n}", partition=n % 3)
    hazard.flush()
    service = hazard.start(crash_after_seconds=1)
    tries = "select count(*) = 3 and min(tries) >= 7 from outbox.consumer_trouble"
    hazard.database.wait_for(tries, 60)
    assert letters_of(hazard) == [] and hazard.taken() == []
    hazard.database.execute("drop trigger no_space on hazard.taken")
    hazard.wait_taken(12)
    assert letters_of(hazard) == [] and logged(service, "dead_letter") == 0


def test_read_only(hazard):
    """Field K5: a server that is read-only for a while is nobody's fault: no try is counted."""
    for n in range(6):
        hazard.produce(f"{n}", key=f"{n}", partition=n % 3)
    hazard.flush()
    hazard.database.execute(f"alter database {hazard.database.name} set default_transaction_read_only = on")
    service = hazard.start(wait=False, crash_after_seconds=1)
    wait_until(lambda: logged(service, "waiting") + logged(service, "database_away") >= 6
               or sum("25006" in line["msg"] or "read-only" in line["msg"] for line in service.log_lines()) >= 6, 60, "six refusals")
    with hazard.database.connect() as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(f"alter database {hazard.database.name} reset default_transaction_read_only")
    hazard.wait_taken(6)
    assert letters_of(hazard) == []


def test_tries_survive(hazard):
    """Field K5: what was tried is known to the next process, too, and a killed one loses no count."""
    hazard.fail("bad", code="end")
    hazard.produce("bad", key="bad")
    hazard.produce("good", key="good")
    hazard.flush()
    tries = "select coalesce(max(tries), 0) from outbox.consumer_trouble"
    seen = 0
    for _ in range(2):
        service = hazard.start(wait=False, crash_after_seconds=6)
        wait_until(lambda s=seen: hazard.database.value(tries) > s, 60, "one more try")
        seen = hazard.database.value(tries)
        service.kill9()
    hazard.start(crash_after_seconds=6)
    hazard.wait_letters("open", 1)
    assert letters_of(hazard)[0][3] > seen
    hazard.wait_taken(1)


@pytest.mark.parametrize("code", ("end", "XX000"))
def test_in_a_retry(hazard, code):
    """Field K5: the same of a dead letter that is tried again; other letters are tried meanwhile."""
    hazard.fail("bad")
    hazard.fail("other")
    hazard.produce("bad", key="bad")
    hazard.produce("other", key="other")
    hazard.flush()
    hazard.start(retry_backoff_ms=100, retry_max=1, **SOON)
    hazard.wait_letters("open", 2)
    hazard.heal()
    hazard.fail("bad", code=code)
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter")
    hazard.wait_taken(1)
    wait_until(lambda: letters_of(hazard)[0][1] == "crash", 60, "class crash")
    (what, failure, _, attempts, state), other = letters_of(hazard)
    assert (what, failure, state) == ("bad", "crash", "open") and attempts >= 3 and other[4] == "resolved"
    # Healed and replayed, it has all its tries again.
    hazard.heal()
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    hazard.wait_taken(2)


def test_server_crash(hazard):
    """Field K5: a record whose backend is killed restarts the server a few times, not for ever; the others are done once each."""
    hazard.fail("bad", code="kill")
    for n in range(6):
        hazard.produce(f"{n}", key=f"{n}", partition=n % 3)
    hazard.produce("bad", key="bad", partition=1)
    hazard.produce("last", key="last", partition=1)
    hazard.flush()
    service = hazard.start(wait=False, crash_after_seconds=4)

    def is_dead():
        try:
            return hazard.letters("open") == 1 and len(hazard.taken()) == 7
        except psycopg.Error:
            return False  # it restarts
    wait_until(is_dead, 90, "the dead letter and the others' effects")
    server = "select backend_start from pg_stat_activity where backend_type = 'walwriter'"
    started = hazard.database.value(server)
    hazard.produce("later", key="later", partition=1)
    hazard.flush()
    hazard.wait_taken(8)
    assert hazard.database.value(server) == started and len(set(hazard.taken())) == 8
    (_, failure, _, attempts, _), = letters_of(hazard)
    assert failure == "crash" and 5 <= attempts <= 6
    assert service.stop() == 0
