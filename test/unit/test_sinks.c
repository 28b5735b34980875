/* SPDX-License-Identifier: PostgreSQL
 *
 * test_sinks.c
 *	  The queues of outbox-monitor's sinks and what is sent of them, without threads.
 */
#include <string.h>

#include "unit.h"
#include "services/monitor/settings.h"
#include "services/monitor/sink_body.h"
#include "services/monitor/sink_queue.h"
#include "services/monitor/sink_body.h"
#include "services/monitor/sinks.h"

#define MANY 1000

OutboxMonitorSettings outbox_monitor = {
	.webhook_url = "http://localhost:1/hook",
	.pagerduty_url = "http://localhost:1",
	.pagerduty_routing_key_file = "",
	.alertmanager_url = "http://localhost:1",
};

static void
ignore_change(void)
{
}

static json_t *
make_alert(const char *key)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s}}", "key", key, "kind", "lag",
					 "cluster", "kafka", "summary", "behind", "since", "then", "at", "now",
					 "labels", "group", key);
}

static size_t
count_queued(const char *sink)
{
	json_t *queues = outbox_sinks_dump();
	size_t	count = json_array_size(json_object_get(queues, sink));

	json_decref(queues);
	return count;
}

static void
test_many_alerts(void)
{
	json_t	   *firing = json_object();
	json_t	   *queues;
	json_t	   *body;
	json_t	   *list;
	json_t	   *alert;
	const char *name;
	char		key[32];

	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "lag/kafka/%d", i);
		json_object_set_new(firing, key, make_alert(key));
	}
	outbox_sinks_repeat(firing);
	queues = outbox_sinks_dump();
	body = json_array();
	json_object_foreach(firing, name, alert)
		json_array_append(body, alert);
	CHECK(json_array_size(json_object_get(queues, "alertmanager")) == 0, "a repeat is not kept");
	json_decref(queues);
	list = outbox_sink_repeat_body(body);
	CHECK(json_array_size(list) == MANY, "all of them");
	CHECK(json_object_get(json_array_get(list, MANY - 1), "startsAt") != NULL &&
			  json_object_get(json_array_get(list, MANY - 1), "endsAt") == NULL,
		  "as alerts that go on");
	json_decref(list);
	json_decref(body);
	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "lag/kafka/%d", i);
		outbox_sinks_send("trigger", json_object_get(firing, key));
	}
	CHECK(count_queued("webhook") == MANY, "as many triggers at once lose none");
	queues = json_pack("{s:[{s:s, s:o}, {s:s, s:o}]}", "webhook", "action", "resolve", "alert",
					   make_alert("restored"), "action", "resolve", "alert", json_object());
	outbox_sinks_restore(queues);
	CHECK(count_queued("webhook") == MANY + 1, "what is no alert is not restored");
	json_decref(queues);
	json_decref(firing);
}

static OutboxSinkQueue lines;

/* Queues a change of the alert, returns how many are lost. */
static size_t
add(const char *action, const char *key)
{
	json_t *alert = make_alert(key);
	size_t	lost = outbox_sink_queue_add(&lines, action, alert);

	json_decref(alert);
	return lost;
}

/* "key action" of what is to be sent next, which is then under way; "": nothing. */
static const char *
take(int64_t now_ms, bool retries, OutboxSinkLine **line)
{
	static char text[64];

	*line = outbox_sink_queue_next(&lines, now_ms, retries);
	if (*line == NULL)
		return "";
	(*line)->under_way = true;
	snprintf(text, sizeof(text), "%s %s", (*line)->key, (*line)->changes[0].action);
	return text;
}

static void
test_lines(void)
{
	OutboxSinkLine *bad;
	OutboxSinkLine *line;

	add("trigger", "bad");
	add("trigger", "a");
	add("resolve", "bad");
	add("resolve", "a");
	CHECK(strcmp(take(0, true, &bad), "bad trigger") == 0, "the oldest first");
	CHECK(strcmp(take(0, true, &line), "a trigger") == 0, "what is under way stops no other alert");
	CHECK(strcmp(take(0, true, &(OutboxSinkLine *) {NULL}), "") == 0,
		  "an alert's second change waits for its first");
	outbox_sink_queue_sent(&lines, bad, false, 0);
	outbox_sink_queue_sent(&lines, line, true, 0);
	CHECK(strcmp(take(0, true, &line), "a resolve") == 0, "what fails stops no other alert");
	outbox_sink_queue_sent(&lines, line, true, 0);
	CHECK(lines.line_count == 1 && outbox_sink_queue_wait(&lines, 0, 60000) == 1000,
		  "it waits for a second");
	CHECK(strcmp(take(999, true, &line), "") == 0 && strcmp(take(1000, false, &line), "") == 0,
		  "no sooner, if retries have room");
	for (int i = 1, pause = 2000, now = 1000; i < 9;
		 i++, now += pause, pause = pause < 30000 ? 2 * pause : 60000)
	{
		CHECK(strcmp(take(now, true, &bad), "bad trigger") == 0, "and is tried again");
		outbox_sink_queue_sent(&lines, bad, false, now);
		CHECK(outbox_sink_queue_wait(&lines, now, 100000) == pause, "ever later, a minute at most");
	}
	add("trigger", "c");
	CHECK(strcmp(take(1000000, true, &line), "c trigger") == 0, "what was not tried comes first");
	CHECK(strcmp(take(1000000, true, &bad), "bad trigger") == 0, "then what is due");
	outbox_sink_queue_sent(&lines, bad, true, 1000000);
	CHECK(strcmp(take(1000000, true, &bad), "bad resolve") == 0, "then its next change, at once");
	outbox_sink_queue_free(&lines);
}

