/* SPDX-License-Identifier: PostgreSQL
 *
 * sink_body.h
 *	  An alert as each kind of sink wants it.  Pure but for memory.
 *
 * An alert is a JSON object: key, kind ("lag", "offsets", "dead_letters" or "topic_held"), cluster,
 * labels {name: text}, reasons [text], summary, since and at (ISO 8601, UTC), and the numbers that
 * led to it.
 */
#ifndef OUTBOX_SINK_BODY_H
#define OUTBOX_SINK_BODY_H

#include <jansson.h>
#include <stdbool.h>

typedef enum OutboxSinkKind
{
	OUTBOX_SINK_WEBHOOK,
	OUTBOX_SINK_PAGERDUTY,
	OUTBOX_SINK_ALERTMANAGER,
	OUTBOX_SINK_KINDS,
} OutboxSinkKind;

extern const char *outbox_sink_name(OutboxSinkKind kind);

/* What is posted for an action ("trigger" or "resolve"); the caller releases it. */
extern json_t *outbox_sink_body(OutboxSinkKind kind, const char *action, json_t *alert,
								const char *routing_key);

/* Alerts that go on, as one body for Alertmanager; the caller releases it. */
extern json_t *outbox_sink_repeat_body(json_t *alerts);

/* Has it all that the bodies are made of? */
extern bool outbox_sink_alert_valid(json_t *alert);

#endif /* OUTBOX_SINK_BODY_H */
