# SPDX-License-Identifier: PostgreSQL
"""outbox-monitor: lag in records and seconds, statuses, alerts to real HTTP receivers, dead letters, passwords."""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, TopicPartition
from harness import Environment, ShiftedClock, wait_until
from harness.environment import free_port
from harness.receiver import Receiver

FAST = {"poll_seconds": 1, "kafka_timeout_ms": 3000}


@pytest.fixture
def receiver():
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def monitor(service, kafka):
    """monitor(**settings): an outbox-monitor of the run's broker, ready."""
    return lambda **settings: service("outbox-monitor", {"bootstrap_servers": kafka.bootstrap, **FAST, **settings})


def lag_of(monitor, group):
    """The answer for a group, which must be known."""
    status, text = monitor.request("GET", f"/consumer-lag/{group}")
    assert status in (200, 404), text
    return json.loads(text) if status == 200 else None


def wait_lag(monitor, group, probe, timeout=30, what="the lag"):
    """The first answer for the group that probe accepts."""
    def accepted():
        answer = lag_of(monitor, group)
        return answer if answer and probe(answer) else None
    return wait_until(accepted, timeout, what, interval=0.2)


def produce(kafka, topic, count, partition=0, age=0.0):
    """count records, stamped age seconds ago."""
    producer = kafka.producer()
    stamp = int((time.time() - age) * 1000)
    for number in range(count):
        producer.produce(topic, str(number), partition=partition, timestamp=stamp)
    assert producer.flush(30) == 0
    return stamp / 1000


def commit(kafka, group, topic, offset, partition=0):
    """Commit for a group that has no member now."""
    def committed():
        request = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        answer = kafka.admin.alter_consumer_group_offsets([request])[group].result(30)
        return all(part.error is None for part in answer.topic_partitions)
    wait_until(committed, 30, "the commit")


