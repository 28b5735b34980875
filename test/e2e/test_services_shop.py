# SPDX-License-Identifier: PostgreSQL
"""The shop as it is meant to run: three databases, three relays, three services, one broker."""

import concurrent.futures
import http.client
import json
import re
import statistics
import time
import uuid

import pytest
from confluent_kafka import TopicPartition
from harness import KafkaBroker, PostgresCluster, wait_until
from harness.shop import PARTS, Shop

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def shop(session):
    """The running shop on a server and a broker of its own: topics and groups have fixed names."""
    broker = KafkaBroker(session, "kafka-shop")
    broker.start()
    conf = {"outbox.kafka_properties": f"bootstrap.servers={broker.bootstrap}"}
    postgres = PostgresCluster(session, "postgres-shop", conf).start()
    # The relays make the topics; the services are to see them soon.
    config = {"kafka_properties": "topic.metadata.refresh.interval.ms=500"}
    shop = Shop(session, postgres, broker, config=dict.fromkeys(PARTS, config)).start()
    yield shop
    shop.stop()
    postgres.stop()
    broker.stop()


def place(shop, body=None, key=None, **headers):
    """POST /orders; returns (status, answer)."""
    body = body or {"customerId": "ada", "items": [{"sku": "book", "quantity": 2}]}
    headers = {"Idempotency-Key": key or str(uuid.uuid4()), **headers}
    status, text = shop.services["order"].request("POST", "/orders", body, headers)
    return status, json.loads(text)


def placed(shop, customer="ada", sku="book", quantity=1):
    status, answer = place(shop, {"customerId": customer, "items": [{"sku": sku, "quantity": quantity}]})
    assert status == 201, answer
    return answer["orderId"]


def order(shop, order_id):
    status, text = shop.services["order"].request("GET", f"/orders/{order_id}")
    assert status == 200, text
    return json.loads(text)


def wait_final(shop, order_id, status, timeout=30):
    wait_until(lambda: order(shop, order_id)["status"] == status, timeout, f"{order_id} to be {status}")
    return order(shop, order_id)


def value(shop, part, statement, parameters=None):
    return shop.postgres.value(statement, parameters, shop.databases[part])


def records(shop, topic, order_id):
    return [r for r in shop.kafka.read_all(topic) if r.key() == order_id.encode()]


def consumed(shop):
    """Wait until every group has committed all of its topics: nothing is under way."""
    groups = {"payment-service": ("orders.created", "orders.cancelled"),
              "inventory-service": ("orders.created", "orders.cancelled"),
              "order-service": ("payments.completed", "inventory.reserved")}

    def lag_is_zero():
        for group, topics in groups.items():
            offsets = shop.kafka.group_offsets(group)
            consumer = shop.kafka.consumer()
            try:
                for topic in topics:
                    for partition in range(6):
                        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
                        if high > low and offsets.get((topic, partition), (-1,))[0] != high:
                            return False
            finally:
                consumer.close()
        return True
    wait_until(lag_is_zero, 30, "lag 0 in every group", interval=0.2)


