/* SPDX-License-Identifier: PostgreSQL
 *
 * test_sinks.c
 *	  The queues of outbox-monitor's sinks and what is sent of them, without threads.
 */
#include <string.h>

#include "../../services/monitor/sinks.h"
#include "unit.h"

#define MANY	1000

static const OutboxOption options[] = {
	{"webhook_url", OUTBOX_OPTION_TEXT, "http://localhost:1/hook", 0, 0, "", NULL},
	{"pagerduty_url", OUTBOX_OPTION_TEXT, "http://localhost:1", 0, 0, "", NULL},
	{"pagerduty_routing_key_file", OUTBOX_OPTION_TEXT, "", 0, 0, "", NULL},
	{"alertmanager_url", OUTBOX_OPTION_TEXT, "http://localhost:1", 0, 0, "", NULL},
	{NULL, OUTBOX_OPTION_TEXT, NULL, 0, 0, NULL, NULL},
};

static void
ignore_change(void)
{
}

static json_t *
make_alert(const char *key)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:{s:s}}", "key", key, "kind", "lag", "cluster", "kafka",
					 "summary", "behind", "since", "then", "at", "now", "labels", "group", key);
}

static size_t
count_queued(const char *sink)
{
	json_t	   *queues = outbox_sinks_dump();
	size_t		count = json_array_size(json_object_get(queues, sink));

	json_decref(queues);
	return count;
}

static void
test_many_alerts(void)
{
	json_t	   *firing = json_object();
	json_t	   *queues;
	json_t	   *body;
	char		key[32];

	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "lag/kafka/%d", i);
		json_object_set_new(firing, key, make_alert(key));
	}
	outbox_sinks_repeat(firing);
	outbox_sinks_repeat(firing);
	CHECK(count_queued("alertmanager") == 1, "repeats are one entry, and do not pile up");
	CHECK(count_queued("webhook") == 0, "nobody else is told again");
	queues = outbox_sinks_dump();
	body = outbox_sink_repeat_body(json_object_get(json_array_get(json_object_get(queues, "alertmanager"), 0), "alerts"));
	CHECK(json_array_size(body) == MANY, "all of them");
	CHECK(json_object_get(json_array_get(body, MANY - 1), "startsAt") != NULL &&
		  json_object_get(json_array_get(body, MANY - 1), "endsAt") == NULL, "as alerts that go on");
	json_decref(body);
	for (int i = 0; i < MANY; i++)
	{
		snprintf(key, sizeof(key), "lag/kafka/%d", i);
		outbox_sinks_send("trigger", json_object_get(firing, key));
	}
	CHECK(count_queued("webhook") == MANY, "as many triggers at once lose none");
	outbox_sinks_restore(queues);
	CHECK(count_queued("alertmanager") == MANY + 1, "a repeat is not restored");
	json_decref(queues);
	json_decref(firing);
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
	CHECK(strcmp(sent, json_string_value(json_object_get(resolve, "dedup_key"))) == 0, "the resolve finds its trigger");
	json_decref(trigger);
	json_decref(resolve);
	json_decref(alert);
}

static void
test_names(void)
{
	static const char *const names[][2] = {{"lag", "OutboxConsumerLag"}, {"offsets", "OutboxConsumerOffsets"},
	{"dead_letters", "OutboxDeadLetters"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		json_t	   *alert = make_alert("key");
		json_t	   *body;
		json_t	   *labels;

		json_object_set_new(alert, "kind", json_string(names[i][0]));
		body = outbox_sink_body(OUTBOX_SINK_ALERTMANAGER, "trigger", alert, "");
		labels = json_object_get(json_array_get(body, 0), "labels");
		CHECK(strcmp(json_string_value(json_object_get(labels, "alertname")), names[i][1]) == 0, names[i][1]);
		json_decref(body);
		json_decref(alert);
	}
}

int
main(void)
{
	static OutboxConfig config;
	char		error[256];

	outbox_config_add(&config, options);
	if (!outbox_config_finish(&config, error, sizeof(error)) || !outbox_sinks_open(&config, ignore_change))
		return 1;
	test_many_alerts();
	test_dedup_keys();
	test_names();
	return finish_tests();
}