@contextlib.contextmanager
def member(kafka, group, topic, **options):
    """A member of the group that has the topic's partitions, polling when its poll is called."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", "client.id": f"{group}-client", **options})
    consumer.subscribe([topic])

    def assigned():
        consumer.poll(0.2)
        return consumer.assignment()
    try:
        wait_until(assigned, 30, "the assignment", interval=0)
        yield consumer
    finally:
        consumer.close()


def joined_and_gone(kafka, group, topic, offset):
    """A group that had a member, which committed and left."""
    with member(kafka, group, topic) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)


def test_stopped_consumer(monitor, kafka, receiver, unique):
    """Row 000.11: the age of what waits within 2 s; one trigger above 120 s, one resolve; null, never a number, without
    a commit; 404 for a group nobody knows."""
    topic, group = kafka.create_topic(unique("lag"), 2), unique("stopped")
    produce(kafka, topic, 5)
    joined_and_gone(kafka, group, topic, 5)
    stamp = produce(kafka, topic, 3, age=113)
    watch = monitor(webhook_url=receiver.url + "/hook", members_grace_seconds=3600, poll_seconds=2)
    answer = wait_lag(watch, group, lambda a: a["total_lag"] == 3)
    assert answer["estimated_seconds_behind"] == pytest.approx(time.time() - stamp, abs=2)
    assert answer["members"] == 0 and answer["state"] == "Empty" and answer["threshold_seconds"] == 120
    assert answer["alerting"] is False and answer["max_lag_partition"]["partition"] == 0
    [part] = answer["partitions"]
    assert (part["topic"], part["partition"], part["committed_offset"], part["end_offset"]) == (topic, 0, 5, 8)
    assert (part["last_stable_offset"], part["lag"], part["client_id"]) == (8, 3, None)

    def mine():
        return [body for body in receiver.bodies("/hook") if body["labels"] == {"group": group}]
    wait_until(mine, 30, "the trigger")
    assert lag_of(watch, group)["alerting"] is True
    with member(kafka, group, topic) as consumer:
        wait_until(lambda: 1 not in {p["partition"] for p in lag_of(watch, group)["partitions"]
                                     if p["committed_offset"] is not None} and
                   len(lag_of(watch, group)["partitions"]) == 2, 20, "both partitions")
        other = lag_of(watch, group)["partitions"][1]
        assert (other["committed_offset"], other["lag"], other["seconds_behind"]) == (None, None, None)
        assert other["client_id"] == f"{group}-client"
        consumer.commit(offsets=[TopicPartition(topic, 0, 8)], asynchronous=False)
        wait_until(lambda: len(mine()) > 1, 20, "the resolve")
    assert [(body["action"], body["reasons"]) for body in mine()][0] == ("trigger", ["lag_seconds"])
    assert [body["action"] for body in mine()] == ["trigger", "resolve"]
    assert 120 < mine()[0]["seconds_behind"] < 131
    series = f'kafka_consumergroup_group_sum_lag{{cluster_name="kafka",group="{group}"}}'
    assert watch.metrics()[series] == 0
    assert watch.request("GET", "/consumer-lag/nobody")[0] == 404
    kafka.admin.delete_consumer_groups([group])[group].result(30)
    wait_until(lambda: series not in watch.metrics(), 20, "the series to be gone")
    assert len(mine()) == 2, "the polls since then have repeated nothing"


def test_exactly_zero(monitor, kafka, receiver, unique):
    """Row 000.11: an idle topic written by transactions, also an aborted one, has lag exactly 0; what an open
    transaction holds back is no lag yet; first polls and newer group protocols are no alert."""
    topic, group = kafka.create_topic(unique("marked"), 1), unique("marked")
    producer = kafka.producer(transactional_id=group)
    producer.init_transactions(30)
    for end in (producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        producer.produce(topic, "x")
        producer.flush(30)
        end(30)
    with member(kafka, group, topic, **{"group.protocol": "consumer"}) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)  # before the marker
        watch = monitor(webhook_url=receiver.url + "/hook", members_grace_seconds=1)
        answer = wait_lag(watch, group, lambda a: a["partitions"])
        [part] = answer["partitions"]
        assert (part["committed_offset"], part["last_stable_offset"], part["end_offset"]) == (1, 4, 4)
        assert (part["lag"], part["seconds_behind"], part["oldest_pending_at"]) == (0, 0, None)
        assert (answer["total_lag"], answer["estimated_seconds_behind"], answer["status"]) == (0, 0, "OK")
        assert (answer["state"], answer["members"]) == ("Stable", None), "Kafka does not tell of newer groups"
        producer.begin_transaction()
        producer.produce(topic, "held")
        producer.flush(30)
        held = wait_lag(watch, group, lambda a: a["partitions"][0]["end_offset"] == 5)
        assert held["partitions"][0]["last_stable_offset"] == 4 and held["total_lag"] == 0
        producer.commit_transaction(30)
        behind = wait_lag(watch, group, lambda a: a["total_lag"] > 0)
        assert 0 < behind["estimated_seconds_behind"] < 30
        polls = {behind["measured_at"]}
        wait_until(lambda: polls.add(lag_of(watch, group)["measured_at"]) or len(polls) > 4, 30, "polls with lag")
        assert [answer["alerting"], behind["alerting"], lag_of(watch, group)["alerting"]] == [False] * 3
        assert not [body for body in receiver.bodies("/hook") if body["labels"] == {"group": group}]
    metrics = watch.metrics()
    assert metrics['outbox_source_up{source="kafka"}'] == 1


def watch_statuses(kafka, unique, watch, receiver, within, age):
    """Groups that stop, stall, rewind and are left alone: what is said of each, and the alerts. age: of the records."""
    topic = kafka.create_topic(unique("status"), 1)
    stop, stall, back, alone = (unique(name) for name in ("stop", "stall", "back", "alone"))
    produce(kafka, topic, 10, age=age)
    joined_and_gone(kafka, alone, topic, 4)
    commit(kafka, stop, topic, 4)
    commit(kafka, back, topic, 9)
    began = time.monotonic()
    with member(kafka, stall, topic) as consumer:
        consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
        wait_lag(watch, back, lambda a: a["total_lag"] == 1)
        commit(kafka, back, topic, 2)
        wait_lag(watch, back, lambda a: a["status"] == "REWIND")

        def triggered():
            consumer.poll(0)
            return {body["labels"]["group"]: body["reasons"] for body in receiver.bodies("/hook")
                    if body["action"] == "trigger"}
        wait_until(lambda: {stop, stall, alone} <= set(triggered()), within, "the alerts", interval=0.2)
        assert time.monotonic() - began < within
        assert lag_of(watch, stop)["status"] == "STOP"
        assert lag_of(watch, stall)["status"] == "STALL"
        reasons = triggered()
    assert (reasons[stop], reasons[stall], reasons[alone]) == (["stop"], ["stall"], ["no_members"])


def test_statuses(monitor, kafka, receiver, unique):
    """Row 004.14: STOP, STALL and a group that nobody is in raise alerts; REWIND is shown. A group that stands for less
    than half its threshold raises none: some commit once a minute."""
    young, rare = kafka.create_topic(unique("young"), 1), unique("rare")
    produce(kafka, young, 2)
    commit(kafka, rare, young, 1)
    watch = monitor(webhook_url=receiver.url + "/hook", members_grace_seconds=1, lag_threshold_seconds=3600)
    watch_statuses(kafka, unique, watch, receiver, 60, age=2000)
    found = wait_lag(watch, rare, lambda a: a["status"] == "STOP")
    polls = {found["measured_at"]}
    wait_until(lambda: polls.add(lag_of(watch, rare)["measured_at"]) or len(polls) > 2, 30, "two more polls")
    assert lag_of(watch, rare)["alerting"] is False
    assert rare not in [body["labels"]["group"] for body in receiver.bodies("/hook")]


def test_outside_the_log(monitor, kafka, receiver, unique):
    """An offset above the end of a log that was made anew is BEYOND, and records deleted before they were
    read are LOST, each with an alert of its own, never OK with lag 0; both end when the group commits in the log."""
    made, cut, beyond, lost = (unique(name) for name in ("made", "cut", "beyond", "lost"))
    kafka.create_topics([made, cut], 1)
    produce(kafka, made, 20)
    produce(kafka, cut, 10)
    commit(kafka, beyond, made, 20)
    commit(kafka, lost, cut, 4)
    watch = monitor(webhook_url=receiver.url + "/hook", alertmanager_url=receiver.url + "/", lag_threshold_seconds=3600)
    wait_lag(watch, beyond, lambda a: a["status"] == "OK")
    wait_lag(watch, lost, lambda a: a["total_lag"] == 6)
    kafka.delete_topic(made)
    kafka.create_topic(made, 1)
    produce(kafka, made, 5)
    commit(kafka, beyond, made, 20)  # as a consumer does that goes on as if nothing were
    [deleted] = kafka.admin.delete_records([TopicPartition(cut, 0, 7)]).values()
    assert deleted.result(30).low_watermark == 7

    def told(group):
        return [body for body in receiver.bodies("/hook") if body["labels"] == {"group": group}]
    for group in (beyond, lost):
        wait_until(lambda: told(group), 40, f"the alert of {group}")
    answer = wait_lag(watch, beyond, lambda a: a["status"] == "BEYOND")
    [part] = answer["partitions"]
    assert (part["status"], part["committed_offset"], part["end_offset"], part["beyond_end"]) == ("BEYOND", 20, 5, 15)
    assert (part["lag"], answer["total_lag"], answer["estimated_seconds_behind"]) == (None, None, None)
    assert answer["alerting"] is True and answer["alerting_since"] is not None
    answer = wait_lag(watch, lost, lambda a: a["status"] == "LOST")
    [part] = answer["partitions"]
    assert (part["committed_offset"], part["start_offset"], part["lost"], part["lag"]) == (4, 7, 3, 3)
    assert {key: told(beyond)[0][key] for key in ("action", "key", "kind", "reasons", "status", "topic", "partition")} == {
        "action": "trigger", "key": f"offsets/kafka/{beyond}", "kind": "offsets", "reasons": ["beyond_end"],
        "status": "BEYOND", "topic": made, "partition": 0}
    assert told(beyond)[0]["summary"] == (f"consumer group {beyond} has committed offset 20 of {made} [0], whose log ends"
                                          " at 5: was the topic made anew?")
    assert (told(lost)[0]["reasons"], told(lost)[0]["start_offset"]) == (["records_lost"], 7)
    metrics = watch.metrics()
    labels = 'cluster_name="kafka",group="{}",topic="{}",partition="0",member_host="",consumer_id="",client_id=""'
    assert metrics["outbox_consumer_group_beyond_end{%s}" % labels.format(beyond, made)] == 15
    assert metrics["outbox_consumer_group_lost{%s}" % labels.format(lost, cut)] == 3
    assert metrics[f'outbox_consumer_group_status{{cluster_name="kafka",group="{beyond}",status="BEYOND"}}'] == 1
    assert "kafka_consumergroup_group_lag{%s}" % labels.format(beyond, made) not in metrics
    commit(kafka, beyond, made, 5)
    commit(kafka, lost, cut, 10)
    for group in (beyond, lost):
        wait_until(lambda: len(told(group)) == 2, 40, f"the end of {group}'s alert")
        assert told(group)[1]["action"] == "resolve" and lag_of(watch, group)["status"] == "OK"
    names = {alert["labels"]["alertname"] for body in receiver.bodies("/api/v2/alerts") for alert in body
             if alert["labels"]["group"] in (beyond, lost)}
    assert names == {"OutboxConsumerOffsets"}


JOINED = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "auto.offset.reset": "earliest",
                     "enable.auto.commit": False})
consumer.subscribe([sys.argv[3]])
while True:
    message = consumer.poll(1)
    if message is not None and message.error() is None:
        consumer.commit(message, asynchronous=False)
        print("committed", flush=True)
"""


