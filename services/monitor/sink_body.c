/* SPDX-License-Identifier: PostgreSQL
 *
 * sink_body.c
 *	  What each kind of sink is sent.  PagerDuty: Events API v2, Alertmanager:
 *	  API v2 (POST /api/v2/alerts).
 *
 * Runs in outbox-monitor, sink threads; pure but for memory.
 */
#include "sink_body.h"

#include <string.h>

#include "alert_key.h"

#define DEDUP_KEY_SIZE 256 /* PagerDuty takes 255 characters */

const char *
outbox_sink_name(OutboxSinkKind kind)
{
	static const char *const names[] = {"webhook", "pagerduty", "alertmanager"};

	return names[kind];
}

bool
outbox_sink_alert_valid(json_t *alert)
{
	static const char *const texts[] = {"key", "kind", "cluster", "summary", "since", "at"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		if (!json_is_string(json_object_get(alert, texts[i])))
			return false;
	}
	return json_is_object(json_object_get(alert, "labels"));
}

static json_t *
make_webhook(const char *action, json_t *alert)
{
	json_t *body = json_pack("{s:s}", "action", action);

	json_object_update(body, alert);
	return body;
}

static json_t *
make_pagerduty(const char *action, json_t *alert, const char *routing_key)
{
	char	key[DEDUP_KEY_SIZE];
	json_t *body;
	json_t *payload;

	outbox_alert_key_cut(key, sizeof(key), json_string_value(json_object_get(alert, "key")));
	body = json_pack("{s:s, s:s, s:s}", "routing_key", routing_key, "event_action", action,
					 "dedup_key", key);
	if (strcmp(action, "resolve") == 0)
		return body;
	payload =
		json_pack("{s:O, s:O, s:s, s:O, s:O, s:O}", "summary", json_object_get(alert, "summary"),
				  "source", json_object_get(alert, "cluster"), "severity", "critical", "timestamp",
				  json_object_get(alert, "since"), "class", json_object_get(alert, "kind"),
				  "custom_details", alert);
	json_object_set_new(body, "payload", payload);
	return body;
}

static json_t *
make_alertmanager(const char *action, json_t *alert)
{
	const char *kind = json_string_value(json_object_get(alert, "kind"));
	const char *name = strcmp(kind, "lag") == 0 ? "OutboxConsumerLag" :
		strcmp(kind, "offsets") == 0			? "OutboxConsumerOffsets" :
		strcmp(kind, "topic_held") == 0			? "OutboxTopicHeld" :
												  "OutboxDeadLetters";
	json_t	   *labels = json_pack("{s:s, s:O, s:s}", "alertname", name, "cluster",
								   json_object_get(alert, "cluster"), "severity", "critical");
	json_t	   *entry;

	json_object_update(labels, json_object_get(alert, "labels"));
	entry =
		json_pack("{s:o, s:{s:O}, s:O}", "labels", labels, "annotations", "summary",
				  json_object_get(alert, "summary"), "startsAt", json_object_get(alert, "since"));
	if (strcmp(action, "resolve") == 0)
		json_object_set(entry, "endsAt", json_object_get(alert, "at"));
	return entry;
}

json_t *
outbox_sink_repeat_body(json_t *alerts)
{
	json_t *body = json_array();
	json_t *alert;
	size_t	i;

	json_array_foreach(alerts, i, alert)
		json_array_append_new(body, make_alertmanager("trigger", alert));
	return body;
}

json_t *
outbox_sink_body(OutboxSinkKind kind, const char *action, json_t *alert, const char *routing_key)
{
	if (kind == OUTBOX_SINK_WEBHOOK)
		return make_webhook(action, alert);
	if (kind == OUTBOX_SINK_PAGERDUTY)
		return make_pagerduty(action, alert, routing_key);
	return json_pack("[o]", make_alertmanager(action, alert));
}
