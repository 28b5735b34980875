# SPDX-License-Identifier: PostgreSQL
"""The consumer runtime, shown on outbox-payment alone: records are produced by the test, no relay runs."""

import datetime
import http.server
import json
import threading
import time
import uuid

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from harness import wait_until
from harness.payment import SHORT_SESSION, same_key_partition
from harness.timer import LateTimer


def test_group_made_later_gets_all(payment):
    """Row 002.6: a group created after 1,000 events gets all 1,000."""
    for n in range(1000):
        payment.order(f"early-{n}")
    payment.flush()
    service = payment.start()
    payment.wait_payments(1000)
    assert payment.count(service, "ok") == 1000
    assert service.stop() == 0


def attempts_are_in_time(payment, service, backoff):
    """Four attempts at 0, 1, 2, 3 back-offs, each within 0.2 s.

    A measurement during which this very process was woken 0.1 s late or more says nothing and is
    repeated with another record, four times at most; any other must hold.
    """
    for number in range(2, 6):
        key = f"bad-{number}"
        with LateTimer() as timer:
            payment.order(key)
            payment.flush()
            wait_until(lambda key=key: len(payment.attempts(service, key)) == 4, 30, f"four attempts at {key}")
        times = payment.attempts(service, key)
        steps = [at - times[0] for at in times]
        if all(abs(step - n * backoff / 1000) <= 0.2 for n, step in enumerate(steps)):
            return
        print(f"attempts after {steps} s, own timer {timer.late:.3f} s late")
        assert timer.late >= 0.1, steps
    pytest.fail("this machine was never undisturbed for the time of four attempts")


def same_letters(payment):
    """Keys of the published letters, when they are those of the open ones; the retries of others go on."""
    published = sorted(r.key().decode() for r in payment.broker.read_all("orders.created.DLT"))
    letters = payment.execute("select convert_from(key, 'UTF8') from outbox.dead_letter where state = 'open'")
    return published if published == sorted(row[0] for row in letters) else None


@pytest.mark.parametrize("backoff", (1000, 2000), ids=("1s", "2s"))
def test_retries_then_dlt(payment, backoff):
    """Row 000.4, row 002.7: four attempts, back-off apart, then one DLT record and one row; other keys go on."""
    payment.fail_orders("bad")
    payment.database.start_relay()
    service = payment.start(retry_backoff_ms=backoff)
    place = same_key_partition(payment, "bad-1")
    started = time.monotonic()
    bad = payment.order("bad-1")
    for n in range(20):
        payment.order(f"good-{n}", partition=place)
    payment.flush()
    payment.wait_payments(20, 4)
    assert time.monotonic() - started < 4
    record = payment.broker.wait_for_records("orders.created.DLT", 1)[0]
    assert len(payment.attempts(service, "bad-1")) == 4
    original = [r for r in payment.broker.read_all("orders.created") if r.key() == b"bad-1"][0]
    assert record.key() == b"bad-1" and record.value() == original.value()
    headers = {name: value.decode() for name, value in record.headers()}
    letter = payment.execute("select id, partition, \"offset\", attempts, state from outbox.dead_letter")
    assert len(letter) == 1 and letter[0][1] == place and letter[0][3:] == (4, "open")
    assert headers["dlt-original-topic"] == "orders.created"
    assert headers["dlt-original-partition"] == str(place)
    assert headers["dlt-original-offset"] == str(letter[0][2])
    assert headers["dlt-consumer-group"] == payment.group
    assert headers["dlt-error-class"] == "record" and headers["dlt-sqlstate"] == "P0001"
    assert headers["dlt-error-message"] == "seeded failure"
    assert headers["dlt-fingerprint"] == payment.database.value("select fingerprint from outbox.dead_letter")
    assert headers["dlt-attempts"] == "4" and headers["dlt-id"] == str(letter[0][0])
    assert headers["dlt-original-ce_id"] == bad and headers["ce_type"] == "OrderCreated"
    assert headers["dlt-original-timestamp"] == str(original.timestamp()[1])
    first, last = (datetime.datetime.fromisoformat(headers[name]).timestamp()
                   for name in ("dlt-first-failed-at", "dlt-failed-at"))
    assert original.timestamp()[1] / 1000 < first and 3 * backoff / 1000 <= last - first < 3 * backoff / 1000 + 5
    line = [x for x in service.log_lines() if x["event"] == "dead_letter"][0]
    assert line["msg"] == (f"Publishing to orders.created.DLT partition={place} offset={letter[0][2]} "
                           "key=bad-1 reason=seeded failure")
    assert line["event_id"] == bad and line["partition"] == place
    assert payment.count(service, "dead_lettered") == 1
    attempts_are_in_time(payment, service, backoff)
    # Seconds later: it has not been tried or published once more.
    assert len(payment.attempts(service, "bad-1")) == 4
    published = wait_until(lambda: same_letters(payment), 30, "each open letter to be published once")
    assert published.count("bad-1") == 1