@contextlib.contextmanager
def killed_member(kafka, group, topic):
    """A program with Kafka's default session that has joined, committed the first record, and was killed."""
    program = subprocess.Popen([sys.executable, "-c", JOINED, kafka.bootstrap, group, topic], stdout=subprocess.PIPE,
                               text=True)
    try:
        assert program.stdout.readline() == "committed\n"
        program.kill()
        yield
    finally:
        program.kill()
        program.wait()


@pytest.mark.long
def test_statuses_in_time(monitor, kafka, receiver, unique):
    """Row 004.14 with the settings as they are shipped: within 90 s; also of a group whose only member is killed."""
    topic, killed = kafka.create_topic(unique("killed"), 1), unique("killed")
    watch = monitor(webhook_url=receiver.url + "/hook", poll_seconds=5, kafka_timeout_ms=5000)
    produce(kafka, topic, 1)
    with killed_member(kafka, killed, topic):
        began = time.monotonic()
        produce(kafka, topic, 3)
        watch_statuses(kafka, unique, watch, receiver, 90, age=0)
        wait_until(lambda: lag_of(watch, killed)["alerting"], began + 90 - time.monotonic(), "the killed member's alert")


def queried_metrics():
    """What the rules and the dashboard of examples/monitoring ask for."""
    folder = Environment().root / "examples" / "monitoring"
    rules = re.findall(r"expr: (.*)", (folder / "prometheus-rules.yml").read_text())
    panels = json.loads((folder / "grafana-dashboard.json").read_text())["panels"]
    queries = rules + [target["expr"] for panel in panels for target in panel["targets"]]
    return {name for query in queries for name in re.findall(r"\b(?:kafka_|outbox_)\w+", query)}


