# SPDX-License-Identifier: PostgreSQL
"""Calls under way: handlers that call another system, side by side, while their member goes on."""

import contextlib
import random
import threading
import time
import uuid

import pytest
from harness import wait_until
from harness.gateway import Gateway
from harness.payment import SHORT_SESSION
from member_group import sizes

CREATED = "orders.created"


@pytest.fixture
def gateway():
    with contextlib.closing(Gateway()) as gateway:
        yield gateway


@pytest.fixture
def start(payment, gateway):
    """start(**config): outbox-payment with the gateway."""
    def start(wait=True, **config):
        return payment.start(wait=wait, **{"gateway_url": gateway.url, "kafka_properties": SHORT_SESSION,
                                           "retry_backoff_ms": 100, **config})
    return start


def position(payment, partition, topic=CREATED):
    """(next_offset, seen_to) of the partition, or None."""
    rows = payment.execute("select next_offset, seen_to from outbox.consumer_offset where consumer = %s and topic = %s"
                           " and partition = %s", (payment.group, topic, partition))
    return rows[0] if rows else None


def committed(payment, partition):
    """The offset that Kafka has for the group; -1: none."""
    return payment.broker.group_offsets(payment.group).get((CREATED, partition), (-1,))[0]


def wait_asked(gateway, order, times=1, path="charges"):
    wait_until(lambda: gateway.asked(order, path) >= times, 60, f"{order} to be asked for {times} times")


def check_once(payment, gateway, orders):
    """Each order is charged once, by one key, and has one row and one answer."""
    assert gateway.charged == dict.fromkeys(orders, 1)
    assert gateway.keys() == {order: {f"charge-{order}"} for order in orders}
    rows = payment.execute("select order_id, status from shop.payment")
    assert sorted(rows) == sorted((order, "approved") for order in orders)
    answers = payment.execute("select convert_from(key, 'UTF8'), count(*) from outbox.event where topic = 'payments.completed' group by key")
    assert sorted(answers) == sorted((order, 1) for order in orders)


def test_side_by_side(payment, gateway, start):
    """K5: calls of a member run side by side, calls_max at most; the keys' results come one by one."""
    orders = [f"o-{n}" for n in range(60)]
    gateway.hold(*orders)
    service = start(calls_max=40)
    for order in orders:
        payment.order(order)
    payment.flush()
    wait_until(lambda: gateway.under_way() == 40, 60, "40 calls at once")
    # Answered, ready, and no further one: the member polls while all its calls are under way.
    name = f'outbox_consumer_calls_under_way{{consumer="{payment.group}"}}'
    wait_until(lambda: service.metrics().get(name) == 40, 30, "the metric")
    assert service.request("GET", "/readyz")[0] == 200
    gateway.release()
    payment.wait_payments(60)
    assert gateway.most == 40
    check_once(payment, gateway, orders)
    seconds = f'outbox_consumer_call_seconds_count{{consumer="{payment.group}",topic="{CREATED}",result="done"}}'
    assert service.metrics()[seconds] == 60
    assert payment.execute("select count(*) from shop.charge_attempt") == [(0,)]


def test_slow_call_holds_its_key(payment, gateway, start):
    """K5: behind a slow call those of other keys are done, above the watermark; its key's wait, and Kafka's offset."""
    gateway.hold("slow")
    start()
    for order, key in (("slow", "a"), ("b-1", "b"), ("behind", "a"), ("b-2", "b"), ("c-1", "c")):
        payment.order(order, key=key, partition=2)
    payment.flush()
    payment.wait_payments(3)
    assert sorted(row[0] for row in payment.execute("select order_id from shop.payment")) == ["b-1", "b-2", "c-1"]
    assert position(payment, 2) == (0, 5)
    assert gateway.asked("behind") == 0
    assert committed(payment, 2) <= 0
    gateway.release()
    payment.wait_payments(5)
    assert position(payment, 2) == (5, 5)
    order = [request.order for request in gateway.requests]
    assert order.index("slow") < order.index("behind") and order.index("b-1") < order.index("b-2")
    check_once(payment, gateway, ["slow", "b-1", "behind", "b-2", "c-1"])
    wait_until(lambda: committed(payment, 2) == 5, 30, "the offset in Kafka")
    last = payment.execute("select last_offset, last_digest is not null from outbox.consumer_offset where consumer = %s"
                           " and topic = %s and partition = 2", (payment.group, CREATED))
    assert last == [(4, True)]


