/* SPDX-License-Identifier: PostgreSQL
 *
 * sinks.h
 *	  Where alerts go: a plain webhook, PagerDuty (Events v2), Alertmanager.  Each sink that is
 *	  configured has a thread and a bounded queue (sink_queue.h).
 *
 * An alert is a JSON object: key, kind ("lag", "offsets" or "dead_letters"), cluster, labels {name:
 * text}, reasons [text], summary, since and at (ISO 8601, UTC), and the numbers that led to it.
 */
#ifndef OUTBOX_SINKS_H
#define OUTBOX_SINKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "services/lib/config.h"

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

/* Reads the file with the routing key, if there is one; before outbox_sinks_open. */
extern bool outbox_sinks_check(const OutboxConfig *config, char *error, size_t size);

/*
 * Reads the settings; logged on failure.  changed is called, without locks, when a queue has become
 * shorter.
 */
extern bool outbox_sinks_open(const OutboxConfig *config, void (*changed)(void));

/* Starts the threads. */
extern bool outbox_sinks_start(void);
extern void outbox_sinks_stop(void);

/* Queues the action for every sink; what a full queue loses is logged and counted. */
extern void outbox_sinks_send(const char *action, json_t *alert);

/*
 * Alertmanager forgets what is not repeated: sends these, {key: alert}, again in one request, but
 * for those of which a change waits, unless the repeat before is still under way.  One that fails
 * is not tried again: the next one is due.
 */
extern void outbox_sinks_repeat(json_t *alerts);

/* The queues as {sink: [entry]}: a copy; and back, but for repeats. */
extern json_t *outbox_sinks_dump(void);
extern void outbox_sinks_restore(json_t *queues);

#endif /* OUTBOX_SINKS_H */