def test_sinks(monitor, kafka, receiver, unique, session):
    """What each sink is sent, word by word; one that fails is tried again and delays no other one; a restart neither
    repeats nor forgets an alert."""
    topic, group = kafka.create_topic(unique("sink"), 1), unique("sink")
    produce(kafka, topic, 2, age=100)
    commit(kafka, group, topic, 1)

    def posted(path):
        """What was posted there of this group: other tests' may stand outside their logs."""
        if path != "/api/v2/alerts":
            return [body for body in receiver.bodies(path) if group in json.dumps(body)]
        own = [[alert for alert in body if alert["labels"].get("group") == group] for body in receiver.bodies(path)]
        return [body for body in own if body]
    key_file = session.data / f"{group}.key"
    key_file.write_text("R0UT1NG\n")
    session.environment.give(key_file)
    receiver.status["/v2/enqueue"] = 503
    watch = monitor(webhook_url=receiver.url + "/hook", pagerduty_url=receiver.url, alertmanager_url=receiver.url + "/",
                    pagerduty_routing_key_file=key_file, cluster_name="main", lag_threshold_seconds=3600,
                    lag_thresholds=f"other*=50\n{group[:4]}*=60", state_file=session.data / f"{group}.state",
                    ignore_groups="outbox-relay.*\n" + "\n".join(f"{name}_*" for name in (
                        "stop", "stall", "alone", "back", "stopped", "marked", "rare", "killed", "away")))
    [hook] = wait_until(lambda: posted("/hook"), 20, "the webhook's trigger")
    seconds, since = hook["seconds_behind"], hook["since"]
    assert hook == {
        "action": "trigger", "key": f"lag/main/{group}", "kind": "lag", "cluster": "main", "labels": {"group": group},
        "reasons": ["lag_seconds"], "status": "UNKNOWN", "total_lag": 1, "seconds_behind": seconds,
        "threshold_seconds": 60.0, "since": since, "since_ms": hook["since_ms"], "at": since,
        "summary": f"consumer group {group} is {seconds:.0f} s behind (1 records, UNKNOWN, 0 members)",
    }
    [[firing]] = wait_until(lambda: posted("/api/v2/alerts"), 20, "Alertmanager's trigger")
    labels = {"alertname": "OutboxConsumerLag", "cluster": "main", "severity": "critical", "group": group}
    assert firing == {"labels": labels, "annotations": {"summary": hook["summary"]}, "startsAt": since}
    assert not posted("/v2/enqueue") and "/v2/enqueue" in receiver.attempts
    wait_until(lambda: any("outbox_alerts_failed_total" in series for series in watch.metrics()), 60, "the failed try's count")
    told = {series.split("{")[0] for series in watch.metrics()}
    services = {"outbox_consumer_halted_partitions", "outbox_consumer_infra_errors_total", "outbox_consumer_breaker_open",
                "outbox_consumer_log_changes_total", "outbox_consumer_lost_records_total", "outbox_dead_letters_unpublished"}
    database = {"outbox_dead_letters", "outbox_dead_letter_oldest_seconds", "outbox_topic_held_seconds"}
    assert queried_metrics() - told == services | database, "metrics that this monitor, which watches no database, does not have"
    assert watch.stop() == 0
    receiver.status.clear()
    watch.start()
    [page] = wait_until(lambda: posted("/v2/enqueue"), 20, "PagerDuty's trigger")
    details = {name: value for name, value in hook.items() if name != "action"}
    assert page == {
        "routing_key": "R0UT1NG", "event_action": "trigger", "dedup_key": f"lag/main/{group}",
        "payload": {"summary": hook["summary"], "source": "main", "severity": "critical", "timestamp": since,
                    "class": "lag", "custom_details": details},
    }
    wait_until(lambda: lag_of(watch, group)["alerting"], 20, "the alert after the restart")
    assert len(posted("/hook")) == 1, "the restart does not repeat it"
    commit(kafka, group, topic, 2)
    page = wait_until(lambda: posted("/v2/enqueue")[1:], 20, "PagerDuty's resolve")
    assert page == [{"routing_key": "R0UT1NG", "event_action": "resolve", "dedup_key": f"lag/main/{group}"}]
    [_, done] = wait_until(lambda: posted("/hook")[1:] and posted("/hook"), 20, "the resolve")
    assert (done["action"], done["since"], done["total_lag"]) == ("resolve", since, 0)
    ended = wait_until(lambda: [a for [a] in posted("/api/v2/alerts") if "endsAt" in a], 20, "the end")
    assert ended == [{**firing, "annotations": {"summary": done["summary"]}, "endsAt": done["at"]}]


