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
    """After five tries over the time, class crash; the records around it are done once each, its key's later ones are held."""
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
    """While one record is tried alone the other partitions' are done, also those that came in one batch with it."""
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
    """What all records fail with is the database's, however long: none is a dead letter, each is done once it is healed."""
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


def break_all(hazard, body="raise disk_full using message = 'no space left on device';"):
    """Have every effect fail, for the sake of the database."""
    hazard.database.execute(f"""create sequence if not exists hazard.broken;
        create or replace function hazard.break_all() returns trigger language plpgsql as $$ begin {body} return new; end $$;
        create or replace trigger break_all before insert on hazard.taken for each row execute function hazard.break_all()""")


def mend_all(hazard):
    hazard.database.execute("drop trigger break_all on hazard.taken")


TRIED = "select count(*) >= 3 and min(tries) >= 7 from outbox.consumer_trouble"


def test_database_away_from_each(hazard):
    """The same where each member has one record only and nobody to ask: it sees that the others' fail alike."""
    break_all(hazard)
    for n in range(3):
        hazard.produce(f"{n}", key=f"{n}", partition=n)
    hazard.flush()
    hazard.start(crash_after_seconds=1, threads=3)
    hazard.database.wait_for(TRIED, 60)
    assert letters_of(hazard) == []
    mend_all(hazard)
    hazard.wait_taken(3)
    assert letters_of(hazard) == []


def test_invalid_is_no_proof(hazard):
    """A record that is refused before it meets the database's trouble does not show that there is none."""
    break_all(hazard)
    hazard.fail("invalid")
    for n in range(3):
        hazard.produce(f"{n}", key=f"{n}", partition=n)
        hazard.produce("invalid", key="invalid", partition=n)
    hazard.flush()
    hazard.start(crash_after_seconds=1)
    hazard.database.wait_for(TRIED, 60)
    assert letters_of(hazard) == []
    mend_all(hazard)
    hazard.wait_taken(3)
    assert "crash" not in {row[1] for row in letters_of(hazard)}


@pytest.mark.long
def test_ended_after_other_failures(hazard):
    """A session that ends once, as by the restart that is to help a database in trouble, condemns nobody."""
    break_all(hazard, "raise query_canceled;")
    for n in range(12):
        hazard.produce(f"{n}", key=f"{n}", partition=n % 3)
    hazard.flush()
    service = hazard.start(crash_after_seconds=1)
    hazard.database.wait_for(TRIED, 60)
    break_all(hazard, "if nextval('hazard.broken') <= 3 then perform pg_terminate_backend(pg_backend_pid()); end if; raise query_canceled;")
    hazard.database.wait_for("select last_value >= 4 from hazard.broken", 60)
    assert letters_of(hazard) == []
    mend_all(hazard)
    hazard.wait_taken(12)
    assert letters_of(hazard) == [] and logged(service, "dead_letter") == 0


def test_not_begun(hazard):
    """A try that ends before the record's turn, for a lock or the server's end, is none of its own."""
    hazard.produce("first", key="first")
    hazard.flush()
    service = hazard.start(crash_after_seconds=2, statement_timeout_ms=400)
    hazard.wait_taken(1)
    hazard.fail("second", code="end")
    hazard.produce("second", key="second")
    hazard.flush()
    hazard.database.wait_for("select count(*) = 1 from outbox.consumer_trouble where ended", 60)
    with hazard.database.connect(autocommit=False) as connection:
        connection.execute("select from outbox.consumer_offset for update")
        hazard.heal()
        wait_until(lambda: sum("55P03" in line["msg"] for line in service.log_lines()) >= 15, 60, "locks waited for in vain")
        connection.rollback()
    hazard.wait_taken(2)
    assert letters_of(hazard) == []


def test_others_elsewhere(hazard):
    """Records fail alike one after the other, alone in their process; what other processes do is proof."""
    services = [hazard.start(wait=False, **SOON) for _ in range(3)]
    for n in range(3):
        hazard.produce(f"{n}", key=f"{n}", partition=n)
    hazard.flush()
    hazard.wait_taken(3)
    for what in ("bad-1", "bad-2", "bad-3"):
        hazard.fail(what, code="58030")
        hazard.produce(what, key=what, partition=0)
    hazard.flush()
    others = 0

    def is_dead():
        nonlocal others
        hazard.produce(f"other-{others}", key=f"{others}", partition=1 + others % 2)
        others += 1
        hazard.flush()
        return hazard.letters("open") == 2
    wait_until(is_dead, 60, "two dead letters, and the third in hand")
    assert all(service.running for service in services)


def test_crash_of_another(hazard):
    """A session that ends with the crash of another one's process is told from one whose own process has crashed."""
    with hazard.database.connect() as connection:
        pid = connection.info.backend_pid
        break_all(hazard, f"""if nextval('hazard.broken') = 1 then
            execute 'copy (select 1) to program ''kill -9 {pid}'''; perform pg_sleep(20); end if;""")
        hazard.produce("only")
        hazard.flush()
        service = hazard.start(wait=False)

        def is_done():
            try:
                return hazard.taken() == ["only"]
            except psycopg.Error:
                return False  # it restarts
        wait_until(is_done, 60, "the effect")
    assert any("57P02" in line["msg"] for line in service.log_lines() if line["event"] == "waiting")


def test_restored(hazard, postgres, make_database):
    """A dump has the tries that are noted."""
    hazard.database.execute("""select outbox.note_trouble('c', 't', 3, 77, '00000000-0000-7000-9000-000000000077', 2, 5000, '58030',
        'I/O error', false, true, null)""")
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", hazard.database.dsn()), restored.name)
    rows = "select to_jsonb(t) from outbox.consumer_trouble t"
    assert hazard.database.value(rows)["tries"] == 3 and restored.execute(rows) == hazard.database.execute(rows)


def test_read_only(hazard):
    """A server that is read-only for a while is nobody's fault: no try is counted."""
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
    """What was tried is known to the next process, too, and a killed one loses no count."""
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
    """The same of a dead letter that is tried again; other letters are tried meanwhile."""
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


def test_others_away_in_a_retry(hazard):
    """Letters that fail alike with what another server does not give (08001, no end of the session) wait, too."""
    for what in ("a", "b"):
        hazard.fail(what)
        hazard.produce(what, key=what)
    hazard.flush()
    hazard.start(retry_max=0, crash_after_seconds=1)
    hazard.wait_letters("open", 2)
    hazard.database.execute("update hazard.failure set code = '08001'")
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter")
    hazard.database.wait_for("select min(troubles) >= 6 from outbox.dead_letter", 60)
    assert hazard.letters("retrying") == 2
    hazard.heal()
    hazard.wait_taken(2)


def test_server_crash(hazard):
    """A record whose backend is killed restarts the server a few times, not for ever; the others are done once each."""
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
