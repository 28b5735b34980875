# SPDX-License-Identifier: PostgreSQL
"""What surrounds a service: signals, a log that nobody reads, handlers that talk, a server that is not the primary any more."""

import fcntl
import os
import signal

import pytest
from harness import wait_until

HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM)
PIPE_BYTES = 4096


@pytest.mark.parametrize("ending", (signal.SIGQUIT, signal.SIGINT, signal.SIGTERM))
def test_signals(hazard, service, kafka, ending):
    """What loggers and terminals send does nothing to a service and the monitor; what ends them ends them in order, once."""
    monitor = service("outbox-monitor", {"bootstrap_servers": kafka.bootstrap})
    consumer = hazard.start()
    for program in (consumer, monitor):
        for number in HARMLESS:
            program.child.send_signal(number)
    hazard.produce("taken")
    hazard.flush()
    hazard.wait_taken(1)
    assert monitor.request("GET", "/livez")[0] == 200
    for program in (consumer, monitor):
        program.child.send_signal(ending)
        program.child.send_signal(ending)
        assert program.stop(60) == 0
        assert program.log_lines()[-1]["event"] == "stopped"


def test_unread_log(hazard, session, unique):
    """A pipe that nobody reads holds back the log, not the consumer."""
    path = session.data / unique("log")
    os.mkfifo(path)
    session.environment.give(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        found = hazard.make_service(hazard.program, hazard.settings(log_level="debug"), start=False)
        found.child.log_path = path
        found.start()
        for number in range(100):
            hazard.produce(f"{number}", key=f"{number}", partition=number % 3)
        hazard.flush()
        hazard.wait_taken(100)
        # A line of each is more than the pipe holds.
        assert os.read(reader, 1) == b"{"
        assert found.metrics()["outbox_log_lines_dropped_total"] == 0
        found.child.send_signal(signal.SIGTERM)
        wait_until(lambda: not found.running, 60, "the end, though nobody reads")
        assert found.stop() == 0
    finally:
        os.close(reader)


def test_talkative_handler(hazard):
    """Of what a handler raises as notices some is logged, cut, and the rest counted; the records are done."""
    hazard.database.execute("""alter function hazard.take(text, text, jsonb) rename to take_quietly;
        create function hazard.take(p_key text, p_event_id text, p_event jsonb) returns text language plpgsql as $$ begin
            for n in 1..50 loop
                raise notice 'notice %', repeat('ä', 5000);
                raise warning 'warning';
                raise info 'info';
                raise log 'log';
            end loop;
            return hazard.take_quietly(p_key, p_event_id, p_event); end $$""")
    consumer = hazard.start()
    for number in range(20):
        hazard.produce(f"{number}", key=f"{number}", partition=number % 3)
    hazard.flush()
    hazard.wait_taken(20)
    left_out = consumer.metrics()["outbox_database_notices_dropped_total"]
    told = [line["msg"] for line in consumer.log_lines() if line["event"] == "database_notice"]
    assert left_out > 0 and 0 < len(told) < 3000 and left_out + len(told) >= 3000
    assert max(map(len, told)) <= 1000 and any("ää" in text for text in told)


def test_demoted_primary(hazard, own_postgres, make_database):
    """A server that can only be read is left, in a session as at its start, and the next host of the list is found."""
    old = hazard.database
    new_cluster = own_postgres()
    new = make_database(new_cluster, name=old.name)
    new_cluster.psql_file(new_cluster.environment.root / "test" / "services" / "hazard.sql", new.name)
    hosts = {"host": f"{old.cluster.host},{new_cluster.host}", "port": f"{old.cluster.port},{new_cluster.port}"}
    consumer = hazard.start(database=old.dsn(**hosts))
    taken = "select array_agg(event->>'what' order by place) from hazard.taken"
    hazard.produce("before")
    hazard.flush()
    old.wait_for("select count(*) = 1 from hazard.taken", 60)
    loaded = old.value("select pg_conf_load_time()")
    old.cluster.execute("alter system set default_transaction_read_only = on")
    try:
        old.cluster.reload()
        old.wait_for("select pg_conf_load_time() > %s", 60, [loaded])
        hazard.produce("after")
        hazard.flush()
        new.wait_for("select count(*) = 1 from hazard.taken where event->>'what' = 'after'", 60)
    finally:
        with old.cluster.connect() as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute("alter system reset default_transaction_read_only")
        old.cluster.reload()
    # The new server, which is no copy here, knows nothing of the first record.
    assert old.value(taken) == ["before"] and new.value(taken)[-1] == "after"
    assert old.value("select count(*) from outbox.dead_letter") == new.value("select count(*) from outbox.dead_letter") == 0
    consumer.wait_ready(60)
    assert consumer.stop() == 0
