# SPDX-License-Identifier: PostgreSQL
"""The demo: orders over HTTP through PostgreSQL, Kafka and the three services, and what became of them."""

import argparse
import concurrent.futures
import itertools
import json
import sys
import time
import uuid

from harness import Session, exit_on_sigterm, wait_until
from harness.shop import CONSUMERS, describe, start_system

# What each kind of order asks for, and the outcome it must have. Without a customerId it is one customer after the other.
KINDS = {
    "good": ({"items": [{"sku": "book", "quantity": 1}]}, "CONFIRMED"),
    "too expensive": ({"customerId": "bob", "items": [{"sku": "car", "quantity": 1}]}, "CANCELLED"),
    "out of stock": ({"items": [{"sku": "unicorn", "quantity": 1}]}, "CANCELLED"),
}
# What the consumers without C say of the orders.
SAID = {
    "notification": "select count(*) || ' mails' from notification.message",
    "warehouse": "select count(*) filter (where status = 'open') || ' orders to pick' from warehouse.pick_list",
    "analytics": "select sum(revenue) || ' EUR revenue' from analytics.revenue",
    "loyalty": "select sum(points) || ' points' from loyalty.account",
    "fraud": "select count(*) || ' orders flagged' from fraud.flag",
}
RATE = 100.0
CUSTOMERS = 1000
MIX = ("good", "good", "good", "too expensive", "out of stock")


def add_customers(shop):
    """Customers c-0, c-1, ... with money enough for what they order."""
    shop.postgres.execute("insert into shop.account (customer_id, balance) select 'c-' || n, 100000"
                          " from generate_series(0, %s) n", (CUSTOMERS - 1,), shop.databases["payment"])


def place(service, kind, number):
    """POST one order. Returns (order id, kind)."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"customerId": f"c-{number % CUSTOMERS}", **KINDS[kind][0]}
    status, body = service.request("POST", "/orders", body, headers)
    if status not in (200, 201, 202):
        raise RuntimeError(f"POST /orders answered {status}: {body}")
    return json.loads(body)["orderId"], kind


def place_all(service, count):
    """Place count orders, at most eight at a time and RATE a second. Returns {order id: kind}."""
    kinds = itertools.islice(itertools.cycle(MIX), count)
    began, placing = time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, kind in enumerate(kinds):
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            placing.append(pool.submit(place, service, kind, number))
    return dict(done.result() for done in placing)


def all_relayed(shop):
    """True when every event of every database is delivered."""
    query = "select oldest_unsent_age is null from outbox.relay_status"
    return all(shop.postgres.value(query, dbname=name) for name in shop.databases.values())


def final_orders(shop):
    """{order id: (status, seconds from placed to final)} of all orders that are final."""
    rows = shop.postgres.execute(
        "select order_id::text, status, extract(epoch from settled_at - placed_at)::float8"
        " from shop.orders where status in ('CONFIRMED', 'CANCELLED')",
        dbname=shop.databases["order"],
    )
    return {order: (status, seconds) for order, status, seconds in rows}


def percentile(ordered, share):
    """The value below which share of a sorted list lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_outcome(placed, final):
    """Print the table and the latencies. Returns how many orders ended wrongly."""
    wrong = 0
    print(f"\n  {'order':<16}{'placed':>8}{'CONFIRMED':>12}{'CANCELLED':>12}")
    for kind, (_, expected) in KINDS.items():
        orders = [order for order, of in placed.items() if of == kind]
        ends = [final[order][0] for order in orders]
        wrong += sum(end != expected for end in ends)
        print(f"  {kind:<16}{len(orders):>8}{ends.count('CONFIRMED'):>12}{ends.count('CANCELLED'):>12}")
    times = sorted(final[order][1] * 1000 for order in placed)
    shares = ", ".join(f"p{int(s * 100)} {percentile(times, s):.0f} ms" for s in (0.5, 0.9, 0.99))
    print(f"\n  placed to final: {shares}, longest {times[-1]:.0f} ms")
    return wrong


def print_relays(shop):
    """Print outbox.relay_status of every database."""
    print("\n  outbox.relay_status:")
    print(f"  {'database':<18}{'state':<14}{'batch':>7}{'events sent':>13}{'delivery':>16}  last error")
    for name in shop.databases.values():
        row = shop.postgres.execute(
            "select state, batch_no, events_sent, delivery, coalesce(last_error, 'none') from outbox.relay_status",
            dbname=name,
        )[0]
        print(f"  {name:<18}{row[0]:<14}{row[1]:>7}{row[2]:>13}{row[3]:>16}  {row[4]}")


def all_read(shop):
    """True when every consumer without C has committed the ends of its topics, which begin at 0."""
    ends = {(r.topic(), r.partition()): r.offset() for r in shop.kafka.read_all("orders.created", "orders.cancelled",
                                                                                "inventory.reserved")}
    for part in CONSUMERS:
        committed = shop.kafka.group_offsets(f"{part}-service")
        topics = {entry.split(":")[0].strip() for entry in shop.services[part].config["topics"].split(",")}
        if any(committed.get(place, (0,))[0] <= end for place, end in ends.items() if place[0] in topics):
            return False
    return True


def add_consumers(shop):
    """Start the consumers without C, which read all from the beginning, and print what they say."""
    began = time.monotonic()
    for part in CONSUMERS:
        shop.add_consumer(part).start(wait=False)
    wait_until(lambda: all_read(shop), 120, "the added consumers to have read everything", interval=0.3)
    print(f"\n  added {len(CONSUMERS)} consumers without C, each an SQL function; they have read all in"
          f" {time.monotonic() - began:.1f} s:")
    for part, statement in SAID.items():
        print(f"  {part:<16}{shop.postgres.value(statement, dbname=shop.databases[part])}")


def run(shop, count):
    add_customers(shop)
    began = time.monotonic()
    placed = place_all(shop.services["order"], count)
    print(f"outbox: placed {len(placed)} orders in {time.monotonic() - began:.1f} s")
    wait_until(lambda: placed.keys() <= final_orders(shop).keys(), 120, "every order to be final")
    wait_until(lambda: all_relayed(shop), 30, "every event to be delivered")
    wrong = print_outcome(placed, final_orders(shop))
    add_consumers(shop)
    print_relays(shop)
    print("\n  The same system, kept running to look at: make up")
    print("  The services: docs/consumers.md; the shop's tables: examples/shop; settings: docs/settings.md")
    if wrong:
        print(f"\noutbox: {wrong} orders ended otherwise than they should")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=300)
    count = parser.parse_args().orders
    exit_on_sigterm()
    session = Session("demo")
    try:
        print("outbox: starting PostgreSQL, Kafka and the services", flush=True)
        shop = start_system(session)
        print(describe(shop), flush=True)
        return run(shop, count)
    finally:
        session.close()


if __name__ == "__main__":
    sys.exit(main())