MALFORMED = [
    (b"\x00\xff not json", "not JSON"),
    (b"[]", "not a JSON object"),
    (b'{"orderId": "x", "customerId": "ada", "currency": "EUR"}', '"amount" is missing'),
    (b'{"orderId": "x", "customerId": "ada", "amount": "5", "currency": "EUR"}', "not a number"),
    (b'{"orderId": "x", "customerId": "ada", "amount": 1.005, "currency": "EUR"}', "two decimals"),
]


def test_malformed(payment):
    """Row 002.7: malformed bytes go to the DLT at once, bytes identical; the partition goes on."""
    payment.database.start_relay()
    service = payment.start()
    # Keys of their own: behind a dead letter the records of its key wait.
    sent = {b"k\xff\x00%d" % number: case for number, case in enumerate(MALFORMED)}
    for key, (value, _) in sent.items():
        payment.produce(value, key, partition=3, headers=[("twice", b"\x00\xff"), ("twice", None)])
    payment.order("after", partition=3)
    payment.flush()
    payment.wait_status("after", "approved")
    records = payment.broker.wait_for_records("orders.created.DLT", len(MALFORMED), 10)
    assert {record.key(): record.value() for record in records} == {key: value for key, (value, _) in sent.items()}
    for record in records:
        _, reason = sent[record.key()]
        headers = record.headers()
        assert [v for n, v in headers if n == "twice"] == [b"\x00\xff", None]
        # The last one is refused by the SQL function, with OBX01.
        assert dict(headers)["dlt-error-class"] == (b"permanent" if reason == MALFORMED[-1][1] else b"decode")
        assert reason in dict(headers)["dlt-error-message"].decode()
    assert payment.count(service, "retried") == 0
    rows = payment.execute("select attempts, value, state from outbox.dead_letter order by \"offset\"")
    assert rows == [(1, value, "open") for value, _ in MALFORMED]


def test_tombstone_and_unknown_fields(payment):
    """Unknown fields are ignored; a record without value is a dead letter; other event types are stepped over."""
    service = payment.start()
    payment.producer.produce("orders.created", None, "gone", headers=[("ce_type", "OrderCreated")])
    payment.producer.produce("orders.created", b"?", "other", headers=[("ce_type", "OrderAudited")])
    payment.produce({"orderId": "more", "customerId": "ada", "amount": 5, "currency": "EUR", "new": {"a": [1]}}, "more")
    payment.flush()
    payment.wait_status("more", "approved")
    payment.wait_dead_letters("open", 1)
    wait_until(lambda: payment.count(service, "ignored") == 1, 10, "the other event to be counted")


def test_retry_survives_a_crash(payment):
    """The tries made are counted across kill -9; the record is neither lost nor tried anew."""
    payment.fail_orders("bad")
    service = payment.start(retry_backoff_ms=1000, kafka_properties=SHORT_SESSION)
    payment.order("bad-1")
    payment.flush()
    payment.wait_dead_letters("retrying", 1)
    service.kill9()
    payment.start(retry_backoff_ms=200, wait=False)
    payment.wait_dead_letters("open", 1)
    assert payment.database.value("select attempts from outbox.dead_letter") == 4


