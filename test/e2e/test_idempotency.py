# SPDX-License-Identifier: PostgreSQL
"""Claims of consumers: forgotten by the runtime, taken along by a dump."""

from harness import wait_until

# One of 50 days ago, one of now, one without a time; all claimed 36 days ago.
CLAIMS = """
create function claim_id(days integer) returns uuid language sql as $$
    select (lpad(to_hex(((extract(epoch from now()) - days * 86400) * 1000)::bigint), 12, '0') || '70008000000000000001')::uuid $$;
select outbox.claim('old', claim_id(50)), outbox.claim('old', claim_id(0)), outbox.claim('old', gen_random_uuid());
update outbox.idempotency set processed_at = now() - interval '36 days' where consumer = 'old';
select outbox.claim('young', claim_id(50));
"""
LEFT = "select consumer, count(*) from outbox.idempotency group by consumer order by consumer"


def test_the_runtime_forgets_old_claims(payment):
    """Issue 5, "idempotency rows, which are partitioned by age and dropped": in a database without a relay."""
    payment.execute(CLAIMS)
    service = payment.start()
    wait_until(lambda: payment.execute(LEFT) == [("old", 1), ("young", 1)], 30, "old claims to be forgotten")
    assert [line["msg"] for line in service.log_lines() if line["event"] == "claims_forgotten"] == [
        "1 leaves emptied, 1 rows deleted"]
    assert service.stop() == 0


def test_a_dump_takes_claims(database, postgres, make_database):
    """Row 000.8: what was claimed before a dump is claimed after it, in whichever leaf."""
    database.execute(CLAIMS)
    restored = make_database(postgres, extension=False)
    postgres.psql(postgres.run("pg_dump", "-d", database.dsn()), restored.name)
    assert restored.execute(LEFT) == [("old", 3), ("young", 1)]
    again = "select outbox.claim(consumer, event_id) from outbox.idempotency"
    assert [row[0] for row in restored.execute(again)] == [False] * 4
