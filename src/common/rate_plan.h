/* SPDX-License-Identifier: PostgreSQL
 *
 * rate_plan.h
 *	  What follows from the rate at which a link or a quota lets batches pass.
 *
 * Pure: no PostgreSQL, no librdkafka, no clock.  The sender grows the deadlines of a batch that
 * did not get through; the relay cuts later batches.
 */
#ifndef OUTBOX_RATE_PLAN_H
#define OUTBOX_RATE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

/* a smaller batch says nothing about the rate, none is cut smaller */
#define OUTBOX_RATE_LEAST_BYTES 65536
#define OUTBOX_RATE_PARTS		4		 /* a batch is to take this part of message.timeout.ms */
#define OUTBOX_RATE_MOST_MS		86400000 /* of any deadline */
#define OUTBOX_RATE_SOCKET_MS	300000	 /* librdkafka's most for socket.timeout.ms */

/* How long a try of a batch may take, by its librdkafka properties. */
typedef struct OutboxDeadlines
{
	int64_t message_ms;		/* message.timeout.ms: all its records are acknowledged */
	int64_t transaction_ms; /* transaction.timeout.ms: and committed */
	int64_t socket_ms;		/* socket.timeout.ms: one request is answered */
} OutboxDeadlines;

/* How far a try came. */
typedef struct OutboxProgress
{
	int64_t bytes;	 /* of the batch */
	int64_t done;	 /* of them acknowledged */
	int64_t took_ms; /* until the last of those */
} OutboxProgress;

/* Bytes a second, 0 = none was acknowledged. */
extern int64_t outbox_rate_of(const OutboxProgress *progress);

/* What the whole batch needs at that rate, with half as much again; 0 = unknown. */
extern int64_t outbox_rate_need_ms(const OutboxProgress *progress);

/*
 * The deadlines of the try after the one with *last: twice as long, or what the rate asks for.  The
 * transaction outlasts its messages by as much as in *base.  limit_ms: most for a transaction, 0 =
 * none is known.  False: *last cannot be grown any more.
 */
extern bool outbox_rate_grow(const OutboxDeadlines *base, const OutboxDeadlines *last,
							 const OutboxProgress *progress, int64_t limit_ms,
							 OutboxDeadlines *next);

/*
 * The most bytes of a batch after one that came so far: what takes a part (OUTBOX_RATE_PARTS) of
 * usual_ms, the settings' message.timeout.ms.  most: the limit so far, 0 = the setting alone, as
 * for the result.
 */
extern int64_t outbox_rate_cut(int64_t most, int64_t setting, const OutboxProgress *progress,
							   int64_t usual_ms);

#endif /* OUTBOX_RATE_PLAN_H */