def test_reset_is_harmless(payment):
    """Row 001.4: the group set back to the beginning: effects unchanged, every record counted as duplicate."""
    service = payment.start()
    for n in range(300):
        payment.order(f"order-{n}")
    payment.produce(b"broken", "broken")
    payment.flush()
    payment.wait_payments(300)
    payment.wait_dead_letters("open", 1)
    events = payment.database.value("select count(*) from outbox.event")
    balance = payment.database.value("select sum(balance) from shop.account")
    assert service.stop() == 0
    zero = [TopicPartition("orders.created", p, 0) for p in range(6)]
    request = [ConsumerGroupTopicPartitions(payment.group, zero)]
    payment.broker.admin.alter_consumer_group_offsets(request)[payment.group].result(30)
    service = payment.start()
    wait_until(lambda: payment.count(service, "duplicate") == 301, 30, "301 duplicates")
    assert payment.payments() == 300
    assert payment.database.value("select count(*) from outbox.event") == events
    assert payment.database.value("select sum(balance) from shop.account") == balance


def test_lost_offsets(payment):
    """A group Kafka has forgotten goes on at the watermark; one ahead of the database is set back to it."""
    service = payment.start()
    for n in range(60):
        payment.order(f"order-{n}")
    payment.flush()
    payment.wait_payments(60)
    assert service.stop() == 0
    payment.broker.admin.delete_consumer_groups([payment.group])[payment.group].result(30)
    payment.execute("delete from shop.payment where order_id = 'order-7'")
    payment.execute("delete from outbox.idempotency")
    payment.execute("update outbox.consumer_offset set next_offset = 0 where partition = %s",
                    (same_key_partition(payment, "order-7"),))
    service = payment.start()
    payment.wait_payments(60)
    assert payment.database.value("select count(*) from outbox.idempotency") < 60
    # What is no longer processed when it was the topic that was made anew is no secret.
    assert {line["level"] for line in service.log_lines() if line["event"] == "no_committed_offset"} == {"warning"}


def test_database_away(payment):
    """Infrastructure errors are waited out: nothing is counted, nothing is a dead letter, no order is lost."""
    service = payment.start()
    payment.order("before")
    payment.flush()
    payment.wait_status("before", "approved")
    payment.database.cluster.stop("immediate")
    for n in range(50):
        payment.order(f"during-{n}")
    payment.flush()
    wait_until(lambda: service.request("GET", "/readyz")[0] == 503, 20, "the service not to be ready")
    assert service.request("GET", "/livez")[0] == 200
    payment.database.cluster.start()
    payment.wait_payments(51, 60)
    assert payment.database.value("select count(*) from outbox.dead_letter") == 0
    service.wait_ready()


def test_deploy_error_halts(payment):
    """A missing function halts the partition: nothing goes to the DLT, /readyz fails, and it goes on when mended."""
    service = payment.start()
    payment.execute("alter function shop.charge(jsonb, text) rename to charge_away")
    payment.order("stuck")
    payment.flush()
    wait_until(lambda: service.request("GET", "/readyz")[0] == 503, 20, "the service not to be ready")
    wait_until(lambda: any(x["event"] == "partition_halted" for x in service.log_lines()), 10, "a log line")
    assert payment.database.value("select count(*) from outbox.dead_letter") == 0
    payment.execute("alter function shop.charge_away(jsonb, text) rename to charge")
    payment.wait_status("stuck", "approved")
    service.wait_ready()