def test_full_window(payment, gateway, start):
    """K5: a window full of slow calls reads no more, tells so, and goes on when they are answered."""
    slow = [f"slow-{n}" for n in range(2)]
    orders = slow + [f"o-{n}" for n in range(30)]
    gateway.hold(*slow)
    service = start(calls_max=2)
    for order in orders:
        payment.order(order, partition=1)
    payment.flush()
    full = f'outbox_consumer_window_full{{consumer="{payment.group}"}}'
    wait_until(lambda: service.metrics().get(full) == 1, 30, "the window to be full")
    assert service.request("GET", "/readyz")[0] == 200
    assert {request.order for request in gateway.requests} == set(slow)
    gateway.release(slow[0])
    # One slow call less, and all others pass the other one.
    payment.wait_payments(31)
    gateway.release()
    payment.wait_payments(32)
    check_once(payment, gateway, orders)
    wait_until(lambda: service.metrics().get(full) == 0, 30, "room in the window")


def test_killed_above_the_watermark(payment, gateway, start):
    """K5: what was done above the watermark is known after a kill: its call is not made again, its effect is single."""
    gateway.hold("slow")
    service = start()
    orders = ["slow", *(f"o-{n}" for n in range(20))]
    for order in orders:
        payment.order(order, partition=3)
    payment.flush()
    payment.wait_payments(20)
    service.kill9()
    before = {order: gateway.asked(order) for order in orders}
    start()
    wait_asked(gateway, "slow", 2)
    gateway.release()
    payment.wait_payments(21)
    assert {order: gateway.asked(order) for order in orders} == {**before, "slow": 2}
    check_once(payment, gateway, orders)
    wait_until(lambda: position(payment, 3) == (21, 21), 30, "the watermark")


def test_handed_over(payment, gateway, start):
    """K10: a rebalance waits for no call, and a member that was killed leaves them to the next, by the same key."""
    orders = [f"o-{n}" for n in range(12)]
    gateway.hold(*orders)
    first = start()
    for n, order in enumerate(orders):
        payment.order(order, partition=n % 6)
    payment.flush()
    wait_until(lambda: gateway.under_way() == 12, 30, "12 calls")
    second = start(threads=5)
    wait_until(lambda: gateway.under_way() > 12, 30, "calls of the second member")
    first.kill9()
    gateway.release()
    payment.wait_payments(12)
    check_once(payment, gateway, orders)
    assert sum(gateway.asked(order) >= 2 for order in orders) > 0
    assert payment.dead_letters("open") + payment.dead_letters("retrying") == 0
    assert second.stop() == 0


def test_rebalanced_answers(payment, gateway, start):
    """K10: both members live: what the first was answered for partitions it gave up changes nothing."""
    orders = [f"o-{n}" for n in range(12)]
    gateway.hold(*orders)
    first = start()
    for n, order in enumerate(orders):
        payment.order(order, partition=n % 6)
    payment.flush()
    wait_until(lambda: gateway.under_way() == 12, 30, "12 calls")
    second = start(threads=5)
    wait_until(lambda: gateway.under_way() >= 16, 30, "calls of the second member")
    gateway.release()
    payment.wait_payments(12)
    check_once(payment, gateway, orders)
    done = payment.count(first, "ok") + payment.count(second, "ok")
    assert done == 12 and payment.count(second, "ok") > 0
    assert payment.count(first, "duplicate") + payment.count(second, "duplicate") == 0


