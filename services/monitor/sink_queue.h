/* SPDX-License-Identifier: PostgreSQL
 *
 * sink_queue.h
 *	  What a sink has not taken yet.
 *
 * The changes of one alert are a line: sent one after another, in their order.  Lines know nothing
 * of each other: one that fails waits by itself.  Bounded: OUTBOX_QUEUE_MAX changes, of one alert
 * OUTBOX_LINE_MAX; beyond them the oldest are lost, of one alert two at a time, so that trigger and
 * resolve still alternate.
 *
 * Pure but for memory; the caller guards it.
 */
#ifndef OUTBOX_SINK_QUEUE_H
#define OUTBOX_SINK_QUEUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_QUEUE_MAX 4096
#define OUTBOX_LINE_MAX	 16

typedef struct OutboxSinkChange
{
	const char *action; /* "trigger" or "resolve", a constant */
	json_t	   *alert;
	uint64_t	order; /* of queueing, over all alerts */
} OutboxSinkChange;

typedef struct OutboxSinkLine
{
	char			*key;
	OutboxSinkChange changes[OUTBOX_LINE_MAX]; /* oldest first */
	size_t			 count;
	bool			 under_way; /* the first change is being sent */
	int				 failures;	/* of the first change, in a row */
	int64_t			 due_ms;	/* not to be sent before; outbox_clock_ms */
} OutboxSinkLine;

/* Begins as zeroes. */
typedef struct OutboxSinkQueue
{
	OutboxSinkLine *lines[OUTBOX_QUEUE_MAX];
	size_t			line_count;
	size_t			count;	/* changes in all lines */
	uint64_t		order;	/* of the newest one */
	json_t		   *repeat; /* {key: alert} to be sent once more; NULL: nothing */
	bool			repeat_under_way;
} OutboxSinkQueue;

/*
 * Queues a change ("trigger", else resolve) with a copy of the alert.  Returns how many others are
 * lost by it.
 */
extern size_t outbox_sink_queue_add(OutboxSinkQueue *queue, const char *action,
									const json_t *alert);

/*
 * What to send next, NULL: nothing is due; the caller marks it as under way.  First what has not
 * been tried, the oldest first; retries: else also what has failed, by due_ms.
 */
extern OutboxSinkLine *outbox_sink_queue_next(OutboxSinkQueue *queue, int64_t now_ms, bool retries);

/* Milliseconds until something that has failed is due; longest, where that is later. */
extern int64_t outbox_sink_queue_wait(const OutboxSinkQueue *queue, int64_t now_ms,
									  int64_t longest);

/*
 * The line's first change was sent: taken or refused for good (done), or to be tried again.  A line
 * that is empty is freed.
 */
extern void outbox_sink_queue_sent(OutboxSinkQueue *queue, OutboxSinkLine *line, bool done,
								   int64_t now_ms);

/*
 * Has these alerts, {key: alert}, sent once more, but for those of which a change waits; nothing
 * while an earlier repeat is not done.  Changes of these wait for it.
 */
extern void outbox_sink_queue_repeat(OutboxSinkQueue *queue, json_t *alerts);
extern void outbox_sink_queue_repeated(OutboxSinkQueue *queue);

/* The changes in their order as [{action, alert}]: a copy.  Repeats are left out. */
extern json_t *outbox_sink_queue_dump(const OutboxSinkQueue *queue);

extern void outbox_sink_queue_free(OutboxSinkQueue *queue);

#endif /* OUTBOX_SINK_QUEUE_H */