@pytest.mark.parametrize("backend_too", (True, False), ids=("transaction-lost", "transaction-ends"))
def test_kill_between_handler_and_commit(payment, backend_too):
    """Rows 000.8, 002.4: killed before COMMIT is answered: effect, claim, answer and watermark all or none; then one."""
    service = payment.start(kafka_properties=SHORT_SESSION)
    with payment.database.connect(autocommit=False) as blocker:
        blocker.execute("select from shop.account where customer_id = 'ada' for update")
        payment.order("cut")
        payment.flush()
        payment.database.wait_for("select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock'"
                                  " and datname = current_database()")
        service.kill9()
        if backend_too:
            payment.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'"
                            " and datname = current_database()")
        blocker.rollback()
    payment.database.wait_for("select count(*) = 0 from pg_stat_activity where application_name = 'outbox consumer'"
                              " and datname = current_database()")
    counts = ("select (select count(*) from shop.payment), (select count(*) from outbox.idempotency),"
              " (select count(*) from outbox.event), (select count(*) from outbox.consumer_offset)")
    assert payment.execute(counts) == [(0, 0, 0, 0) if backend_too else (1, 1, 1, 1)]
    payment.start(kafka_properties=SHORT_SESSION)
    payment.wait_status("cut", "approved")
    payment.order("after")
    payment.flush()
    payment.wait_status("after", "approved")
    assert payment.execute(counts)[0][:3] == (2, 2, 2)


def test_idempotency_in_the_transaction(payment):
    """Row 000.8: ROLLBACK after the handler leaves neither row; of two sessions with one event one has an effect."""
    begin = ("select outbox.begin_batch('c', '{orders.created}', '{0}', %s::bigint[], '{1}', '{1}', '{0}',"
             " '{NULL}'::bytea[], array[%s]::uuid[], '{t}')")
    event = str(uuid.uuid4())
    with payment.database.connect(autocommit=False) as one:
        assert one.execute(begin, ("{NULL}", event)).fetchone()[0] == "n"
        one.execute("select shop.charge('{\"orderId\": \"o\", \"customerId\": \"ada\", \"amount\": 1}', null)")
        one.rollback()
        assert payment.payments() == 0
        assert payment.database.value("select count(*) from outbox.idempotency") == 0
        assert payment.database.value("select count(*) from outbox.consumer_offset") == 0
        found = []
        assert one.execute(begin, ("{NULL}", event)).fetchone()[0] == "n"

        def second():
            with payment.database.connect() as two:
                found.append(two.execute(begin, ("{NULL}", event)).fetchone()[0])
                found.append(two.execute(begin, ("{1}", event)).fetchone()[0])
        thread = threading.Thread(target=second)
        thread.start()
        payment.database.wait_for("select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock'"
                                  " and datname = current_database()")
        one.commit()
        thread.join(20)
    assert found == [None, "d"]


def test_fenced_member(payment):
    """A watermark moved by somebody else: the batch is rolled back, positions are read again, nothing is lost."""
    service = payment.start()
    payment.order("first", partition=2)
    payment.flush()
    payment.wait_status("first", "approved")
    payment.execute("update outbox.consumer_offset set next_offset = 0 where partition = 2")
    payment.order("second", partition=2)
    payment.flush()
    payment.wait_status("second", "approved")
    assert any(line["event"] == "watermark_moved" for line in service.log_lines())
    assert payment.database.value("select next_offset from outbox.consumer_offset where partition = 2") == 2


def test_cancel_and_charge(payment):
    """Refund after the charge; a cancellation before the order has the order declined; each once."""
    payment.start()
    before = payment.database.value("select balance from shop.account where customer_id = 'ada'")
    payment.order("late-cancel", 30)
    payment.flush()
    payment.wait_status("late-cancel", "approved")
    for _ in range(2):
        payment.cancel("late-cancel")
    payment.cancel("early-cancel")
    payment.flush()
    payment.database.wait_for("select count(*) = 2 from shop.payment where cancelled_at is not null")
    payment.order("early-cancel", 30)
    payment.flush()
    payment.wait_status("early-cancel", "declined")
    assert payment.database.value("select detail from shop.payment where order_id = 'early-cancel'") == "ORDER_CANCELLED"
    assert payment.database.value("select balance from shop.account where customer_id = 'ada'") == before


