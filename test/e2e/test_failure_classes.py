# SPDX-License-Identifier: PostgreSQL
"""What a failure's class makes of it: waited out, tried again, a dead letter at once, or a halt."""

import re
import uuid

import pytest
from harness import wait_until

INFRASTRUCTURE = ("40001", "40P01", "55P03", "53200", "53300", "25006", "57P01", "08006", "57014", "58030", "XX000")
RECORD = ("22P02", "23505", "P0001")
DEPLOY = ("42P01", "42883", "42501", "28000")


def logged(service, event, text):
    return any(line["event"] == event and text in line["msg"] for line in service.log_lines())


def failures(service, group, failure):
    return service.metrics().get(f'outbox_consumer_infra_errors_total{{consumer="{group}",class="{failure}"}}', 0)


def gauge(service, name, group):
    return service.metrics().get(f'{name}{{consumer="{group}"}}')


def run_codes(hazard, codes, seen):
    """One record for each code, on partitions in turn; `seen(code)` is awaited while the handler raises it."""
    for n, code in enumerate(codes):
        hazard.fail(code, code=code)
        hazard.produce(code, key=code, partition=n % 3)
        hazard.flush()
        wait_until(lambda c=code: seen(c), 30, f"what {code} leads to")
        hazard.heal()
        hazard.wait_taken(n + 1)


def test_infrastructure(hazard):
    """Error classes: raised by a handler in a batch, it is waited out: never counted, no dead letter, taken once healed."""
    service = hazard.start(retry_max=0)
    run_codes(hazard, INFRASTRUCTURE, lambda code: logged(service, "waiting", f"SQLSTATE {code}"))
    assert hazard.database.value("select count(*) from outbox.dead_letter") == 0
    assert hazard.taken() == list(INFRASTRUCTURE)
    assert failures(service, hazard.group, "infrastructure") >= len(INFRASTRUCTURE)


def test_record_errors(hazard):
    """Error classes: a record's own error is tried again and taken once healed; OBX01 is a dead letter at once."""
    service = hazard.start(retry_backoff_ms=300, retry_max=100)
    run_codes(hazard, RECORD, lambda code: hazard.letters("retrying") == 1)
    hazard.wait_letters("resolved", len(RECORD))
    hazard.fail("refused", code="OBX01")
    hazard.produce("refused", key="refused")
    hazard.produce("bad", key="bad", value=b"no JSON")
    hazard.flush()
    hazard.wait_letters("open", 2)
    rows = hazard.database.execute("select error_class, sqlstate, attempts from outbox.dead_letter order by id")
    assert rows[:-2] == [("record", code, attempts) for code, (_, _, attempts) in zip(RECORD, rows)]
    assert sorted(rows[-2:]) == [("decode", None, 1), ("permanent", "OBX01", 1)]
    assert failures(service, hazard.group, "infrastructure") == 0


def test_deploy(hazard):
    """Error classes: what an installation lacks halts the partition, at its first record too, and the alert's gauge says so."""
    service = hazard.start(retry_max=0)
    halted = "outbox_consumer_halted_partitions"
    run_codes(hazard, DEPLOY, lambda code: logged(service, "partition_halted", f"SQLSTATE {code}")
              and gauge(service, halted, hazard.group) == 1)
    assert hazard.database.value("select count(*) from outbox.dead_letter") == 0
    wait_until(lambda: gauge(service, halted, hazard.group) == 0, 20, "the gauge to fall")
    rules = (hazard.database.cluster.environment.root / "examples" / "monitoring" / "prometheus-rules.yml").read_text()
    asked = re.findall(r"\boutbox_consumer_(?!group)\w+", rules)
    assert halted in asked and {"outbox_consumer_breaker_open", "outbox_consumer_infra_errors_total"} < set(asked)
    told = {series.split("{")[0] for series in service.metrics()}
    assert set(asked) <= told


def skip_halted(hazard, service, offset, event, replay=None):
    """Await the line of the halt at that record, and step over it with what the line says."""
    hazard.flush()
    line = wait_until(lambda: next((line for line in service.log_lines() if line["event"] == "partition_halted"
                                    and line.get("offset") == offset), None), 60, "the halt")
    assert (line["event_id"], line.get("replay_id")) == (event, replay)
    hazard.database.execute("select outbox.consumer_skip(%s, %s, %s, %s, %s, 'its table is gone', %s)", (
        hazard.group, line["topic"], line["partition"], line["offset"], line["event_id"], line.get("replay_id")))