def test_one_alert_stops_no_other(monitor, kafka, receiver, unique):
    """One alert answered 500, another never; those behind them arrive, also by Alertmanager's repeats; when the
    receiver has recovered, each of the two begins before it ends."""
    topic = kafka.create_topic(unique("apart"), 1)
    produce(kafka, topic, 2, age=100)
    names = [unique(f"apart_{n}") for n in ("a_failing", "b_hanging", "c", "d", "e")]
    for group in names:
        commit(kafka, group, topic, 1)
    recovered = threading.Event()

    def judge(path, body):
        text = json.dumps(body)
        if names[1] in text:
            recovered.wait(30)
        return 500 if names[0] in text and not recovered.is_set() else None
    receiver.judge = judge

    def told(path, group):
        """(action, ...) of the group, as Alertmanager's form or the webhook's has them."""
        flat = [alert for body in receiver.bodies(path) for alert in (body if isinstance(body, list) else [body])]
        return [alert.get("action") or ("resolve" if "endsAt" in alert else "trigger")
                for alert in flat if alert["labels"].get("group") == group]
    watch = monitor(webhook_url=receiver.url + "/hook", alertmanager_url=receiver.url, alertmanager_repeat_seconds=1,
                    lag_threshold_seconds=60, ignore_groups="[!a]*")
    try:
        for group in names[2:]:
            wait_until(lambda: told("/hook", group) == ["trigger"], 20, f"the webhook's {group}")
            wait_until(lambda: told("/api/v2/alerts", group).count("trigger") >= 3, 20, f"repeats of {group}")
        for group in names:
            commit(kafka, group, topic, 2)
        for group in names[2:]:
            wait_until(lambda: told("/hook", group) == ["trigger", "resolve"], 20, f"the webhook's end of {group}")
            wait_until(lambda: told("/api/v2/alerts", group)[-1] == "resolve", 20, f"the end of {group}")
        assert not told("/hook", names[0]) and not told("/api/v2/alerts", names[0])
    finally:
        recovered.set()
    for group in names[:2]:
        for path in ("/hook", "/api/v2/alerts"):
            wait_until(lambda: told(path, group)[-1:] == ["resolve"], 60, f"the end of {group} at {path}")
            actions = told(path, group)
            assert actions.index("trigger") < actions.index("resolve") and "trigger" not in actions[actions.index("resolve"):]
    assert watch.stop() == 0


def test_age_of_the_event(monitor, kafka, unique):
    """The age of what waits is that of the event, ce_time, in binary and in structured mode; of a record without
    one, with a date that is none, or with one that is yet to come, it is the record's."""
    topic = kafka.create_topic(unique("aged"), 6)
    now = time.time()

    def stamp(age):
        return time.strftime("%Y-%m-%dt%H:%M:%S.25z", time.gmtime(now - age))
    envelope = {"specversion": "1.0", "id": "1", "source": "/s", "type": "T", "time": stamp(700)}
    records = [
        (600, 30, [("ce_time", stamp(600))], "x"),
        (700, 30, [("content-type", "application/cloudevents+json")], json.dumps(envelope)),
        (40, 800, [("ce_time", stamp(40))], "x"),
        (900, 900, [], "x"),
        (900, 900, [("ce_time", "2026-02-31T00:00:00Z")], "x"),
        (900, 900, [("ce_time", stamp(-7200))], "x"),
    ]
    producer = kafka.producer()
    group = unique("aged")
    for number, (_, record_age, headers, value) in enumerate(records):
        producer.produce(topic, value, partition=number, headers=headers, timestamp=int(1000 * (now - record_age)))
    assert producer.flush(30) == 0
    for number in range(len(records)):
        commit(kafka, group, topic, 0, number)
    watch = monitor(lag_threshold_seconds=100000)
    answer = wait_lag(watch, group, lambda a: a["total_lag"] == len(records) and
                      all(part["seconds_behind"] is not None for part in a["partitions"]))
    ages = {part["partition"]: part["seconds_behind"] for part in answer["partitions"]}
    late = time.time() - now
    assert [ages[n] for n in range(6)] == [pytest.approx(age + late, abs=2) for age, _, _, _ in records]
    assert answer["estimated_seconds_behind"] == pytest.approx(900 + late, abs=2)


def test_clock_is_set(kafka, unique, service, session):
    """The monitor's polls follow a clock that does not step: it polls on while its wall clock is an hour off."""
    clock = ShiftedClock(session, unique("monitor"))
    topic, group = kafka.create_topic(unique("stepped"), 1), unique("stepped")
    produce(kafka, topic, 1)
    commit(kafka, group, topic, 0)
    watch = service("outbox-monitor", {"bootstrap_servers": kafka.bootstrap, "poll_seconds": 1}, env=clock.variables, start=False)
    clock.shift(3600)
    watch.start()
    wait_lag(watch, group, lambda a: a["total_lag"] == 1)
    produce(kafka, topic, 2)
    wait_lag(watch, group, lambda a: a["total_lag"] == 3)
    clock.shift(-3600)
    produce(kafka, topic, 1)
    wait_lag(watch, group, lambda a: a["total_lag"] == 4)


def test_renamed_cluster_and_ignored_groups(monitor, kafka, receiver, unique, session):
    """Ignored groups are not told of and raise no alert; an alert under another cluster_name than now is ended."""
    topic, group, ignored = kafka.create_topic(unique("named"), 1), unique("named"), unique("unseen")
    produce(kafka, topic, 2, age=100)
    for name in (group, ignored):
        commit(kafka, name, topic, 1)
    watch = monitor(webhook_url=receiver.url + "/hook", cluster_name="old", lag_threshold_seconds=3600,
                    lag_thresholds=f"{group} = 60\n{ignored} =60", ignore_groups=f"none \n{ignored} \nx",
                    state_file=session.data / f"{group}.state")

    def told():
        return [(body["action"], body["key"]) for body in receiver.bodies("/hook")
                if body["labels"]["group"] in (group, ignored)]
    wait_until(told, 20, "the trigger")
    assert watch.request("GET", f"/consumer-lag/{ignored}")[0] == 404
    assert watch.stop() == 0
    watch.config.update(cluster_name="new", ignore_groups="none")
    watch.write_config()
    watch.start()
    wait_until(lambda: len(told()) == 4, 20, "the end of the old one, two triggers")
    assert told()[:2] == [("trigger", f"lag/old/{group}"), ("resolve", f"lag/old/{group}")]
    assert set(told()[2:]) == {("trigger", f"lag/new/{group}"), ("trigger", f"lag/new/{ignored}")}
    assert watch.request("GET", f"/consumer-lag/{ignored}")[0] == 200