def test_not_called_for(payment, gateway, start):
    """K5: no call for a record that is processed, of another consumer's replay, or behind a dead letter of its key."""
    start()
    first = payment.order("once", partition=0)
    payment.flush()
    payment.wait_status("once", "approved")
    payment.order("once-again", event_id=first, partition=1)
    payment.order("twin", event_id=(twin := str(uuid.uuid4())), key="t1", partition=0)
    payment.order("twin", event_id=twin, key="t2", partition=0)
    payment.order("foreign", partition=0, headers=[("outbox-replay-id", str(uuid.uuid4())),
                                                   ("outbox-replay-group", "somebody-else")])
    gateway.answers["refused"] = [400]
    payment.order("refused", key="k", partition=0)
    payment.flush()
    payment.wait_dead_letters("open", 1)
    payment.order("behind", key="k", partition=0)
    payment.order("last", partition=0)
    payment.flush()
    payment.wait_status("last", "approved")
    payment.wait_dead_letters("held", 1)
    wait_until(lambda: position(payment, 0) == (7, 7) and position(payment, 1) == (1, 1), 30, "all to be read")
    asked = {order: gateway.asked(order) for order in ("once", "once-again", "twin", "foreign", "refused", "behind")}
    assert asked == {"once": 1, "once-again": 0, "twin": 1, "foreign": 0, "refused": 4, "behind": 0}
    # The letter is done with: what was held is called for, too.
    del gateway.answers["refused"]
    payment.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    payment.wait_status("behind", "approved")
    assert gateway.asked("behind") == 1


def test_cancelled_while_charging(payment, gateway, start):
    """K10: an order cancelled while its charge is under way is refunded once; one cancelled before is never charged."""
    gateway.hold("mid")
    start()
    payment.cancel("early")
    payment.flush()
    payment.database.wait_for("select count(*) = 1 from shop.payment where order_id = 'early'")
    payment.order("early")
    payment.order("mid")
    payment.order("late")
    payment.flush()
    wait_asked(gateway, "mid")
    payment.cancel("mid")
    payment.flush()
    payment.database.wait_for("select cancelled_at is not null from shop.payment where order_id = 'mid'")
    gateway.release()
    payment.wait_status("mid", "declined")
    payment.wait_status("late", "approved")
    payment.cancel("late")
    payment.cancel("late")
    payment.flush()
    payment.database.wait_for("select refunded_at is not null from shop.payment where order_id = 'late'")
    wait_until(lambda: payment.status("early") == "declined", 30, "the early one")
    assert gateway.charged == {"mid": 1, "late": 1} and gateway.refunded == {"mid": 1, "late": 1}
    assert gateway.keys("refunds") == {"mid": {"refund-mid"}, "late": {"refund-late"}}
    rows = payment.execute("select order_id, status::text, detail, refunded_at is not null from shop.payment order by 1")
    assert rows == [("early", "declined", "ORDER_CANCELLED", False), ("late", "approved", "OK", True),
                    ("mid", "declined", "ORDER_CANCELLED", True)]
    assert payment.execute("select count(*) from shop.charge_attempt") == [(0,)]
    assert payment.execute("select count(*) from outbox.dead_letter") == [(0,)]


def test_killed_while_charging_and_cancelled(payment, gateway, start):
    """K10: a charge whose answer nobody heard is refunded, once, when the order is cancelled meanwhile."""
    gateway.hold("lost")
    service = start()
    payment.order("lost")
    payment.flush()
    wait_asked(gateway, "lost")
    service.kill9()
    gateway.release()
    wait_until(lambda: gateway.charged["lost"] == 1, 30, "the charge")
    payment.cancel("lost")
    payment.flush()
    start()
    # Whichever of the two events comes first.
    payment.database.wait_for("select refunded_at is not null from shop.payment where order_id = 'lost'")
    assert gateway.charged["lost"] == gateway.refunded["lost"] == 1


