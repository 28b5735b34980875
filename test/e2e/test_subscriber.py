# SPDX-License-Identifier: PostgreSQL
"""A logical subscriber with the extension: what it applies is never relayed a second time.

Proves F16 of the fault matrix for logical replication, and the trigger drop_replicated.
"""

from harness import wait_until
from steady_writer import SteadyWriter


def wait_synchronized(cluster, name):
    """Wait until the subscription has copied every table."""
    cluster.wait_for("select bool_and(srsubstate = 'r') and count(*) > 0 from pg_subscription_rel", 120, name,
                     what="every table of the subscription")


def announce_applied_rows(database):
    """The subscriber's own event for each row that it applies, in replica role, through outbox.outgoing."""
    database.declare("applied")
    database.execute("""
        create function checker.announce() returns trigger language plpgsql as $$ begin
            insert into outbox.outgoing (topic, key, type) values ('applied', new.key, 'Applied');
            return null;
        end $$""")
    database.execute("create trigger announce after insert on checker.truth for each row execute function checker.announce()")
    database.execute("alter table checker.truth enable always trigger announce")


def forget_claim(source, copy, claim):
    """Claim, age and forget an event on the publisher; the subscriber follows."""
    known = "select processed_at from outbox.idempotency where event_id = %s"
    source.execute("select outbox.claim('c', %s)", (claim,))
    wait_until(lambda: copy.value(known, (claim,)), 60, "the claim to arrive")
    source.execute("update outbox.idempotency set processed_at = now() - interval '90 days' where event_id = %s", (claim,))
    source.execute("select outbox.idempotency_maintain()")
    wait_until(lambda: copy.value(known, (claim,)) is None, 60, "the claim to be forgotten")


def test_all_tables_are_published(own_postgres, make_database, kafka, topic_name):
    """FOR ALL TABLES, first copy and stream: the subscriber keeps no event and relays only its own."""
    publisher = own_postgres(name="publisher", wal_level="logical")
    subscriber = own_postgres(name="subscriber", max_worker_processes=32, max_logical_replication_workers=16)
    source = make_database(publisher)
    copy = make_database(subscriber, source.name)
    source.declare(topic_name)
    source.start_relay()
    copy.start_relay()
    with SteadyWriter(source, topic_name) as writer:
        writer.await_batches()
        copy.execute("create schema checker")
        copy.execute("create table checker.counter (topic text, key text, key_seq bigint not null, primary key (topic, key))")
        copy.execute("create table checker.truth (id uuid primary key, topic text not null, key text not null,"
                     " key_seq bigint not null)")
        announce_applied_rows(copy)
        source.execute("create publication everything for all tables")
        copy.execute(f"create subscription everything connection '{source.dsn()}' publication everything")
        try:
            wait_synchronized(subscriber, copy.name)
            writer.await_commits()
            writer.await_batches()
            report = writer.check(kafka)
            copied = "select count(*) from checker.truth"
            announced = "select count(*) from outbox.event where topic = 'applied'"
            wait_until(lambda: copy.value(copied) == report.committed, 60, "the stream to arrive")
            assert copy.value("select count(*) from outbox.event where topic <> 'applied'") == 0
            assert copy.value(announced) == report.committed
            assert copy.value("select count(*) from outbox.batch b, outbox.server_identity() i where b.system_id <> i.system_id") == 0
            installation = "select array_agg(id) from outbox.installation"
            assert len(copy.value(installation)) == 1 and copy.value(installation) != source.value(installation)

            for claim, root in (("00000000-0000-4000-8000-000000000001", False), ("00000000-0000-4000-8000-000000000002", True)):
                source.execute(f"alter publication everything set (publish_via_partition_root = {root})")
                copy.execute("alter subscription everything refresh publication with (copy_data = false)")
                forget_claim(source, copy, claim)

            own = copy.emit(topic_name, "own", "OfTheSubscriber")
            seen = [dict(record.headers()) for record in kafka.wait_for_records(topic_name, report.committed + 1)]
            assert [headers["ce_id"].decode() for headers in seen if headers["ce_type"] == b"OfTheSubscriber"] == [own]
            assert len(kafka.read_all(topic_name)) == report.committed + 1
        finally:
            copy.execute("drop subscription everything")