@pytest.fixture
def watcher(database, unique):
    """A role that may count the database's dead letters, and do nothing with them."""
    name = unique("watcher")
    database.execute(f"create role {name} login")
    database.execute("select outbox.grant_watch(%s::regrole)", (name,))
    yield name
    database.execute(f"drop owned by {name}")
    database.execute(f"drop role {name}")


def test_dead_letters(monitor, database, watcher, receiver, topic):
    """Row 002.8: depth above the threshold raises an alert, and gauge and alert fall with discard and replay."""
    database.declare(f"{topic}.DLT")

    def add(offset):
        return database.value(
            """select outbox.dead_letter_add('biller', %s, 0, %s, 'k', '{}', null, now(), gen_random_uuid(), 'Tested',
                                             null, 'open', 'permanent', 'OBX01', 'refused', 0)""", (topic, offset))
    letters = [add(offset) for offset in range(3)]
    watch = monitor(databases=f"{database.dsn(user=watcher)}\nhost=127.0.0.1 port=1 dbname=away connect_timeout=2",
                    dead_letter_threshold=2, webhook_url=receiver.url + "/hook")
    server = database.cluster.host + ":" + str(database.cluster.port)
    labels = f'server="{server}",database="{database.name}"'
    series = f'outbox_dead_letters{{{labels},consumer="biller",topic="{topic}",state="open"}}'

    def mine():
        return [body for body in receiver.bodies("/hook") if body["kind"] == "dead_letters"]
    [trigger] = wait_until(mine, 20, "the trigger")
    assert trigger["labels"] == {"database": database.name, "server": server, "consumer": "biller", "topic": topic}
    assert (trigger["action"], trigger["letters"], trigger["threshold"], trigger["reasons"]) == (
        "trigger", 3, 2, ["depth"])
    assert watch.metrics()[series] == 3
    found, away = json.loads(watch.request("GET", "/dead-letters")[1])["databases"]
    assert [(d["consumer"], d["topic"], d["state"], d["letters"]) for d in found["dead_letters"]] == [
        ("biller", topic, "open", 3)]
    assert away["up"] is False and away["error"]
    metrics = watch.metrics()
    assert metrics[f'outbox_source_up{{source="database",{labels}}}'] == 1
    assert metrics['outbox_source_up{source="database",server="127.0.0.1:1",database="away"}'] == 0
    for letter in letters[:2]:
        database.execute("select outbox.dead_letter_discard(%s, 'tested')", (letter,))
    wait_until(lambda: watch.metrics()[series] == 1, 20, "the gauge to fall")
    wait_until(lambda: len(mine()) == 2, 20, "the resolve")
    assert mine()[1]["action"] == "resolve" and mine()[1]["letters"] == 1
    database.execute("select outbox.dead_letter_replay(%s)", (letters[2],))
    wait_until(lambda: series not in watch.metrics(), 20, "the gauge to fall")


def test_topic_held(monitor, database, watcher, receiver, topic):
    """A topic held apart is told of by /topic-holds and gauges, and raises an alert that only its end ends; one that is not
    held for long raises none."""
    def hold(name, age, events):
        """As the relay writes it."""
        number = database.value(
            """insert into outbox.topic_hold (topic, cause, partition, reason, held_at)
               values (%s, 'leader', 2, 'partition 2 has no leader', clock_timestamp() - %s * interval '1 s') returning id""",
            (name, age))
        database.execute(
            """insert into outbox.topic_hold_batch (hold, batch_no, lower, upper, events, bytes, oldest_at)
               values (%s, 7, '3:3:', '5:5:', %s, 300, clock_timestamp() - interval '1 h')""", (number, events))
    hold(topic, 3000, 3)
    hold(f"{topic}.new", 0, 1)
    watch = monitor(databases=f"{database.dsn(user=watcher)}", topic_held_threshold_seconds=1000,
                    webhook_url=receiver.url + "/hook", alertmanager_url=receiver.url)
    server = database.cluster.host + ":" + str(database.cluster.port)
    subject = {"database": database.name, "server": server, "topic": topic}

    def mine():
        return [body for body in receiver.bodies("/hook") if body["kind"] == "topic_held"]
    [trigger] = wait_until(mine, 20, "the trigger")
    assert trigger["labels"] == subject and trigger["action"] == "trigger" and trigger["reasons"] == ["held"]
    assert (trigger["cause"], trigger["partition"], trigger["state"]) == ("leader", 2, "held")
    assert (trigger["events"], trigger["bytes"], trigger["threshold_seconds"]) == (3, 300, 1000)
    assert trigger["held_seconds"] >= 3000 and "partition 2 has no leader" in trigger["summary"]
    wait_until(lambda: any(alert["labels"]["alertname"] == "OutboxTopicHeld" and alert["labels"]["topic"] == topic
                           for alerts in receiver.bodies("/api/v2/alerts") for alert in alerts), 20, "Alertmanager's")
    [told] = json.loads(watch.request("GET", "/topic-holds")[1])["databases"]
    assert [(d["topic"], d["cause"], d["partition"], d["state"], d["events"]) for d in told["topic_holds"]] == [
        (topic, "leader", 2, "held", 3), (f"{topic}.new", "leader", 2, "held", 1)]
    labels = f'server="{server}",database="{database.name}"'
    series = f'{{{labels},topic="{topic}",cause="leader",state="held"}}'
    metrics = watch.metrics()
    assert metrics[f"outbox_topics_held{{{labels}}}"] == 2
    assert metrics[f"outbox_topic_held_events{series}"] == 3 and metrics[f"outbox_topic_held_bytes{series}"] == 300
    assert metrics[f"outbox_topic_held_seconds{series}"] >= 3000
    assert metrics[f"outbox_topic_held_oldest_seconds{series}"] >= 3600
    database.execute("update outbox.topic_hold set state = 'ended'")
    wait_until(lambda: len(mine()) == 2, 20, "the resolve")
    assert mine()[1]["action"] == "resolve" and mine()[1]["labels"] == subject
    assert watch.metrics()[f"outbox_topics_held{{{labels}}}"] == 0
    assert f"outbox_topic_held_events{series}" not in watch.metrics()


