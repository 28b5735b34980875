/* SPDX-License-Identifier: PostgreSQL
 *
 * client_watch.h
 *	  Does the Kafka client's main thread still turn?  librdkafka before 2.6.1 can loop for ever in
 *	  the cooperative-sticky assignor: no heartbeats then, no callbacks, and polls find nothing.
 *
 * Fields belong to the member's thread.
 */
#ifndef OUTBOX_CLIENT_WATCH_H
#define OUTBOX_CLIENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#define OUTBOX_CLIENT_SILENT_MS 60000

typedef struct OutboxClientWatch
{
	bool	heard;	   /* a record or statistics came in this poll */
	int64_t polled_at; /* ms */
	int64_t silent_ms; /* since something was heard */
} OutboxClientWatch;

/* now: milliseconds of a monotonic clock. */
extern void outbox_client_watch_begin(OutboxClientWatch *watch, int64_t now);

/*
 * After each poll; clears heard.  false: silent for OUTBOX_CLIENT_SILENT_MS.  A time without polls
 * counts little: a process that was stopped or busy has not listened.
 */
extern bool outbox_client_watch_polled(OutboxClientWatch *watch, int64_t now);

#endif /* OUTBOX_CLIENT_WATCH_H */
