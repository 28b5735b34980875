# SPDX-License-Identifier: PostgreSQL
"""consume: outbox-payment from a full topic to committed effects, against itself with one transaction for each
event, and against a bare program: librdkafka and the same SQL by pipelined libpq, without de-duplication.

The orders are in the topic before the clock starts. Each side works on a fresh copy of one payment database
(accounts, paid orders and processed events of earlier days). The rate is that of the effects: from the first new
payment to the last one, by the server's clock. The relay does not run: what it sends costs the same on every side.
"""

import argparse

from harness import KafkaBroker, PostgresCluster, Service, Session, exit_on_sigterm, wait_until
from shop_orders import TOPIC, fill_topic, records_counted
from support import Steal, cpu_seconds, last_line, quartiles, run_program, say, spread, uuid_v7

STORED = "consume_stored"
SQL = "SELECT shop.charge($1::jsonb, NULL)"
SIDES = ("runtime", "single", "bare")

STORE = (
    "insert into shop.account select 'customer-' || n, 1000000 from generate_series(1, {accounts}) n",
    "insert into shop.payment (order_id, customer_id, amount, currency, status, detail, method, completed_at)"
    " select 'old-' || n, 'customer-' || 1 + n % {accounts}, 10, 'EUR', 'approved', 'OK', 'account', now() - interval '1 day'"
    " from generate_series(1, {payments}) n",
    "vacuum (freeze, analyze)",
)
NEW = "from shop.payment where order_id like 'order-%'"


class Consume:
    def __init__(self, session, options):
        self.session = session
        self.options = options
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g").start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "shared_buffers": "1GB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
            "autovacuum": "off",
        }).start()

    def store(self):
        """The payment database as it is after some days."""
        options = self.options
        self.postgres.create_database(STORED, extension=False)
        self.postgres.psql_file(self.session.environment.root / "examples" / "shop" / "payment.sql", STORED)
        with self.postgres.connect(STORED) as connection:
            connection.execute("set synchronous_commit = off")
            for statement in STORE:
                connection.execute(statement.format(accounts=options.accounts, payments=options.payments))
            ids = [uuid_v7() for _ in range(options.payments)]
            for first in range(0, len(ids), 10000):
                connection.execute("select outbox.claim_many('payment-service', %s::uuid[])", (ids[first:first + 10000],))

    def run(self, side, number):
        """One side on a fresh copy; its figures."""
        name = f"consume_{side}_{number}"
        self.postgres.execute(f"create database {name} template {STORED} strategy file_copy")
        self.postgres.execute("checkpoint")
        steal = Steal()
        dsn = self.postgres.dsn(name, user="payment_service")
        found = self.run_bare(dsn) if side == "bare" else self.run_service(side, name, dsn)
        paid, seconds = self.postgres.execute(
            f"select count(*), extract(epoch from max(completed_at) - min(completed_at))::float {NEW}", dbname=name
        )[0]
        done = self.postgres.value("select count(*) from outbox.event", dbname=name)
        if side != "single" and (paid, done) != (self.options.events, self.options.events):
            raise RuntimeError(f"{side}: {paid} orders were paid with {done} answers instead of {self.options.events}")
        self.postgres.drop_database(name)
        found.update(per_s=paid / seconds, steal_percent=steal.percent())
        found["client_us"] = found.pop("cpu_s") / paid * 1e6
        found["server_us"] = found.pop("server_cpu_s") / paid * 1e6
        figures = " ".join(f"{key}={value:.2f}" for key, value in found.items())
        say(f"{'warm-up' if number == 0 else f'round {number}'} {side} {figures}")
        return found

    def run_service(self, side, name, dsn):
        single = side == "single"
        service = Service(self.session, "outbox-payment", {
            "database": dsn, "bootstrap_servers": self.kafka.bootstrap, "group_id": name, "log_level": "warning",
            **({"batch_max": 1} if single else {}),
        }, name=name).start()
        wanted = self.options.singles if single else self.options.events
        wait_until(lambda: records_counted(service) >= wanted, 900, f"{wanted} payments", interval=0.2)
        backend = self.postgres.value("select pid from pg_stat_activity where datname = %s and usename = 'payment_service'"
                                      " order by backend_start limit 1", (name,))
        found = {"cpu_s": cpu_seconds(service.pid), "server_cpu_s": cpu_seconds(backend)}
        service.stop()
        return found

    def run_bare(self, dsn):
        found = run_program("bare_consumer", dsn, SQL, TOPIC, self.options.events, self.options.batch,
                            f"bootstrap.servers={self.kafka.bootstrap}", "queued.max.messages.kbytes=16384")
        return {"cpu_s": float(found["cpu_s"]), "server_cpu_s": float(found["server_cpu_s"])}


def report(rounds):
    vs = {other: [r["runtime"]["per_s"] / r[other]["per_s"] for r in rounds] for other in ("single", "bare")}
    say(f"rounds={len(rounds)} (median and quartiles follow)")
    for side in SIDES:
        for key in ("per_s", "client_us", "server_us", "steal_percent"):
            say(f"{side:7} {key:13} {spread([r[side][key] for r in rounds], 0)}")
    for other, ratios in vs.items():
        say(f"vs_{other:6} {spread(ratios)}")
    last_line("consume", vs_single=quartiles(vs["single"])[1], vs_bare=quartiles(vs["bare"])[1],
              per_s=quartiles([r["runtime"]["per_s"] for r in rounds])[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=10_000, help="events of the side with one transaction each")
    parser.add_argument("--batch", type=int, default=500, help="records of a transaction of the bare program")
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--payments", type=int, default=500_000, help="orders paid before")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", default=",".join(SIDES), help="to look at some alone; no last line then")
    options = parser.parse_args()
    sides = tuple(options.sides.split(","))
    exit_on_sigterm()
    session = Session("bench-consume")
    try:
        consume = Consume(session, options)
        consume.store()
        fill_topic(consume.kafka, options.events, options.accounts)
        say(f"{options.events} orders in the topic, {options.payments} payments in the database")
        rounds = []
        for number in range(options.rounds + 1):
            order = sides if number % 2 == 0 else sides[::-1]
            rounds.append({side: consume.run(side, number) for side in order})
        if sides == SIDES:
            report(rounds[1:])
    finally:
        session.close()


if __name__ == "__main__":
    main()