def test_contracts(shop):
    """Rows 002.2, 002.4: golden bytes of every event, key = orderId, six partitions, CloudEvents headers."""
    good = placed(shop, quantity=2)
    bad = placed(shop, "ada", "unicorn")
    wait_final(shop, good, "CONFIRMED")
    wait_final(shop, bad, "CANCELLED")
    golden = [
        ("orders.created", good, "OrderCreated",
         rf'{{"items": \[{{"sku": "book", "quantity": 2}}\], "amount": 40\.00, "orderId": "{good}", '
         rf'"currency": "EUR", "createdAt": "{TIME}", "customerId": "ada"}}'),
        ("payments.completed", good, "PaymentCompleted",
         rf'{{"amount": 40\.00, "detail": "OK", "reason": "OK", "status": "approved", "orderId": "{good}", '
         rf'"currency": "EUR", "paymentId": "{UUID}", "completedAt": "{TIME}"}}'),
        ("inventory.reserved", good, "InventoryReserved",
         rf'{{"items": \[{{"sku": "book", "quantity": 2}}\], "reason": "OK", "status": "reserved", '
         rf'"orderId": "{good}", "reservedAt": "{TIME}", "reservationId": "{UUID}"}}'),
        ("inventory.reserved", bad, "InventoryReserved",
         rf'{{"items": \[{{"sku": "unicorn", "quantity": 1}}\], "reason": "OUT_OF_STOCK", "status": "rejected", '
         rf'"orderId": "{bad}", "reservedAt": "{TIME}", "reservationId": "{UUID}"}}'),
        ("orders.cancelled", bad, "OrderCancelled",
         rf'{{"reason": "INVENTORY_REJECTED", "orderId": "{bad}", "customerId": "ada", "cancelledAt": "{TIME}"}}'),
    ]
    for topic, order_id, kind, pattern in golden:
        found = records(shop, topic, order_id)
        assert len(found) == 1, (topic, found)
        assert re.fullmatch(pattern, found[0].value().decode()), found[0].value()
        headers = dict(found[0].headers())
        assert headers["ce_type"] == kind.encode()
        assert headers["content-type"] == b"application/json"
        assert headers["correlationid"] == order_id.encode()
        uuid.UUID(headers["ce_id"].decode())
        assert shop.kafka.describe_topic(topic)["partitions"] == 6


def test_outcomes(shop):
    """Row 002.5: the four outcomes end to end; declined releases stock, rejected refunds."""
    orders = {placed(shop, "ada", "book"): "CONFIRMED", placed(shop, "bob", "car"): "CANCELLED",
              placed(shop, "ada", "unicorn"): "CANCELLED", placed(shop, "bob", "unicorn", 5): "CANCELLED"}
    for order_id, status in orders.items():
        wait_final(shop, order_id, status)
    confirmed, poor, empty, both = orders
    assert order(shop, poor)["cancelReason"] == "PAYMENT_DECLINED"
    assert order(shop, empty)["cancelReason"] == "INVENTORY_REJECTED"
    undone = [("payment", "payment", "refunded_at", empty), ("inventory", "reservation", "released_at", poor)]
    for part, table, column, order_id in undone:
        wait_until(lambda p=part, t=table, c=column, o=order_id: value(
            shop, p, f"select {c} is not null from shop.{t} where order_id = %s", (o,)), 30, f"{column} of {order_id}")
    assert value(shop, "payment", "select 100000000 - balance = (select sum(amount) from shop.payment where status ="
                 " 'approved' and refunded_at is null) from shop.account where customer_id = 'ada'")
    assert value(shop, "inventory", "select reserved = 0 and available = 1000 from shop.stock where sku = 'car'")
    for order_id in (poor, empty, both):
        assert len(records(shop, "orders.cancelled", order_id)) == 1
    assert records(shop, "orders.cancelled", confirmed) == []


@pytest.mark.parametrize("paid", (True, False), ids=("approved", "declined"))
@pytest.mark.parametrize("reserved", (True, False), ids=("reserved", "rejected"))
@pytest.mark.parametrize("payment_first", (True, False), ids=("payment-first", "inventory-first"))
def test_settling(shop, paid, reserved, payment_first):
    """Row 002.5: outcome by both arrival orders, each answer three times, two of them with an event id of their own."""
    order_id = f"ord-settle-{uuid.uuid4().hex}"
    shop.postgres.execute(
        "insert into shop.orders (order_id, customer_id, amount, currency, items, correlation_id, placed_at)"
        " values (%s, 'ada', 20, 'EUR', '[]', 'test', clock_timestamp())", (order_id,), shop.databases["order"])
    answers = [
        ("payments.completed", "PaymentCompleted", {"status": "approved" if paid else "declined"}, "payment_status"),
        ("inventory.reserved", "InventoryReserved", {"status": "reserved" if reserved else "rejected"},
         "inventory_status"),
    ]
    producer = shop.kafka.producer()
    for topic, kind, answer, column in answers if payment_first else reversed(answers):
        first = str(uuid.uuid4())
        for event_id in (first, first, str(uuid.uuid4())):
            producer.produce(topic, json.dumps({"orderId": order_id, "reason": "test", **answer}), order_id,
                             headers=[("ce_id", event_id), ("ce_type", kind)])
        assert producer.flush(20) == 0
        wait_until(lambda c=column: value(
            shop, "order", f"select {c} is not null from shop.orders where order_id = %s", (order_id,)),
            20, f"{column} of {order_id}")
    status = wait_final(shop, order_id, "CONFIRMED" if paid and reserved else "CANCELLED")
    expected = None if paid and reserved else "PAYMENT_DECLINED" if not paid and (payment_first or reserved) \
        else "INVENTORY_REJECTED"
    assert status["cancelReason"] == expected
    assert value(shop, "order", "select count(*) from outbox.event where topic = 'orders.cancelled'"
                 " and convert_from(key, 'UTF8') = %s", (order_id,)) == (0 if paid and reserved else 1)