def test_failed_call(payment, gateway, start):
    """K5: a failed call is a retry as any: a dead letter, its key held; called again beside the turns, no transaction open."""
    gateway.answers["bad"] = [400, 200]
    service = start()
    payment.order("bad", key="k", partition=0)
    payment.flush()
    payment.wait_status("bad", "approved")
    gateway.answers["worse"] = [422, 200]
    gateway.hold("worse")
    payment.order("worse", key="k", partition=0)
    payment.flush()
    wait_asked(gateway, "worse")
    gateway.release()
    wait_until(lambda: gateway.under_way() == 0, 30, "the first answer")
    payment.wait_status("worse", "approved")
    rows = payment.execute("select state, attempts, error_class from outbox.dead_letter order by id")
    assert rows == [("resolved", 2, "record")] * 2
    # A retry's call that takes its time.
    gateway.answers["slow"] = [400, 200]
    payment.order("slow", key="s", partition=0)
    payment.flush()
    wait_asked(gateway, "slow")
    gateway.hold("slow")
    wait_asked(gateway, "slow", 2)
    payment.order("other", key="o", partition=0)
    payment.order("behind", key="s", partition=0)
    payment.flush()
    payment.wait_status("other", "approved")
    payment.wait_dead_letters("held", 1)
    open_ones = "select count(*) from pg_stat_activity where usename = 'payment_service' and state like 'idle in%'"
    for _ in range(20):
        assert payment.database.value(open_ones) == 0
    assert service.request("GET", "/readyz")[0] == 200
    gateway.release()
    payment.wait_status("behind", "approved")
    assert gateway.charged == dict.fromkeys(("bad", "worse", "slow", "other", "behind"), 1)


def test_gateway_away(payment, gateway, start):
    """K5: what the gateway cannot do now is asked for again, without a dead letter, and stops no other key."""
    gateway.answers["busy"] = [503] * 4 + [200]
    service = start()
    payment.order("busy", key="k", partition=0)
    payment.order("next", key="k", partition=0)
    payment.order("other", partition=0)
    payment.flush()
    payment.wait_status("other", "approved")
    payment.wait_status("next", "approved")
    assert gateway.asked("busy") == 5
    assert payment.execute("select count(*) from outbox.dead_letter") == [(0,)]
    away = f'outbox_consumer_call_seconds_count{{consumer="{payment.group}",topic="{CREATED}",result="away"}}'
    assert service.metrics()[away] == 4


def test_waits_while_paused(payment, gateway, start):
    """K10: after the breaker's pause a record is tried, though the call of another one waits for ever."""
    gateway.answers.update({"waits": [503], "refused-1": [400], "refused-2": [400]})
    service = start(retry_max=0, dlt_breaker=2, dlt_breaker_pause_ms=500)
    payment.order("waits", key="w", partition=0)
    payment.flush()
    wait_asked(gateway, "waits", 2)
    for order in ("refused-1", "refused-2"):
        payment.order(order, partition=0)
    payment.flush()
    wait_until(lambda: any(line["event"] == "breaker_open" for line in service.log_lines()), 30, "the breaker to open")
    for order in ("good-1", "good-2"):
        payment.order(order, partition=0)
    payment.flush()
    payment.wait_status("good-1", "approved")
    payment.wait_status("good-2", "approved")
    wait_until(lambda: service.request("GET", "/readyz")[0] == 200, 30, "the breaker to be closed")
    assert gateway.asked("waits") > 2 and payment.status("waits") is None


def test_database_away(payment, gateway, start, postgres):
    """K10: the database restarts while calls are under way: their answers are committed when it is back."""
    orders = [f"o-{n}" for n in range(10)]
    gateway.hold(*orders)
    service = start()
    for order in orders:
        payment.order(order)
    payment.flush()
    wait_until(lambda: gateway.under_way() == 10, 30, "the calls")
    postgres.stop()
    gateway.release()
    wait_until(lambda: gateway.under_way() == 0, 30, "the answers")
    wait_until(lambda: service.request("GET", "/readyz")[0] == 503, 30, "the service to tell")
    postgres.start()
    payment.wait_payments(10)
    check_once(payment, gateway, orders)
    service.wait_ready()


def test_stopped_with_calls(payment, gateway, start):
    """K10: an end in order waits for calls a moment, commits what is answered and drops the others."""
    gateway.hold("answered", "never")
    service = start()
    payment.order("answered", partition=0)
    payment.order("never", partition=1)
    payment.flush()
    wait_until(lambda: gateway.under_way() == 2, 30, "the calls")
    service.child.process.terminate()
    wait_until(lambda: any(line["event"] == "stopping" for line in service.log_lines()), 10, "the end to begin")
    gateway.release("answered")
    wait_until(lambda: not service.running, 30, "the end")
    assert service.child.process.returncode == 0
    assert payment.status("answered") == "approved" and payment.status("never") is None
    assert [line["event"] for line in service.log_lines()].count("calls_dropped") == 1
    assert payment.execute("select count(*) from outbox.consumer_attempt") == [(0,)]
    start()
    wait_asked(gateway, "never", 2)
    gateway.release()
    payment.wait_payments(2)
    check_once(payment, gateway, ["answered", "never"])


