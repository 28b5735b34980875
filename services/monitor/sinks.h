/* SPDX-License-Identifier: PostgreSQL
 *
 * sinks.h
 *	  Where alerts go: a plain webhook, PagerDuty (Events v2), Alertmanager.  Each sink that is
 *	  configured has a thread and a bounded queue (sink_queue.h).
 *
 * An alert is a JSON object, see sink_body.h.
 */
#ifndef OUTBOX_SINKS_H
#define OUTBOX_SINKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Reads the file with the routing key, if there is one; before outbox_sinks_open. */
extern bool outbox_sinks_check(char *error, size_t size);

/*
 * By the settings; logged on failure.  changed is called, without locks, when a queue has become
 * shorter.
 */
extern bool outbox_sinks_open(void (*changed)(void));

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