def test_place_is_idempotent(shop):
    """Row 002.11: same key and body, same answer; other body 422; no key 400; order and event in one transaction."""
    key = str(uuid.uuid4())
    status, first = place(shop, key=key)
    assert status == 201 and first["status"] == "PENDING"
    assert place(shop, key=key) == (201, first)
    body = {"customerId": "ada", "items": [{"sku": "book", "quantity": 3}]}
    assert place(shop, body, key=key)[0] == 422
    assert shop.services["order"].request("POST", "/orders", body)[0] == 400
    # The request's row is never updated: it was committed with the order and the event.
    assert value(shop, "order", "select pg_xact_commit_timestamp(r.xmin) = pg_xact_commit_timestamp(e.txid::text::xid)"
                 " from shop.request r join outbox.event e on convert_from(e.key, 'UTF8') = r.order_id"
                 " and e.topic = 'orders.created' where r.idempotency_key = '" + key + "'")
    with shop.postgres.connect(shop.databases["order"], autocommit=False) as connection:
        undone = connection.execute("select answer->>'orderId' from shop.place_order(%s, %s, null)",
                                    (str(uuid.uuid4()), json.dumps(body))).fetchone()[0]
        connection.rollback()
    assert value(shop, "order", "select count(*) from shop.orders where order_id = %s", (undone,)) == 0
    assert value(shop, "order", "select count(*) from outbox.event where convert_from(key, 'UTF8') = %s",
                 (undone,)) == 0


def test_place_in_progress(shop):
    """Row 002.11: 409 while the key's first request is under way, 201 after it."""
    key = str(uuid.uuid4())
    with shop.postgres.connect(shop.databases["order"], autocommit=False) as connection:
        connection.execute("select shop.place_order(%s, '{\"customerId\": \"ada\", \"items\": [{\"sku\": \"book\", \"quantity\": 1}]}', null)",
                           (key,))
        assert place(shop, key=key)[0] == 409
        connection.rollback()
    assert place(shop, key=key)[0] == 201


