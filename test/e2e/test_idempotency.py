# SPDX-License-Identifier: PostgreSQL
"""Claims of consumers: forgotten by the runtime, taken along by a dump."""

import time

import pytest
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
    """Claims are kept by age and forgotten: in a database without a relay."""
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


# Claims as the consumer runtime makes them, 500 a transaction; seconds: what the calls and their commits took.
CLAIM_DAY = """
create function claim_ids(version integer) returns uuid[] language sql as $$
    select array_agg(case version when 4 then gen_random_uuid() else
        overlay(overlay(gen_random_uuid()::text placing '7' from 15) placing
            substr(ms, 1, 8) || '-' || substr(ms, 9) from 1)::uuid end)
    from generate_series(1, 500), lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') ms $$;
create procedure claim_day(version integer, events integer, inout seconds double precision default 0) language plpgsql as $$
declare
    ids uuid[];
    began timestamptz;
begin
    for n in 1 .. events / 500 loop
        ids := claim_ids(version);
        commit;
        began := clock_timestamp();
        perform outbox.claim_many('payment', ids);
        commit;
        seconds := seconds + extract(epoch from clock_timestamp() - began);
    end loop;
end $$;
"""
CLAIM_SIZES = """
    select (sum(pg_relation_size(i.inhrelid)) / 1048576)::float, (sum(pg_indexes_size(i.inhrelid)) / 1048576)::float,
        (select count(*) from outbox.idempotency)
    from pg_inherits i where i.inhparent = 'outbox.idempotency'::regclass"""
# When autovacuum would, by its default settings; VACUUM runs outside a transaction.
CLAIM_DEAD = """
    select c.oid::regclass::text from pg_stat_user_tables s join pg_class c on c.oid = s.relid
    where c.relname like 'idempotency%' and s.n_dead_tup > 50 + 0.2 * s.n_live_tup"""


def live_with_claims(cluster, shift, database, version, days, retention, a_day):
    """Claim that many a day with ids of one version, forget what is too old and vacuum; yields (day, figures) when it ends."""
    with database.connect() as connection:
        for day in range(1, days + 1):
            shift(day * 86400)
            lsn = connection.execute("select pg_current_wal_insert_lsn()").fetchone()[0]
            seconds, = connection.execute("call claim_day(%s, %s)", (version, a_day)).fetchone()
            claimed = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::float", (lsn,)).fetchone()[0]
            began = time.monotonic()
            while connection.execute("select deleted from outbox.idempotency_maintain(5000)").fetchone()[0] == 5000:
                pass
            connection.execute("select pg_stat_force_next_flush()")
            for table, in connection.execute(CLAIM_DEAD).fetchall():
                connection.execute(f"vacuum {table}")
            forgotten = time.monotonic() - began
            written = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::float", (lsn,)).fetchone()[0]
            heap, indexes, rows = connection.execute(CLAIM_SIZES).fetchone()
            assert rows <= (retention + 4) * a_day
            yield day, {"rows": rows, "heap_mib": heap, "index_mib": indexes, "claim_us": seconds / a_day * 1e6,
                        "claim_wal": claimed / a_day, "forget_us": forgotten / a_day * 1e6, "forget_wal": (written - claimed) / a_day}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", (4, 7))
def test_a_million_claims_do_not_bloat(shifted_clock, make_database, version):
    """Of a million claims that are kept a tenth comes and goes each day; after two more turns the tables are no larger than
    half as much again. Of version 4 ids they are deleted, of version 7 ids emptied by the leaf. With -s the figures of docs/benchmarks.md."""
    cluster, shift = shifted_clock
    cluster.configure(**{"outbox.idempotency_retention": "10d"})
    cluster.reload()
    database = make_database(cluster)
    database.execute(CLAIM_DAY)
    sizes = {}
    for day, figures in live_with_claims(cluster, shift, database, version, 30, 10, 100_000):
        sizes[day] = figures["heap_mib"] + figures["index_mib"]
        if day % 10 == 0:
            print(f"version {version} day {day} " + " ".join(f"{name}={value:.1f}" for name, value in figures.items()))
    assert max(sizes[day] for day in range(20, 31)) < 1.5 * max(sizes[day] for day in range(10, 15)), sizes
