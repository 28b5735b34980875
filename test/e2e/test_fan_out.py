# SPDX-License-Identifier: PostgreSQL
"""Fan-out: the shop with consumers that are settings and SQL functions, each a group of its own."""

import contextlib
import itertools
import time

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from harness import wait_until
from harness.shop import Shop
from harness.timer import LateTimer

TOPICS = {
    "payment": ("orders.created", "orders.cancelled"), "inventory": ("orders.created", "orders.cancelled"),
    "order": ("payments.completed", "inventory.reserved"), "notification": ("orders.created", "orders.cancelled"),
    "warehouse": ("inventory.reserved", "orders.cancelled"), "analytics": ("orders.created", "orders.cancelled"),
    "loyalty": ("orders.created", "orders.cancelled"), "fraud": ("orders.created",),
}
# Orders a consumer has done with, of those named.
EFFECTS = {
    "payment": "shop.payment where status is not null and",
    "inventory": "shop.reservation where status is not null and",
    "notification": "notification.message where kind = 'confirmation' and",
    "warehouse": "warehouse.pick_list where status = 'open' and",
    "analytics": "analytics.order_fact where day is not null and",
    "loyalty": "loyalty.booking where",
    "fraud": "fraud.seen_order where",
}
FIVE = ("inventory", "payment", "notification", "warehouse", "analytics")
CUSTOMERS = 1000


