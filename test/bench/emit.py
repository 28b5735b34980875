# SPDX-License-Identifier: PostgreSQL
"""emit: server time of emit() against plain INSERTs of the same event.

Two measures of the same statements, alternating within a round in random order,
both execution plus planning time of pg_stat_statements, one client:

	loop       a call of a PL/pgSQL function that executes the prepared statement 4,000
	           times: all the server does for it. The last line is made of it.
	statement  the prepared statement sent by the client, each call in its own
	           transaction. pg_stat_statements starts its clock after ExecutorStart and
	           stops it before ExecutorEnd: it leaves out that an INSERT opens its
	           table and indexes there, while emit() does so inside the call.

	emit, plain, debezium      payload given as jsonb (plain: bytea)
	emit_json, debezium_json   payload given as JSON text, converted in the statement
	plain        a table of the columns of outbox.event, with its index and the
	             defaults a table would have: sequence, UUID version 7 by a C
	             function (uuid_v7.c, as the usual extensions do it), clock
	plain_sql    the same, the UUID made by an SQL expression (shown, not in the
	             last line)
	debezium     Debezium's outbox table, the key by gen_random_uuid()
"""

import argparse
import random
import shutil
import uuid

import psycopg
from harness import PostgresCluster, Session, exit_on_sigterm
from psycopg.types.json import Jsonb
from support import Steal, last_line, program, quartiles, say, spread

PAYLOAD_BYTES = 300
TOPIC = "bench.emit"

COLUMNS = """
	txid xid8 not null default pg_current_xact_id(),
	seq bigint not null default nextval('{name}_seq'),
	segment smallint not null default 0,
	id uuid not null default {uuid},
	topic text not null,
	key bytea,
	type text not null,
	payload bytea,
	content_type text,
	headers bytea,
	created_at timestamptz not null default clock_timestamp()
"""

SQL_UUID = """encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
	substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
	from 1 for 6), 52, 1), 53, 1), 'hex')::uuid"""

DEBEZIUM = """
create table debezium (
	id uuid not null primary key,
	aggregatetype varchar(255) not null,
	aggregateid varchar(255) not null,
	type varchar(255) not null,
	payload jsonb
)
"""

_PLAIN = "insert into {name} (topic, key, type, payload, content_type) values ({{}}, {{}}, {{}}, {{}}, 'application/json')"
_DEBEZIUM = (
    "insert into debezium (id, aggregatetype, aggregateid, type, payload)"
    " values (gen_random_uuid(), {}, {}, {}, {})"
)

# Statement with places for topic, key, type and payload; type and conversion of the payload.
VARIANTS = {
    "emit": ("select outbox.emit({}, {}, {}, {})", "jsonb", ""),
    "plain": (_PLAIN.format(name="plain"), "bytea", ""),
    "plain_sql": (_PLAIN.format(name="plain_sql"), "bytea", ""),
    "debezium": (_DEBEZIUM, "jsonb", ""),
    "emit_json": ("select outbox.emit_json({}, {}, {}, {})", "text", "::json"),
    "debezium_json": (_DEBEZIUM, "text", "::jsonb"),
}

LOOP = """
create function loop_{variant}(calls integer) returns void language plpgsql as $do$
declare
	topic text := '{topic}'; key {key_type} := 'order-0000001'; type text := 'OrderCreated';
	payload {payload_type} := '{payload}'; id uuid;
begin
	for i in 1..calls loop
		{statement};
	end loop;
end
$do$
"""


def payload(number):
    """A JSON object of exactly PAYLOAD_BYTES bytes, spaced as jsonb prints it."""
    head = (
        f'{{"note": "", "items": [{{"sku": "SKU-{number % 997:03}", "price": "{number % 211:03}.50", '
        f'"quantity": {1 + number % 5}}}], "status": "created", "currency": "EUR", "order_id": "{number:07}", '
        f'"customer_id": "customer-{number % 20011:05}"}}'
    )
    filling = (uuid.uuid5(uuid.NAMESPACE_OID, str(number)).hex * 10)[:PAYLOAD_BYTES - len(head)]
    return head.replace('"note": ""', f'"note": "{filling}"')


def is_plain(variant):
    return variant.startswith("plain")


def prepared_statement(variant):
    text, payload_type, conversion = VARIANTS[variant]
    return text.format("$1", "$2", "$3", f"$4::{payload_type}{conversion}")


def loop(variant):
    text, payload_type, conversion = VARIANTS[variant]
    statement = text.format("topic", "key", "type", f"payload{conversion}")
    return LOOP.format(
        variant=variant, topic=TOPIC, key_type="bytea" if is_plain(variant) else "text", payload_type=payload_type,
        payload=payload(1), statement=statement.replace("select ", "id := ", 1),
    )


def arguments(variant, number):
    """Values of one event for the statement of a variant."""
    key, text = f"order-{number % 100000:07}", payload(number)
    value = {"jsonb": Jsonb(text, dumps=str), "bytea": text.encode(), "text": text}[VARIANTS[variant][1]]
    return TOPIC, key.encode() if is_plain(variant) else key, "OrderCreated", value


