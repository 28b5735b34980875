# SPDX-License-Identifier: PostgreSQL
"""poison: row 001.6: 100 orders nobody can process among 10,000, a handler of 1 ms, one thread.

outbox-payment works off the same topic twice a round: with a handler that takes every order (clean), and with one
that raises for each hundredth (poison), retried with the default settings. Times are by the server's clock, from the
first payment. last_good_ratio is the time of the last good order over that of the clean run; dead_letters_s how long
after a clean run's end the last poison order has become a dead letter. Above 1.2 or 5 the exit status is 1.
"""

import argparse
import sys

from harness import KafkaBroker, PostgresCluster, Service, Session, exit_on_sigterm, wait_until
from shop_orders import fill_topic, records_counted
from support import Steal, last_line, quartiles, say, spread

EVERY = 100
MOST_RATIO = 1.2
MOST_LATE_S = 5.0

HANDLER = """
alter function shop.charge(jsonb, text) rename to charge_order;
create function shop.charge(event jsonb, gateway text) returns text language plpgsql as $$
begin
	perform pg_sleep(0.0005);	-- waits in whole milliseconds: 1.1 ms, where 0.001 takes 2.2
	if {poison} and (event->>'poison')::boolean then
		raise exception 'nobody can charge order %', event->>'orderId';
	end if;
	return shop.charge_order(event, gateway);
end $$;
insert into shop.account select 'customer-' || n, 1000000 from generate_series(1, {accounts}) n;
"""

FIGURES = """
select count(*), extract(epoch from max(completed_at) - min(completed_at))::float,
	(select count(*) from outbox.dead_letter where state = 'open'),
	(select extract(epoch from max(d.last_failed_at) - min(p.completed_at))::float from outbox.dead_letter d),
	(select count(*) from outbox.event where topic = 'orders.created.DLT')
from shop.payment p
"""


class Poison:
    def __init__(self, session, options):
        self.session = session
        self.options = options
        self.kafka = KafkaBroker(session, fast_start=False, heap="1g").start()
        self.postgres = PostgresCluster(session, conf={
            "outbox.kafka_properties": f"bootstrap.servers={self.kafka.bootstrap}",
            "shared_buffers": "512MB",
            "max_wal_size": "16GB",
            "checkpoint_timeout": "1h",
        }).start()
        fill_topic(self.kafka, options.events, options.accounts,
                   lambda number: {"poison": number % EVERY == number // EVERY % EVERY})

    def run(self, side, number):
        """One run in a fresh database; seconds until the last good order, and until the last dead letter."""
        name = f"{side}_{number}"
        postgres, options = self.postgres, self.options
        postgres.create_database(name, extension=False)
        postgres.psql_file(self.session.environment.root / "examples" / "shop" / "payment.sql", name)
        postgres.psql(HANDLER.format(poison=str(side == "poison").lower(), accounts=options.accounts), name)
        bad = options.events // EVERY if side == "poison" else 0
        steal = Steal()
        service = Service(self.session, "outbox-payment", {
            "database": postgres.dsn(name, user="payment_service"), "bootstrap_servers": self.kafka.bootstrap,
            "group_id": name, "log_level": "error",
        }, name=name).start()
        wait_until(lambda: records_counted(service) >= options.events, 600, "the last order", interval=0.2)
        postgres.wait_for(f"select count(*) = {bad} from outbox.dead_letter where state = 'open'", 300, name)
        service.stop()
        good, last_good, letters, last_letter, published = postgres.execute(FIGURES, dbname=name)[0]
        if (good, letters, published) != (options.events - bad, bad, bad):
            raise RuntimeError(f"{side}: {good} done, {letters} dead letters, {published} published")
        postgres.drop_database(name)
        say(f"round {number} {side} last_good_s={last_good:.2f} last_letter_s={last_letter or 0:.2f}"
            f" steal_percent={steal.percent():.1f}")
        return last_good, last_letter


def report(rounds):
    ratios = [r["poison"][0] / r["clean"][0] for r in rounds]
    late = [r["poison"][1] - r["clean"][0] for r in rounds]
    say(f"rounds={len(rounds)} clean_s={spread([r['clean'][0] for r in rounds])} (median and quartiles)")
    say(f"last_good_ratio {spread(ratios)}")
    say(f"dead_letters_s  {spread(late)}")
    ratio, seconds = quartiles(ratios)[1], quartiles(late)[1]
    last_line("poison", last_good_ratio=ratio, dead_letters_s=seconds)
    return ratio <= MOST_RATIO and seconds <= MOST_LATE_S


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--accounts", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    exit_on_sigterm()
    session = Session("bench-poison")
    try:
        poison = Poison(session, options)
        rounds = []
        for number in range(1, options.rounds + 1):
            order = ("clean", "poison") if number % 2 == 0 else ("poison", "clean")
            rounds.append({side: poison.run(side, number) for side in order})
        good = report(rounds)
    finally:
        session.close()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