def sizes(short, full):
    """Orders in make check, and in make check-long."""
    return [short, pytest.param(full, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]


class FanOut(Shop):
    """The shop with what these tests ask of it."""

    customers = itertools.count(1)

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.timed = []

    def value(self, part, statement, parameters=None):
        return self.postgres.value(statement, parameters, self.databases[part])

    def place(self, count, sku="book"):
        """Place so many orders in one transaction, of one customer after the other. Returns their ids."""
        first = next(self.customers)
        rows = self.postgres.execute("""
            select answer->>'orderId' from generate_series(1, %s) n, shop.place_order(gen_random_uuid()::text,
                jsonb_build_object('customerId', 'fan-' || (%s + n) %% %s,
                    'items', jsonb_build_array(jsonb_build_object('sku', %s::text, 'quantity', 1))), null)""",
            (count, first * 131, CUSTOMERS, sku), self.databases["order"])
        assert len(rows) == count
        return [row[0] for row in rows]

    def effects(self, part, orders):
        return self.value(part, f"select count(*) from {EFFECTS[part]} order_id = any(%s)", (orders,))

    def wait_effects(self, parts, orders, timeout=200):
        for part in parts:
            wait_until(lambda part=part: self.effects(part, orders) == len(orders), timeout,
                       f"{part} to have done {len(orders)} orders")

    def time_order(self, parts):
        """Place one order more, noted in self.timed; the seconds until each of the parts has done it."""
        began = time.monotonic()
        order = self.place(1)
        self.timed += order
        self.wait_effects(parts, order, 60)
        return time.monotonic() - began

    def wait_settled(self, timeout=200):
        """Wait until every order is final and every consumer has read its topics: nothing is under way."""
        wait_until(lambda: self.value("order", "select count(*) = 0 from shop.orders where status = 'PENDING'"),
                   timeout, "every order to be final")
        wait_until(lambda: all(self.value(part, "select coalesce(bool_and(oldest_unsent_age is null), true)"
                                                " from outbox.relay_status") for part in self.databases),
                   timeout, "every event to be delivered")
        wait_until(lambda: not any(self.lag(part) for part in self.services), timeout, "lag 0 in every group", interval=0.2)

    def lag(self, part):
        """Offsets between what the group has committed and the ends of its topics."""
        committed = self.kafka.group_offsets(f"{part}-service")
        consumer = self.kafka.consumer()
        try:
            ends = {(topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
                    for topic in TOPICS[part] for number in range(6)}
        finally:
            consumer.close()
        return sum(end - max(0, committed.get(place, (0,))[0]) for place, end in ends.items())

    def counted(self, part, result):
        """Records by result since the service started, of all topics."""
        return sum(value for name, value in self.services[part].metrics().items()
                   if name.startswith("outbox_consumer_records_total") and f'result="{result}"' in name)

    def memberships(self, parts):
        """{part: (process, {member: its partitions})} as the brokers have it."""
        asked = self.kafka.admin.describe_consumer_groups([f"{part}-service" for part in parts])
        return {group.removesuffix("-service"): (self.services[group.removesuffix("-service")].pid, {
            member.member_id: sorted((p.topic, p.partition) for p in member.assignment.topic_partitions)
            for member in answer.result(30).members}) for group, answer in asked.items()}

    def dead_letters(self):
        return {part: number for part in self.databases
                if (number := self.value(part, "select count(*) from outbox.dead_letter"))}


@pytest.fixture(scope="module")
def shop(session, _kafka, _postgres):
    """The running shop and three consumers beside it; its topics and groups have fixed names."""
    for server in (_kafka, _postgres):
        if not server.running:
            server.start()
        server.wait_ready()
    names = [name for topic in {*itertools.chain(*TOPICS.values()), "orders.flagged"} for name in (topic, f"{topic}.DLT")]
    _kafka.delete_topics(names)
    _kafka.create_topics(names, 6)
    shop = FanOut(session, _postgres, _kafka, prefix="fan_out_")
    shop.create_databases().make_services()
    shop.postgres.execute("insert into shop.account (customer_id, balance) select 'fan-' || n, 1000000"
                          " from generate_series(0, %s) n", (CUSTOMERS,), shop.databases["payment"])
    for part in ("notification", "warehouse", "analytics"):
        shop.add_consumer(part)
    for service in shop.services.values():
        service.start(wait=False)
    for service in shop.services.values():
        service.wait_ready(120)
    yield shop
    shop.stop()
    for part in shop.databases:
        shop.postgres.execute("select outbox.stop_relay()", dbname=shop.databases[part])
    _kafka.delete_topics(names)


@pytest.mark.parametrize("part, count", [
    ("analytics", 500), *(pytest.param(part, 10000, marks=[pytest.mark.long, pytest.mark.timeout(1800)]) for part in FIVE)])
def test_fan_out(shop, part, count):
    """Row 003.1: five groups have every order; one whose database is away holds up no other, and has them all later."""
    database, role = shop.databases[part], f"{part}_service"
    others = [other for other in FIVE if other != part and (part, other) != ("inventory", "warehouse")]
    shop.postgres.execute(f"alter role {role} connection limit 0")
    shop.postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", (role,))
    orders = shop.place(count)
    shop.wait_effects(others, orders)
    assert shop.effects(part, orders) == 0, f"{part} has no connection to {database}"
    assert shop.services[part].request("GET", "/readyz")[0] == 503
    shop.postgres.execute(f"alter role {role} connection limit -1")
    shop.wait_effects(FIVE, orders)
    assert shop.dead_letters() == {}


# The function that each of the five calls for an order: its arguments, and what it returns an outcome of.
FUNCTIONS = {
    "inventory": "shop.reserve(event jsonb)", "payment": "shop.charge(event jsonb, gateway text)",
    **{part: f"{part}.on_event(event outbox.consumed_event)" for part in ("notification", "warehouse", "analytics")},
}


@contextlib.contextmanager
def failing_function(shop, part):
    """The part's function raises what halts its partitions, until the end of the block."""
    name = FUNCTIONS[part].split("(")[0]
    body = shop.value(part, "select prosrc from pg_proc where oid = %s::regproc", (name,))
    replace = f"create or replace function {FUNCTIONS[part]} returns text language plpgsql as"
    broken = "begin raise exception using errcode = 'undefined_table', message = 'seeded'; end"
    shop.postgres.execute(f"{replace} $f$ {broken} $f$", dbname=shop.databases[part])
    try:
        yield
    finally:
        shop.postgres.execute(f"{replace} $f$ {body} $f$", dbname=shop.databases[part])


@pytest.mark.parametrize("count", sizes(50, 2000))
def test_failing_function(shop, count):
    """Row 003.1: one function of five raises, each in turn: the others are about as fast as ever, and it has all orders when it is mended."""
    began = time.monotonic()
    shop.wait_effects(FIVE, shop.place(count))
    usual = time.monotonic() - began
    for part in FIVE:
        with failing_function(shop, part):
            orders = shop.place(count)
            others = [other for other in FIVE if other != part and (part, other) != ("inventory", "warehouse")]
            shop.wait_effects(others, orders, 3 * usual + 10)
            wait_until(lambda part=part: shop.services[part].request("GET", "/readyz")[0] == 503, 30, f"{part} to say so")
            assert shop.effects(part, orders) == 0
        shop.wait_effects(FIVE, orders)
    assert shop.dead_letters() == {}


def test_cancelled_orders(shop):
    """Consumers without C: a cancelled order is told, withdrawn, and without revenue."""
    rejected = shop.place(20, "unicorn")
    shop.place(1)  # that there is revenue
    shop.wait_settled()
    cancelled = {
        "notification": "notification.message where kind = 'cancellation' and body like '%%out of stock%%' and",
        "warehouse": "warehouse.pick_list where status = 'withdrawn' and",
        "analytics": "analytics.order_fact where cancelled and day is not null and",
    }
    for part, rows in cancelled.items():
        assert shop.value(part, f"select count(*) from {rows} order_id = any(%s)", (rejected,)) == 20, part
    confirmed = shop.value("order", "select sum(amount) from shop.orders where status = 'CONFIRMED'")
    assert shop.value("analytics", "select sum(revenue) from analytics.revenue") == confirmed
    items = "select sum((i->>'quantity')::integer) from shop.orders, jsonb_array_elements(items) i where status = 'CONFIRMED'"
    assert shop.value("warehouse", "select sum(quantity) from warehouse.to_pick") == shop.value("order", items)
    assert shop.value("analytics", "select sum(units) from analytics.units") == shop.value("order", items)


@pytest.mark.parametrize("part, count", [
    ("notification", 300), pytest.param("notification", 10000, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    pytest.param("analytics", 11250, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_service_down(shop, part, count):
    """Rows 001.2, 004.13: off, orders go on; on, it drains what waits, each order once, and nobody notices."""
    others = [other for other in FIVE if other != part]
    usual = max(shop.time_order(others) for _ in range(5))
    assert shop.services[part].stop() == 0
    orders = shop.place(count)
    shop.wait_effects(others, orders)
    assert shop.effects(part, orders) == 0
    began = time.monotonic()
    shop.services[part].start(wait=False)
    with LateTimer() as timer:
        times = []
        while (left := count - shop.effects(part, orders)) > 0 or not times:
            times.append(shop.time_order(others))
            assert time.monotonic() - began < 180, f"{left} of {count} orders are left"
    drained = time.monotonic() - began
    shop.wait_effects([part], shop.timed)
    print(f"{part}: {count} orders drained in {drained:.1f} s; {len(times)} orders meanwhile, the slowest in {max(times):.1f} s,"
          f" before {usual:.1f} s, late {timer.late:.1f} s")
    assert max(times) < 3 * usual + 1 + timer.late, "the others are not disturbed"
    counted = shop.counted(part, "ok"), shop.counted(part, "duplicate")
    assert counted == (count + len(times), 0), "each event once"
    outcomes = [name for name in shop.services[part].metrics() if 'outcome="repeated"' in name]
    assert outcomes == [] and shop.dead_letters() == {}


def test_new_consumers(shop):
    """Row 003.5: loyalty and fraud come by configuration alone: no process ends, no group's membership changes."""
    before = shop.memberships(TOPICS.keys() - {"loyalty", "fraud"})
    assert all(members for _, members in before.values())
    early = shop.place(50)
    shop.wait_effects(FIVE, early)
    for part in ("loyalty", "fraud"):
        shop.add_consumer(part).start(wait=False)
    late = shop.place(50)
    every = [row[0] for row in shop.postgres.execute("select order_id from shop.orders", dbname=shop.databases["order"])]
    assert set(early + late) <= set(every)
    shop.wait_effects(("loyalty", "fraud"), every)
    shop.wait_settled()
    assert shop.memberships(before) == before
    assert all(service.running for service in shop.services.values())
    points = shop.value("order", "select sum(floor(amount)) from shop.orders where status = 'CONFIRMED'")
    assert shop.value("loyalty", "select sum(points) from loyalty.account") == points
    # What fraud emits is in Kafka, once for each order it has flagged.
    for _ in range(6):
        shop.postgres.execute("select shop.place_order(gen_random_uuid()::text, '{\"customerId\": \"hasty\", \"items\":"
                              " [{\"sku\": \"pen\", \"quantity\": 1}]}', null)", dbname=shop.databases["order"])
    shop.postgres.wait_for("select count(*) = 6 from fraud.seen_order where customer_id = 'hasty'", 60, shop.databases["fraud"])
    flags = shop.postgres.execute("select order_id from fraud.flag", dbname=shop.databases["fraud"])
    flagged = shop.kafka.wait_for_records("orders.flagged", len(flags))
    assert sorted(r.key().decode() for r in flagged) == sorted(row[0] for row in flags)
    assert shop.value("fraud", "select count(*) from fraud.flag f join fraud.seen_order using (order_id)"
                               " where customer_id = 'hasty' and 'MANY_ORDERS' = any(f.rules)") == 1


def digest(shop, part):
    """The contents of a database's business tables, and how many events it has emitted."""
    tables = shop.postgres.execute("select c.oid::regclass::text from pg_class c where c.relkind = 'r' and c.relnamespace ="
                                   " any(select oid from pg_namespace where nspname in ('shop', %s)) order by 1",
                                   (part,), shop.databases[part])
    assert tables
    contents = [(name, shop.value(part, f"select md5(string_agg(t::text, ',' order by t::text)) from {name} t"))
                for name, in tables]
    return contents + [("events", shop.value(part, "select count(*) from outbox.event"))]


def test_duplicates(shop):
    """Row 003.2: every service, its group set back to the beginning: all records are duplicates, nothing changes."""
    for part in sorted(TOPICS.keys() - shop.services.keys()):
        shop.add_consumer(part).start(timeout=120)
    shop.place(20)
    shop.place(5, "unicorn")
    shop.wait_settled()
    records = {topic: len(shop.kafka.read_all(topic)) for topic in {*itertools.chain(*TOPICS.values())}}
    assert all(records.values()), records
    before = {part: digest(shop, part) for part in TOPICS}
    for part, topics in TOPICS.items():
        assert shop.services[part].stop() == 0
        start = [TopicPartition(topic, number, 0) for topic in topics for number in range(6)]
        group = f"{part}-service"
        shop.kafka.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, start)])[group].result(30)
    for part in TOPICS:
        shop.services[part].start(wait=False)
    for part, topics in TOPICS.items():
        goal = sum(records[topic] for topic in topics)
        shop.services[part].wait_ready(120)
        wait_until(lambda part=part, goal=goal: shop.counted(part, "duplicate") == goal, 60, f"{goal} duplicates in {part}")
        assert shop.counted(part, "ok") == 0
    assert {part: digest(shop, part) for part in TOPICS} == before
    assert shop.dead_letters() == {}


def test_rebuild(shop):
    """Analytics: an emptied read model is built again by a replay for re-processing; nobody else runs anything."""
    shop.place(20)
    shop.place(5, "unicorn")
    shop.wait_settled()
    before = {part: digest(shop, part) for part in shop.databases}
    shop.postgres.execute("truncate analytics.order_fact", dbname=shop.databases["analytics"])
    replayed = 0
    for topic in ("orders.created", "orders.cancelled"):
        replayed += shop.value("order", """
            select events from outbox.replay(now() - interval '1 day', now(), topic => %s, consumer => 'analytics-service',
                reprocess => true, reason => 'rebuild')""", (topic,))
    wait_until(lambda: shop.counted("notification", "foreign_replay") >= replayed, 60, "notification to step over the replays")
    wait_until(lambda: digest(shop, "analytics") == before["analytics"], 60, "the read model to be as it was")
    assert {part: digest(shop, part) for part in before.keys() - {"order"}} == {
        part: contents for part, contents in before.items() if part != "order"}