def prepare(cluster, session):
    """The extension, the tables to compare with, and the statistics."""
    library = session.environment.give(shutil.copy(program("uuid_v7.so"), session.data / "uuid_v7.so"))
    cluster.create_database("emit")
    with cluster.connect("emit") as connection:
        connection.execute("create extension pg_stat_statements")
        connection.execute("select outbox.declare_topic(%s)", (TOPIC,))
        connection.execute(
            f"create function uuid_v7() returns uuid language c volatile as '{library}', 'bench_uuid_v7'"
        )
        for name, default in (("plain", "uuid_v7()"), ("plain_sql", SQL_UUID)):
            connection.execute(f"create sequence {name}_seq")
            connection.execute(f"create table {name} ({COLUMNS.format(name=name, uuid=default)})")
            connection.execute(f"create index on {name} (txid)")
        connection.execute(DEBEZIUM)
        for variant in VARIANTS:
            connection.execute(loop(variant))


def measure_statement(connection, variant, first, calls):
    """Microseconds a call, execution and planning by pg_stat_statements."""
    statement = prepared_statement(variant)
    values = [arguments(variant, number) for number in range(first, first + calls)]
    connection.execute("select pg_stat_statements_reset()")
    with psycopg.RawCursor(connection) as cursor:
        for value in values:
            cursor.execute(statement, value, prepare=True)
    # Its text is normalized; nothing else has run as often since the reset.
    found = connection.execute(
        "select total_exec_time + total_plan_time from pg_stat_statements where calls = %s", (calls,)
    ).fetchall()
    if len(found) != 1:
        raise RuntimeError(f"pg_stat_statements saw {len(found)} statements {calls} times, not 1 ({variant})")
    return found[0][0] / calls * 1000


def measure_loop(connection, variant, _first, calls):
    """Microseconds a call, all the server does for it in a loop, by pg_stat_statements."""
    connection.execute("select pg_stat_statements_reset()")
    connection.execute(f"select loop_{variant}({calls})")
    found = connection.execute(
        "select total_exec_time + total_plan_time from pg_stat_statements where query like 'select loop_%'"
    ).fetchall()
    if len(found) != 1:
        raise RuntimeError(f"pg_stat_statements saw {len(found)} loops, not 1 ({variant})")
    return found[0][0] / calls * 1000


MEASURES = {"statement": measure_statement, "loop": measure_loop}


def check_rows(connection, calls):
    """Every call has stored its row; calls is the number of each variant's."""
    counts = {"outbox.event": 2 * calls, "plain": calls, "plain_sql": calls, "debezium": 2 * calls}
    for table, expected in counts.items():
        found = connection.execute(f"select count(*) from {table}").fetchone()[0]
        if found != expected:
            raise RuntimeError(f"{table} has {found} rows, not {expected}")
    sizes = connection.execute("select array_agg(distinct length(payload)) from outbox.event").fetchone()[0]
    if sizes != [PAYLOAD_BYTES]:
        raise RuntimeError(f"the stored payloads have {sizes} bytes")


def run_rounds(connection, options):
    """{(measure, variant): times, one a round}; the first round is not counted."""
    times = {(measure, variant): [] for measure in MEASURES for variant in VARIANTS}
    steal = Steal()
    for number in range(options.rounds + 1):
        order = list(times)
        random.shuffle(order)
        for measure, variant in order:
            value = MEASURES[measure](connection, variant, number * options.calls, options.calls)
            if number > 0:
                times[measure, variant].append(value)
    say(f"steal_percent={steal.percent():.1f}")
    check_rows(connection, (options.rounds + 1) * options.calls * len(MEASURES))
    return times


def report(times):
    def ratios(measure, variant, other):
        return [a / b for a, b in zip(times[measure, variant], times[measure, other])]

    say(f"rounds={len(times['statement', 'emit'])} (median and quartiles over the rounds)")
    for (measure, variant), values in times.items():
        say(f"{measure:9} {variant:13} us a call  {spread(values)}")
    for measure in MEASURES:
        figures = {
            "vs_plain": ratios(measure, "emit", "plain"),
            "vs_debezium": ratios(measure, "emit", "debezium"),
            "json_vs_debezium": ratios(measure, "emit_json", "debezium_json"),
        }
        say(f"{measure:9} vs_plain_sql      {spread(ratios(measure, 'emit', 'plain_sql'), 3)}")
        for name, values in figures.items():
            say(f"{measure:9} {name:16}  {spread(values, 3)}")
        medians = {name: quartiles(values)[1] for name, values in figures.items()}
        last_line("emit" if measure == "loop" else "emit_statement", digits=3, **medians)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--calls", type=int, default=4000, help="of each variant in a round")
    options = parser.parse_args()
    exit_on_sigterm()
    random.seed(1)
    session = Session("bench-emit")
    try:
        cluster = PostgresCluster(session, conf={
            "shared_preload_libraries": "outbox,pg_stat_statements",
            "pg_stat_statements.track_planning": "on",
            "shared_buffers": "1GB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
            "autovacuum": "off",
        }).start()
        prepare(cluster, session)
        with cluster.connect("emit") as connection:
            connection.execute("set synchronous_commit = off")
            report(run_rounds(connection, options))
    finally:
        session.close()


if __name__ == "__main__":
    main()