class Gateway(http.server.BaseHTTPRequestHandler):
    """A payment gateway; what it answers depends on the order's name."""

    requests = []
    answers = {"g-ok": [200], "g-poor": [402], "g-bad": [400], "g-busy": [503, 503, 200],
               "g-locked": [401, 403, 409, 200]}

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, body["orderId"], self.headers["Idempotency-Key"]))
        answers = self.answers[body["orderId"]]
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_gateway(payment):
    """Gateway: 2xx approves, 402 declines, 5xx and what no record is to blame for (401, 403, 409) are
    waited out, 4xx is a record error; its key is made of request and order id."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        payment.start(gateway_url=f"http://127.0.0.1:{server.server_port}", retry_backoff_ms=100)
        events = {name: payment.order(name) for name in ("g-locked", "g-busy", "g-ok", "g-poor", "g-bad")}
        payment.flush()
        for name, status in (("g-ok", "approved"), ("g-poor", "declined"), ("g-busy", "approved"),
                             ("g-locked", "approved")):
            payment.wait_status(name, status)
        payment.wait_dead_letters("open", 1)
        cancelled = payment.cancel("g-ok")
        payment.flush()
        payment.database.wait_for("select refunded_at is not null from shop.payment where order_id = 'g-ok'")
        charges = [(order, key) for path, order, key in Gateway.requests if path == "/charges"]
        assert {order for order, _ in charges} == set(events)
        assert all(key == f"charge-{order}" for order, key in charges)
        assert sum(order == "g-busy" for order, _ in charges) == 3
        assert sum(order == "g-bad" for order, _ in charges) == 4
        refunds = [(order, key) for path, order, key in Gateway.requests if path == "/refunds"]
        assert refunds == [("g-ok", "refund-g-ok")]
        assert payment.database.value("select count(*) from outbox.dead_letter") == 1
        assert payment.database.value("select balance from shop.account where customer_id = 'ada'") == 100000000
    finally:
        server.shutdown()
        server.server_close()


def test_poison_among_good(payment):
    """Row 001.6: poison inside a batch: good ones are done once, each poison record is one dead letter."""
    payment.fail_orders("bad", "22023")
    for n in range(400):
        payment.order(f"{'bad' if n % 40 == 7 else 'good'}-{n}", partition=1)
    payment.flush()
    service = payment.start(retry_backoff_ms=100)
    payment.wait_payments(390)
    payment.wait_dead_letters("open", 10)
    assert payment.database.value("select sum(attempts) from outbox.dead_letter") == 40
    assert payment.count(service, "ok") == 390


def test_partitions_start_together(payment):
    """Row 004.8: of idle partitions taken over none waits for another's empty fetch, half a second each."""
    for number in range(3):
        service = payment.start(log_level="debug")
        payment.order(f"o-{number}")
        payment.flush()
        payment.wait_status(f"o-{number}", "approved")
        service.stop()
        started = [datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")) for line in service.log_lines()
                   if line.get("event") == "partition_started"]
        assert len(started) >= 12 and (max(started[:12]) - min(started[:12])).total_seconds() < 1.5


def test_idle_and_end(payment):
    """Row 000.7: one idle line after idle_seconds without records, none while busy; SIGTERM ends with 0."""
    service = payment.start(idle_seconds=1)

    def idle_lines():
        return sum(line["event"] == "idle" for line in service.log_lines())

    def idle_seconds():
        return service.metrics()[f'outbox_consumer_idle_seconds{{consumer="{payment.group}"}}']
    wait_until(lambda: idle_lines() == 1, 10, "an idle line")
    wait_until(lambda: idle_seconds() >= 2, 10, "the metric to go on")
    assert idle_lines() == 1
    payment.order("busy")
    payment.flush()
    wait_until(lambda: idle_lines() == 2, 10, "an idle line after the record")
    assert service.stop() == 0


def test_threads(payment):
    """Row 000.6: three members in one process share six partitions; every record is processed once."""
    service = payment.start(threads=3)
    for n in range(300):
        payment.order(f"order-{n}")
    payment.flush()
    payment.wait_payments(300)
    assert payment.count(service, "ok") == 300
    assert service.stop() == 0