@pytest.mark.parametrize("level", ("repeatable read", "serializable"))
def test_place_races(shop, level):
    """In a database of another isolation level, too, a race for a key is 409 or the one answer, and one order."""
    database, body = shop.databases["order"], {"customerId": "ada", "items": [{"sku": "book", "quantity": 1}]}
    call = "select verdict from shop.place_order(%s, %s, null)"
    key = str(uuid.uuid4())
    with shop.postgres.connect(database, autocommit=False) as late:
        late.execute(f"set transaction isolation level {level}")
        late.execute("select from shop.request")
        assert place(shop, body, key)[0] == 201
        assert late.execute(call, (key, json.dumps(body))).fetchone() == ("in_progress",)
    shop.postgres.execute(f"alter database {database} set default_transaction_isolation = '{level}'")
    try:
        end_sessions(shop)
        keys = [str(uuid.uuid4()) for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: place(shop, body, keys[number // 8]), range(64)))
    finally:
        shop.postgres.execute(f"alter database {database} reset default_transaction_isolation")
        end_sessions(shop)
    assert {status for status, _ in answers} <= {201, 409}
    orders = {answer["orderId"] for status, answer in answers if status == 201}
    noted = "select array_agg(order_id) from shop.request where idempotency_key = any(%s)"
    assert len(orders) == 8 and set(value(shop, "order", noted, (keys,))) == orders


def end_sessions(shop):
    """End every session of the order service and wait until none of them is left."""
    ended = "select count(pg_terminate_backend(pid)) = 0 from pg_stat_activity where usename = 'order_service' and backend_start < %s"
    now = value(shop, "order", "select clock_timestamp()")
    wait_until(lambda: value(shop, "order", ended, (now,)), 30, "the end of the sessions", interval=0.1)


def place_by_all(shop, requests=24):
    """Orders over so many connections at once that every HTTP thread has some; returns their statuses."""
    with concurrent.futures.ThreadPoolExecutor(requests) as pool:
        return {status for status, _ in pool.map(lambda _: place(shop), range(requests))}


def test_sessions_that_have_ended(shop):
    """The first requests after the server has ended all sessions, as a restart does, are served."""
    assert place_by_all(shop) == {201}
    end_sessions(shop)
    assert place_by_all(shop) == {201}


def test_session_ends_in_a_request(shop):
    """A request whose session, kept from an earlier one, ends under it is carried out once, by another."""
    database = shop.databases["order"]
    assert place_by_all(shop) == {201}
    count = value(shop, "order", "select count(*) from shop.orders")
    shop.postgres.execute("""create sequence shop.struck; grant usage on sequence shop.struck to order_service;
        create function shop.strike() returns trigger language plpgsql as $$ begin
            if nextval('shop.struck') = 1 then perform pg_terminate_backend(pg_backend_pid()); end if;
            return new; end $$;
        create trigger strike before insert on shop.orders for each row execute function shop.strike()""", dbname=database)
    try:
        status, answer = place(shop)
        assert status == 201 and value(shop, "order", "select last_value from shop.struck") == 2
    finally:
        shop.postgres.execute("drop function shop.strike cascade; drop sequence shop.struck", dbname=database)
    assert value(shop, "order", "select count(*) from shop.orders") == count + 1
    assert value(shop, "order", "select count(*) from shop.orders where order_id = %s", (answer["orderId"],)) == 1


def test_locked_table(shop):
    """24 orders wait for a lock on their table: probes are answered at once, and afterwards every order is placed."""
    service = shop.services["order"]
    waiting = "select count(*) from pg_locks where not granted and relation = 'shop.orders'::regclass"

    def probe(path):
        began = time.monotonic()
        status = service.request("GET", path)[0]
        assert status == 200 or path == "/readyz"  # answers of payments may wait for the table as well
        return time.monotonic() - began
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with shop.postgres.connect(shop.databases["order"], autocommit=False) as locker:
            locker.execute("lock table shop.orders")
            placing = pool.submit(place_by_all, shop)
            wait_until(lambda: value(shop, "order", waiting) >= 8, 30, "orders to wait")
            assert max(probe(path) for path in ("/livez", "/readyz") * 10) < 10
        assert placing.result(60) == {201}


def test_function_made_anew(shop):
    """What a kept session has prepared is of a function that has another result since: the request is served."""
    assert place_by_all(shop) == {201}
    status, text = shop.services["order"].request("GET", "/orders/" + placed(shop))
    assert status == 200 and json.loads(text)["status"]
    shop.postgres.execute("""alter function shop.order_json(text) rename to order_json_kept;
        create function shop.order_json(p_order text) returns json language sql as 'select shop.order_json_kept(p_order)::json';
        grant execute on function shop.order_json to order_service""", dbname=shop.databases["order"])
    try:
        order_id = placed(shop)
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: shop.services["order"].request("GET", f"/orders/{order_id}")[0], range(24)))
        assert set(answers) == {200}
    finally:
        shop.postgres.execute("""drop function shop.order_json;
            alter function shop.order_json_kept(text) rename to order_json""", dbname=shop.databases["order"])


def test_no_advisory_lock_stops_an_order(shop, unique):
    """A role without any right holds the advisory lock that a request's key leads to; the order is placed."""
    key, role = str(uuid.uuid4()), unique("locker")
    shop.postgres.execute(f"create role {role} login")
    with shop.postgres.connect(shop.databases["order"], user=role) as connection:
        connection.execute("select pg_advisory_lock(hashtextextended(text, 0)), pg_advisory_lock(hashtext(text))"
                           " from unnest(array[%(key)s, 'shop.request ' || %(key)s]) text", {"key": key})
        assert place(shop, key=key)[0] == 201
    shop.postgres.execute(f"drop role {role}")


@pytest.mark.parametrize("body, reason", [
    (b"{", "not JSON"),
    ({"items": [{"sku": "book", "quantity": 1}]}, '"customerId" is missing'),
    ({"customerId": "ada", "items": []}, "empty"),
    ({"customerId": "ada", "items": [{"sku": "book", "quantity": 0}]}, "not above 0"),
    ({"customerId": "ada", "items": [{"sku": "book", "quantity": "1"}]}, "not a whole number"),
    ({"customerId": "ada", "items": [{"sku": "nothing", "quantity": 1}]}, "not sold"),
])
def test_bad_orders(shop, body, reason):
    """A bad order is refused with 400 and the reason."""
    status, text = shop.services["order"].request("POST", "/orders", body, {"Idempotency-Key": str(uuid.uuid4())})
    assert status == 400 and reason in json.loads(text)["error"]


@pytest.mark.parametrize("code, expected", [
    *((code, 503) for code in ("57014", "58030", "XX000", "53100", "53200", "40001", "40P01", "55P03", "25006", "72000", "57P01")),
    *((code, 400) for code in ("22003", "23514", "P0001", "OBX01")),
])
def test_refusal_of_the_database(shop, code, expected):
    """What may pass, a statement's time-out first, is 503, to be repeated with the same key; what is the order's is 400."""
    database = shop.databases["order"]
    shop.postgres.execute(f"""create function shop.refuse() returns trigger language plpgsql as
        $$ begin raise exception using errcode = '{code}'; end $$;
        create trigger refuse before insert on shop.orders for each row execute function shop.refuse()""", dbname=database)
    key = str(uuid.uuid4())
    try:
        assert place(shop, key=key)[0] == expected
    finally:
        shop.postgres.execute("drop function shop.refuse cascade", dbname=database)
    assert place(shop, key=key)[0] == 201


def test_unknown_paths(shop):
    """404 and 405."""
    request = shop.services["order"].request
    assert request("GET", "/orders/none")[0] == 404
    assert request("GET", "/nothing")[0] == 404
    assert request("DELETE", "/orders")[0] == 405


def test_one_charge_an_order(shop):
    """Row 002.9: two events with different ids for one order: one charge, twice the same answer."""
    customer = f"customer-{uuid.uuid4().hex}"
    shop.postgres.execute("insert into shop.account (customer_id, balance) values (%s, 1000)", (customer,),
                          shop.databases["payment"])
    order_id = placed(shop, customer)
    wait_final(shop, order_id, "CONFIRMED")
    original = records(shop, "orders.created", order_id)[0]
    producer = shop.kafka.producer()
    producer.produce("orders.created", original.value(), order_id,
                     headers=[("ce_id", str(uuid.uuid4())), ("ce_type", "OrderCreated")])
    assert producer.flush(20) == 0
    wait_until(lambda: len(records(shop, "payments.completed", order_id)) == 2, 30, "the second answer", interval=0.5)
    answers = {r.value() for r in records(shop, "payments.completed", order_id)}
    assert len(answers) == 1
    # The account is the witness: a row of the order can only be one.
    assert value(shop, "payment", "select balance from shop.account where customer_id = %s", (customer,)) == 980
    assert value(shop, "payment", "select count(*) from shop.payment where order_id = %s", (order_id,)) == 1
    assert value(shop, "inventory", "select count(*) from shop.reservation where order_id = %s", (order_id,)) == 1


def place_many(shop, customer, count, clients=8):
    """POST /orders count times over a few lasting connections. Returns (order ids, median seconds of a call)."""
    body = json.dumps({"customerId": customer, "items": [{"sku": "book", "quantity": 1}]})

    def place_share(number):
        connection = http.client.HTTPConnection("127.0.0.1", shop.services["order"].config["http_port"], timeout=20)
        orders, seconds = [], []
        for _ in range(number, count, clients):
            began = time.monotonic()
            connection.request("POST", "/orders", body, {"Idempotency-Key": str(uuid.uuid4())})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 201, text
            seconds.append(time.monotonic() - began)
            orders.append(json.loads(text)["orderId"])
        connection.close()
        return orders, seconds
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(place_share, range(clients)))
    orders = [order_id for part, _ in parts for order_id in part]
    assert len(set(orders)) == count
    return orders, statistics.median(second for _, part in parts for second in part)


