# SPDX-License-Identifier: PostgreSQL
"""held: how fast what is held behind a dead letter of its key is worked off, one thread.

outbox-consume reads one key whose first record's handler raises: that one is a dead letter, the others are held. Then
the letter is replayed with the handler mended. The rate is that of the rows done behind the first one, by the server's
clock; handler: one INSERT. The records are in the topic before the service starts, in each round anew.
"""

import argparse
import json
import uuid

from harness import KafkaBroker, PostgresCluster, Service, Session, exit_on_sigterm, wait_until
from support import Steal, last_line, quartiles, say, spread

SCHEMA = """
create extension outbox;
select outbox.declare_topic('held', 1);
create table done (place bigint generated always as identity, "offset" bigint not null, at timestamptz not null default clock_timestamp());
create table broken ();
create function public.take(event outbox.consumed_event) returns text language plpgsql as $$
begin
	if event."offset" = 0 and exists (select from pg_class where relname = 'broken') then
		raise exception 'seeded';
	end if;
	insert into done ("offset") values (event."offset");
	return 'done';
end $$;
"""


def run(session, kafka, postgres, number, rows):
    name = f"held_{number}"
    postgres.create_database(name, extension=False)
    postgres.psql(SCHEMA, name)
    steal = Steal()
    service = Service(session, "outbox-consume", {
        "database": postgres.dsn(name), "bootstrap_servers": kafka.bootstrap, "group_id": name, "topics": "held",
        "function": "public.take", "http_port": 18199, "retry_max": 0, "log_level": "error",
    }, name=name).start()
    postgres.wait_for(f"select count(*) = {rows} from outbox.dead_letter where state = 'held'", 600, name)
    postgres.execute("drop table broken; select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'", dbname=name)
    postgres.wait_for(f"select count(*) = {rows + 1} from done", 600, name)
    count, seconds, resolved = postgres.execute("""select count(*), extract(epoch from max(at) - min(at))::float,
        (select count(*) from outbox.dead_letter where state = 'resolved')
        from done""", dbname=name)[0]
    places = [row[0] for row in postgres.execute('select "offset" from done order by place', dbname=name)]
    if places != list(range(rows + 1)) or (count, resolved) != (rows + 1, rows + 1):
        raise RuntimeError(f"{count} done, {resolved} resolved")
    service.stop()
    postgres.drop_database(name)
    say(f"round {number} per_s={rows / seconds:.0f} steal_percent={steal.percent():.1f}")
    return rows / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-held")
    try:
        kafka = KafkaBroker(session, fast_start=False, heap="1g").start()
        kafka.create_topics(["held", "held.DLT"], 1)
        producer = kafka.producer()
        for n in range(options.rows + 1):
            producer.produce("held", json.dumps({"n": n}), "key", headers=[("ce_id", str(uuid.uuid4())), ("ce_type", "Held")])
            producer.poll(0)
        producer.flush(60)
        postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={kafka.bootstrap}", "shared_buffers": "512MB",
            "max_wal_size": "16GB", "checkpoint_timeout": "1h",
        }).start()
        rates = [run(session, kafka, postgres, number, options.rows) for number in range(1, options.rounds + 1)]
    finally:
        session.close()
    say(f"per_s {spread(rates)} (median and quartiles)")
    last_line("held", per_s=quartiles(rates)[1])


if __name__ == "__main__":
    main()