def test_log_made_anew(payment, gateway, start):
    """K5: a topic made anew under calls: their answers are dropped, what was done above the watermark stays single."""
    gateway.hold("slow")
    service = start()
    kept = {order: payment.order(order, partition=0) for order in ("slow", "a", "b", "c")}
    payment.flush()
    payment.wait_payments(3)
    payment.broker.delete_topics([CREATED])
    payment.broker.create_topics([CREATED], 6)
    # Other records first: the offsets mean others now.
    payment.order("new-1", partition=0)
    for order in ("a", "b", "c", "slow"):
        payment.order(order, event_id=kept[order], partition=0)
    payment.order("new-2", partition=0)
    payment.flush()
    payment.wait_status("new-2", "approved", 90)
    gateway.release()
    payment.wait_payments(6)
    check_once(payment, gateway, ["slow", "a", "b", "c", "new-1", "new-2"])
    assert gateway.asked("a") == gateway.asked("b") == 1
    assert [line["event"] for line in service.log_lines()].count("log_made_anew") <= 1


def test_process_killer_is_found(hazard):
    """K10: after a crash what was in the window runs alone, noted: the record whose call ends the process becomes a
    letter of class crash, and none of its neighbours does."""
    for n in range(8):
        hazard.produce("call-slow", key=f"s{n}", partition=n % 3)
    hazard.produce("call-abort", key="bad")
    for n in range(8):
        hazard.produce("call-slow", key=f"t{n}", partition=n % 3)
    hazard.flush()
    service, ends = hazard.run_until(lambda: len(hazard.taken()) == 16 and hazard.letters() == 1, 8, calls="on",
                                     crash_max=3, threads=2)
    assert 3 <= ends <= 4
    assert hazard.database.execute("select error_class, state, key from outbox.dead_letter") == [("crash", "open", b"bad")]
    assert len(hazard.database.execute("select distinct event_id from hazard.taken")) == 16
    wait_until(lambda: hazard.database.value("select count(*) from outbox.consumer_attempt") <= 3, 30, "few notes")
    assert any(line["event"] == "records_alone" for line in service.log_lines())
    assert service.stop() == 0
    assert hazard.database.value("select count(*) from outbox.consumer_attempt") == 0


def test_kills_with_calls_are_nobodys_fault(hazard):
    """K10: kill -9 with calls in hand makes no dead letter, however often, and doubles no effect."""
    for done in (0, 10, 20, 30):
        for n in range(10):
            hazard.produce("call-slow", key=f"{n}", partition=n % 3)
        hazard.flush()
        service = hazard.start(calls="on")
        # What was in hand at the last kill is done, and calls are under way again.
        wait_until(lambda least=done: len(hazard.taken()) > least, 60, "effects of the new records")
        service.kill9()
    hazard.start(calls="on")
    hazard.wait_taken(40)
    assert hazard.letters() + hazard.letters("retrying") == 0
    assert len(hazard.database.execute("select distinct event_id from hazard.taken")) == 40


def test_crash_in_a_retrys_call(hazard):
    """K10: the same of a record that is tried again from outbox.dead_letter."""
    hazard.fail("call-fails")
    hazard.produce("call-fails", key="x")
    service = hazard.start(calls="on", retry_max=0, crash_max=2)
    hazard.flush()
    hazard.wait_letters("open", 1)
    hazard.produce("call-abort-retry", key="x")
    hazard.produce("call-slow", key="y")
    hazard.flush()
    hazard.wait_letters("held", 1)
    hazard.heal()
    hazard.database.execute("select outbox.dead_letter_replay(id) from outbox.dead_letter where state = 'open'")
    wait_until(lambda: not service.running, 60, "the process to end")
    _, ends = hazard.run_until(lambda: hazard.letters("open") == 1 and len(hazard.taken()) == 2, 4, calls="on",
                               retry_max=0, crash_max=2)
    assert ends == 1
    rows = hazard.database.execute("select error_class, state from outbox.dead_letter order by \"offset\"")
    assert rows == [("record", "resolved"), ("crash", "open")]