def test_skipped_by_hand(hazard):
    """A record that halts its partition for good is stepped over with outbox.consumer_skip, the partition's first, a later one,
    a replay's copy of that, and one whose handler's function is gone; what follows is taken."""
    service = hazard.start(retry_max=0)
    hazard.fail("broken", code="42P01")
    replay, event = str(uuid.uuid4()), None
    for n, headers in enumerate(((), (), (("outbox-replay-id", replay), ("outbox-replay-mode", "reprocess")))):
        event = hazard.produce("broken", key=f"broken-{n}", event_id=event if headers else None, headers=headers)
        hazard.produce(f"good-{n}")
        skip_halted(hazard, service, 2 * n, event, replay if headers else None)
        hazard.wait_taken(n + 1)
    assert hazard.taken() == ["good-0", "good-1", "good-2"]
    wait_until(lambda: gauge(service, "outbox_consumer_halted_partitions", hazard.group) == 0, 60, "the gauge to fall")
    assert hazard.database.value("select count(*) from outbox.audit where action = 'consumer_skip'") == 3
    hazard.database.execute("alter function hazard.take rename to took")
    skip_halted(hazard, service, 6, hazard.produce("gone", key="gone"))
    wait_until(lambda: hazard.database.value("select next_offset from outbox.consumer_offset where topic = %s", (hazard.topic,)) == 7, 60, "the step")
    hazard.database.execute("alter function hazard.took rename to take")
    hazard.produce("good-3")
    hazard.flush()
    hazard.wait_taken(4)


def test_halt_at_commit(hazard):
    """What a record's effects miss at the commit of a batch halts at that record: those before it are taken, and its line names it."""
    hazard.database.execute("""
        create function hazard.late() returns trigger language plpgsql as $$
        begin
            if new.event->>'what' = 'late' then raise undefined_table using message = 'its table is gone'; end if;
            return null;
        end $$;
        create constraint trigger late after insert on hazard.taken deferrable initially deferred for each row execute function hazard.late()""")
    events = [hazard.produce(what, key=what) for what in ("good-0", "late", "good-1")]
    hazard.flush()
    service = hazard.start(wait=False, retry_max=0)
    skip_halted(hazard, service, 1, events[1])
    hazard.wait_taken(2)
    assert hazard.taken() == ["good-0", "good-1"]
    assert {line["offset"] for line in service.log_lines() if line["event"] == "partition_halted"} == {1}


def test_lock_wait(payment):
    """Error classes: waiting for somebody's lock is infrastructure, however long: no dead letter of a good record."""
    service = payment.start(statement_timeout_ms=1000, retry_backoff_ms=50, retry_max=1)
    with payment.database.connect(autocommit=False) as blocker:
        blocker.execute("select from shop.account where customer_id = 'ada' for update")
        payment.order("patient")
        payment.flush()
        wait_until(lambda: sum("SQLSTATE 55P03" in line["msg"] for line in service.log_lines()) >= 4, 60, "four waits")
        assert payment.database.value("select count(*) from outbox.dead_letter") == 0
        blocker.rollback()
    payment.wait_status("patient", "approved")


@pytest.mark.parametrize("wrong, code", (({"user": "late_role"}, "28000"), ({"dbname": "no_such_database"}, "3D000")),
                         ids=("role", "database"))
def test_refused_connection(hazard, wrong, code):
    """Error classes: a role or database that does not exist is class deploy: halted, and tried again until it does."""
    service = hazard.start(wait=False, database=hazard.database.cluster.dsn(**{"dbname": hazard.database.name, **wrong}))
    wait_until(lambda: logged(service, "partition_halted", f"SQLSTATE {code}"), 30, "the halt")
    wait_until(lambda: gauge(service, "outbox_consumer_halted_partitions", hazard.group) == 3, 20, "the gauge")
    assert "halted" in service.request("GET", "/readyz")[1]
    if "user" in wrong:
        hazard.database.execute("create role late_role superuser login")
        try:
            service.wait_ready(60)
            assert service.stop() == 0
        finally:
            service.child.kill9()
            hazard.database.execute("drop role late_role")


def test_database_restored(payment):
    """Positions: a database set back to an earlier time is behind Kafka's offsets: its watermark counts, nothing is lost."""
    service = payment.start()
    for n in range(20):
        payment.order(f"order-{n}", partition=1)
    payment.flush()
    payment.wait_payments(20)
    assert service.stop() == 0
    # What a restore to a time after the fifth order leaves.
    payment.execute("delete from shop.payment where order_id not in ('order-0', 'order-1', 'order-2', 'order-3', 'order-4')")
    payment.execute("delete from outbox.idempotency")
    payment.execute("update outbox.consumer_offset set next_offset = 5 where partition = 1")
    service = payment.start()
    payment.wait_payments(20)
    assert logged(service, "rewound", "Kafka has offset 20, the database 5")