@pytest.mark.parametrize("count", [200, pytest.param(10000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_service_down(shop, count):
    """Row 001.2, row 002.3: payment stopped: placing and inventory go on; started: every order is final, charged once."""
    customer = f"customer-{uuid.uuid4().hex}"
    balance = "select balance from shop.account where customer_id = %s"
    shop.postgres.execute("insert into shop.account (customer_id, balance) values (%s, 1000000)", (customer,),
                          shop.databases["payment"])
    confirmed = "select count(*) from shop.orders where order_id = any(%s) and status = 'CONFIRMED'"
    before, usual = place_many(shop, customer, count)
    wait_until(lambda: value(shop, "order", confirmed, (before,)) == count, 300, f"{count} confirmed orders")
    assert shop.services["payment"].stop() == 0
    orders, meanwhile = place_many(shop, customer, count)
    print(f"{count} orders: a call took {usual * 1000:.1f} ms with payment and {meanwhile * 1000:.1f} ms without")
    assert meanwhile < 3 * usual + 0.02
    reserved = "select count(*) from shop.reservation where order_id = any(%s) and status = 'reserved'"
    wait_until(lambda: value(shop, "inventory", reserved, (orders,)) == count, 300, f"{count} reservations")
    assert value(shop, "payment", "select count(*) from shop.payment where order_id = any(%s)", (orders,)) == 0
    assert value(shop, "order", "select count(*) from shop.orders where order_id = any(%s) and status = 'PENDING'",
                 (orders,)) == count
    shop.services["payment"].start()
    wait_until(lambda: value(shop, "order", confirmed, (orders,)) == count, 300, f"{count} confirmed orders")
    answers = [r.key().decode() for r in shop.kafka.read_all("payments.completed")]
    assert sorted(key for key in answers if key in set(orders)) == sorted(orders)
    # The account is the witness of the charges: all of these orders, each paid once.
    assert value(shop, "payment", balance, (customer,)) == 1000000 - 20 * (len(before) + len(orders))
    assert value(shop, "payment", "select count(*) from outbox.dead_letter") == 0


def test_lag_reaches_zero(shop):
    """Row 000.11: behind a transactional relay the committed offset is the end of the log, markers included."""
    wait_final(shop, placed(shop), "CONFIRMED")
    consumed(shop)


def test_every_event_once_in_each_service(shop):
    """Row 002.3: payment and inventory each have exactly the orders created, each once."""
    consumed(shop)
    created = {r.key().decode() for r in shop.kafka.read_all("orders.created")}
    for part, table in (("payment", "payment"), ("inventory", "reservation")):
        rows = shop.postgres.execute(f"select order_id from shop.{table} where status is not null",
                                     dbname=shop.databases[part])
        assert {row[0] for row in rows} == created
    assert value(shop, "inventory", "select min(available) >= 0 from shop.stock")