static void
test_bounds(void)
{
	OutboxSinkLine *line;
	char			key[32];
	size_t			lost = 0;
	bool			alternate = true;

	for (int i = 0; i < 101; i++)
		lost += add(i % 2 == 0 ? "trigger" : "resolve", "flaps");
	line = lines.lines[0];
	for (size_t i = 0; i < line->count; i++)
		alternate =
			alternate && strcmp(line->changes[i].action, i % 2 == 0 ? "trigger" : "resolve") == 0;
	CHECK(line->count < OUTBOX_LINE_MAX + 1 && lost == 101 - line->count && alternate,
		  "an alert that flaps keeps its newest changes");
	CHECK(strcmp(line->changes[line->count - 1].action, "trigger") == 0, "the last one too");
	outbox_sink_queue_free(&lines);

	add("trigger", "sent");
	CHECK(strcmp(take(0, true, &line), "sent trigger") == 0, "one is being sent");
	lost = 0;
	for (int i = 0; i < OUTBOX_QUEUE_MAX + 10; i++)
	{
		snprintf(key, sizeof(key), "%d", i);
		lost += add("trigger", key);
	}
	CHECK(lines.count == OUTBOX_QUEUE_MAX && lost == 11, "the queue is bounded");
	CHECK(line->count == 1, "what is being sent is not lost");
	CHECK(strcmp(take(0, true, &line), "11 trigger") == 0, "but the oldest others");
	outbox_sink_queue_free(&lines);
}

static void
test_repeat(void)
{
	json_t *alerts = json_pack("{s:o, s:o}", "a", make_alert("a"), "bad", make_alert("bad"));
	OutboxSinkLine *line;

	add("trigger", "bad");
	outbox_sink_queue_repeat(&lines, alerts);
	CHECK(json_object_size(lines.repeat) == 1 && json_object_get(lines.repeat, "a") != NULL,
		  "but for what waits by itself");
	lines.repeat_under_way = true;
	add("resolve", "a");
	outbox_sink_queue_repeat(&lines, alerts);
	CHECK(strcmp(take(0, true, &line), "bad trigger") == 0 && strcmp(take(0, true, &line), "") == 0,
		  "a change waits for the repeat of its alert");
	outbox_sink_queue_repeated(&lines);
	CHECK(strcmp(take(0, true, &line), "a resolve") == 0, "and follows it");
	outbox_sink_queue_repeat(&lines, alerts);
	CHECK(lines.repeat == NULL, "nothing to repeat is no repeat");
	outbox_sink_queue_free(&lines);
	outbox_sink_queue_repeat(&lines, alerts);
	add("resolve", "a");
	CHECK(json_object_get(lines.repeat, "a") == NULL &&
			  strcmp(take(0, true, &line), "a resolve") == 0,
		  "a repeat that has not begun lets the change go");
	outbox_sink_queue_free(&lines);
	json_decref(alerts);
}

static void
test_dedup_keys(void)
{
	char		key[400] = "dead-letters/";
	json_t	   *alert;
	json_t	   *trigger;
	json_t	   *resolve;
	const char *sent;

	memset(key + 13, 'x', 300);
	alert = make_alert(key);
	trigger = outbox_sink_body(OUTBOX_SINK_PAGERDUTY, "trigger", alert, "R");
	resolve = outbox_sink_body(OUTBOX_SINK_PAGERDUTY, "resolve", alert, "R");
	sent = json_string_value(json_object_get(trigger, "dedup_key"));
	CHECK(strlen(sent) == 255, "PagerDuty takes 255 characters");
	CHECK(strcmp(sent, json_string_value(json_object_get(resolve, "dedup_key"))) == 0,
		  "the resolve finds its trigger");
	json_decref(trigger);
	json_decref(resolve);
	json_decref(alert);
}

static void
test_names(void)
{
	static const char *const names[][2] = {{"lag", "OutboxConsumerLag"},
										   {"offsets", "OutboxConsumerOffsets"},
										   {"dead_letters", "OutboxDeadLetters"},
										   {"topic_held", "OutboxTopicHeld"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		json_t *alert = make_alert("key");
		json_t *body;
		json_t *labels;

		json_object_set_new(alert, "kind", json_string(names[i][0]));
		body = outbox_sink_body(OUTBOX_SINK_ALERTMANAGER, "trigger", alert, "");
		labels = json_object_get(json_array_get(body, 0), "labels");
		CHECK(strcmp(json_string_value(json_object_get(labels, "alertname")), names[i][1]) == 0,
			  names[i][1]);
		json_decref(body);
		json_decref(alert);
	}
}

int
main(void)
{
	if (!outbox_sinks_open(ignore_change))
		return 1;
	test_lines();
	test_bounds();
	test_repeat();
	test_many_alerts();
	test_dedup_keys();
	test_names();
	return finish_tests();
}