def test_frozen_database(monitor, database, make_database, receiver, topic):
    """A database that does not answer, not even with an error, hides no other one's dead letters and delays no end."""
    other = make_database(database.cluster)
    for found in (database, other):
        found.declare(f"{topic}.DLT")
    watch = monitor(databases=f"{database.dsn()}\n{other.dsn()}", dead_letter_threshold=0, webhook_url=receiver.url + "/hook")

    pids = []

    def freeze():
        """Stops the server process that answers the monitor for the first database, another one each time."""
        pid = wait_until(lambda: database.value(
            "select pid from pg_stat_activity where datname = current_database() and query like '%%dead_letter_depth%%' "
            "and state = 'idle' and pid <> pg_backend_pid() and pid <> all (%s::int[])", (pids,)), 30, "the monitor's connection")
        os.kill(pid, signal.SIGSTOP)
        pids.append(pid)
    try:
        freeze()
        other.value("""select outbox.dead_letter_add('biller', %s, 0, 1, 'k', '{}', null, now(), gen_random_uuid(), 'Tested',
                                                     null, 'open', 'permanent', 'OBX01', 'refused', 0)""", (topic,))
        wait_until(lambda: any(body["labels"].get("database") == other.name for body in receiver.bodies("/hook")), 30,
                   "the other's alert")
        assert [line for line in watch.log_lines() if line["event"] == "database_down" and database.name in line["msg"]]
        freeze()
        assert watch.stop(timeout=20) == 0
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_kafka_away(monitor, kafka, receiver, unique):
    """Kafka that does not answer: 503 with the reason, the metrics page stays, no alert ends, also not in Alertmanager,
    which forgets what is not repeated; then all is back."""
    topic, group = kafka.create_topic(unique("away"), 1), unique("away")
    produce(kafka, topic, 2, age=100)
    commit(kafka, group, topic, 1)
    watch = monitor(webhook_url=receiver.url + "/hook", lag_threshold_seconds=60, kafka_timeout_ms=1000,
                    alertmanager_url=receiver.url, alertmanager_repeat_seconds=1)
    wait_lag(watch, group, lambda a: a["alerting"])
    kafka.pause()
    status, text = wait_until(lambda: (lambda got: got if got[0] == 503 else None)(
        watch.request("GET", f"/consumer-lag/{group}")), 30, "503")
    assert json.loads(text)["error"].startswith("Kafka does not answer: ")
    assert watch.request("GET", "/consumer-lag")[0] == 503
    assert watch.metrics()['outbox_source_up{source="kafka"}'] == 0
    assert watch.request("GET", "/readyz")[0] == 503 and watch.request("GET", "/livez")[0] == 200

    def repeated():
        """How often Alertmanager was told that it goes on."""
        return len([alert for alerts in receiver.bodies("/api/v2/alerts") for alert in alerts
                    if alert["labels"]["group"] == group and "endsAt" not in alert])
    before = repeated()
    wait_until(lambda: repeated() > before + 1, 30, "repeats")
    assert watch.request("GET", "/consumer-lag")[0] == 503, "Kafka has been away all the time"
    kafka.resume()
    wait_until(lambda: watch.request("GET", f"/consumer-lag/{group}")[0] == 200, 30, "Kafka's return")
    assert watch.metrics()['outbox_source_up{source="kafka"}'] == 1
    mine = [body["action"] for body in receiver.bodies("/hook") if body["labels"] == {"group": group}]
    assert mine == ["trigger"]


def hash_of(password):
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(password.encode(), b"$y$j75$saltsaltsalt").decode()


def test_passwords(service, kafka, session):
    """Lag, dead letters and metrics need a password when there is a file of them; health does not."""
    path = session.data / "monitor.auth"
    path.write_text(f"# readers\nana:{hash_of('secret')}\n")
    session.environment.give(path)
    watch = service("outbox-monitor", {"bootstrap_servers": kafka.bootstrap, "auth_file": path,
                                       "http_address": "0.0.0.0", **FAST})

    def status(path, user=None):
        token = base64.b64encode(user.encode()).decode() if user else ""
        return watch.request("GET", path, headers={"Authorization": f"Basic {token}"} if user else None)[0]
    assert [status(page) for page in ("/consumer-lag", "/consumer-lag/x", "/dead-letters", "/metrics")] == [401] * 4
    assert [status("/metrics", user) for user in ("ana:wrong", "ana:", "bob:secret", "ana", ":secret")] == [401] * 5
    assert [status(page, "ana:secret") for page in ("/consumer-lag", "/consumer-lag/x", "/dead-letters", "/metrics")] \
        == [200, 404, 200, 200]
    assert [status(page) for page in ("/livez", "/readyz")] == [200, 200]