class Load:
    """Orders at a steady rate."""

    def __init__(self, payment, rate):
        self.payment = payment
        self.rate = rate
        self.orders = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._produce)

    def _produce(self):
        began = time.monotonic()
        while not self.over.wait(max(0.0, began + len(self.orders) / self.rate - time.monotonic())):
            order = f"load-{len(self.orders)}"
            self.payment.order(order)
            self.orders.append(order)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@pytest.mark.parametrize("seconds, delay, blows", sizes((30, 0.4, 3), (600, 2.0, 8)))
def test_slow_gateway(payment, gateway, start, seconds, delay, blows):
    """K5: 12.5 orders/s and a gateway that takes its time, 2 s +- 1 s: the backlog stays flat, and over kills
    and rebalances nothing is done twice."""
    chance = random.Random(12)
    gateway.delay = lambda _: chance.uniform(0.5, 1.5) * delay
    services = [start(threads=2), start(threads=2)]
    began = time.monotonic()
    backlog = []
    with Load(payment, 12.5) as load:
        for blow in range(blows):
            until = began + (blow + 1) * seconds / (blows + 1)
            wait_until(lambda end=until: time.monotonic() >= end, seconds, "the next blow", interval=0.2)
            backlog.append(len(load.orders) - payment.payments())
            victim = services.pop(0)
            if blow % 2 == 0:
                victim.kill9()
            else:
                assert victim.stop() == 0
            services.append(start(threads=2))
        wait_until(lambda: time.monotonic() >= began + seconds, seconds, "the end", interval=0.2)
    payment.flush()
    payment.wait_payments(len(load.orders), 120)
    print(f"orders={len(load.orders)} backlog at each blow={backlog} calls at once={gateway.most}")
    check_once(payment, gateway, load.orders)
    # What is under way at any time, and what a blow leaves: far below what came in.
    assert max(backlog) <= 12.5 * (2 * delay + 15)
    assert payment.execute("select count(*) from outbox.dead_letter") == [(0,)]


@pytest.mark.parametrize("code", ("58030", "end"))
def test_records_in_trouble(hazard, code):
    """Two records of a partition that fail for themselves alone, of different keys: each is found, the others go on."""
    for bad in ("bad-1", "bad-2"):
        hazard.fail(bad, code=code)
        hazard.produce(bad, key=bad, partition=1)
    others = 0

    def are_found():
        nonlocal others
        hazard.produce(f"other-{others}", key=f"{others}", partition=1)
        hazard.flush()
        others += 1
        return hazard.letters() == 2

    hazard.start(calls="on", crash_after_seconds=2)
    wait_until(are_found, 90, "both to be found", interval=0.2)
    hazard.wait_taken(others)
    rows = hazard.database.execute("select convert_from(value, 'UTF8')::json->>'what', error_class from outbox.dead_letter order by 1")
    assert rows == [("bad-1", "crash"), ("bad-2", "crash")]
    assert len(set(hazard.taken())) == others
    wait_until(lambda: hazard.database.value("select count(*) from outbox.consumer_trouble") == 0, 30, "no note")


def test_first_log_made_anew(payment, gateway, start):
    """K5: the same of a log of which no record has been passed yet: other records lie where those under way lay."""
    gateway.hold("slow")
    start()
    for order in ("slow", "a", "b", "c"):
        payment.order(order, partition=0)
    payment.flush()
    payment.wait_payments(3)
    payment.broker.delete_topics([CREATED])
    payment.broker.create_topics([CREATED], 6)
    new = [f"new-{n}" for n in range(8)]
    for order in new:
        payment.order(order, partition=0)
    payment.flush()
    # Those at the offsets of old ones, too.
    payment.wait_payments(11, 90)
    assert sorted(row[0] for row in payment.execute("select order_id from shop.payment")) == sorted(["a", "b", "c", *new])
    assert gateway.charged == dict.fromkeys(["a", "b", "c", *new], 1)