def test_health_address(service, kafka):
    """Health alone, at an address of its own: nothing else is shown there. On a loopback address a strange name is refused."""
    port = free_port()
    watch = service("outbox-monitor", {"bootstrap_servers": kafka.bootstrap, "health_address": f"[::1]:{port}", **FAST})

    def status(host, path, name=None):
        connection = http.client.HTTPConnection(host, port if host == "::1" else watch.config["http_port"], timeout=20)
        connection.request("GET", path, headers={"Host": name} if name else {})
        answer = connection.getresponse().status
        connection.close()
        return answer
    assert [status("::1", page) for page in ("/livez", "/readyz", "/metrics", "/consumer-lag")] == [200, 200, 404, 404]
    assert [status("127.0.0.1", page) for page in ("/livez", "/metrics", "/consumer-lag")] == [200] * 3
    assert [status("127.0.0.1", page, "evil.example") for page in ("/metrics", "/livez")] == [421, 200]


def test_sample():
    """The sample file is valid."""
    conf = Environment().root / "examples" / "monitoring" / "monitor.conf"
    done = subprocess.run([Environment().bindir / "outbox-monitor", "--config", conf, "--check-config"], env={},
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text, reason", [
    ("http_address = 0.0.0.0\n", "http_address: not a loopback address: auth_file is needed"),
    ("auth_file = {auth}\n", "line 1: the hash is none that crypt(3) takes"),
    ("auth_file = {auth}.none\n", "cannot read"),
    ("lag_thresholds = billing\n", "lag_thresholds: not of the form group=seconds"),
    ("lag_thresholds = billing=0\n", "lag_thresholds: not of the form group=seconds"),
    ("lag_thresholds = billing=99999999999999999999\n", "not of the form group=seconds, with 1 to 31536000 seconds"),
    ("databases = dbnam=x\n", 'line 2: databases: has an option that libpq does not know: is "dbname" meant?'),
    ("databases =\n  dbname=x password='a;b #'\n  dbname=y password=hidden tail\n", "line 4: databases: is not of the form option=value"),
    ("databases = dbname=orders; dbname=payment\n", "line 2: databases: option dbname is given twice"),
    ("databases = postgresql://u:front@hidden@h/x\n", 'line 2: databases: has "@" where a URI takes none'),
    ("lag_thresholds = a*=1; b*=2\n", 'line 2: lag_thresholds: has another threshold behind a ";"'),
    ("ignore_groups =\n  a*;b*\n", 'line 3: ignore_groups: has ";" in it'),
    ("ignore_groups = 'a*'\n", "line 2: ignore_groups: has quotes around it"),
    ("pagerduty_routing_key_file = {auth}.none\n", "line 2: pagerduty_routing_key_file: the file cannot be read"),
    ("state_file = {auth}.none/x\n", "line 2: state_file: the file cannot be read and written"),
    ("http_address = localhost\n", "http_address: no IPv4 address"),
    ("http_address = ::\n", "http_address: not a loopback address: auth_file is needed"),
    ("health_address = localhost:1\n", "health_address: neither an address with a port"),
    ("health_address = 127.0.0.1:8189\n", "health_address: http_address and http_port are the same place"),
    ("http_hosts = a:1\n", "http_hosts: an item is neither a name without a port nor *"),
    ("kafka_properties = session.timeout.ms=6000\n", '"session.timeout.ms" is of no use on this side'),
    ("kafka_properties = fetch.wait.max.ms=6000\n", '"fetch.wait.max.ms" is set by outbox itself'),
    ("webhook_url = example.org\n", "webhook_url"),
    ("kafka_properties = plugin.library.paths=x.so\n", "plugin.library.paths"),
])
def test_refusals(tmp_path, text, reason):
    """It does not start with settings that are wrong or would show everything to everybody."""
    auth = tmp_path / "auth"
    auth.write_text("ana:secret\n")
    conf = tmp_path / "monitor.conf"
    conf.write_text("bootstrap_servers = localhost:1\n" + text.format(auth=auth))
    done = subprocess.run([Environment().bindir / "outbox-monitor", "--config", conf], env={}, capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 2
    assert reason in done.stderr and "hidden" not in done.stderr


def test_online(tmp_path, kafka, database):
    """--check-config=online asks Kafka and each of the databases, and tells which setting is to blame."""
    conf = tmp_path / "monitor.conf"

    def ask(bootstrap=kafka.bootstrap, databases=database.dsn()):
        conf.write_text(f"bootstrap_servers = {bootstrap}\ndatabases =\n  {database.dsn()}\n  {databases}\n")
        done = subprocess.run([Environment().bindir / "outbox-monitor", "--config", conf, "--check-config=online"], env={},
                              capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr
    assert ask() == (0, "outbox-monitor: the configuration is valid, database and Kafka answer\n")
    code, text = ask(databases="host=127.0.0.1 port=1 dbname=x password=hidden")
    assert code == 1 and "databases:" in text and "hidden" not in text
    code, text = ask(bootstrap="127.0.0.1:1")
    assert code == 1 and "Kafka:" in text
