/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_end.h
 *	  The Kafka transaction of a batch.
 *
 * Main thread.
 */
#ifndef OUTBOX_BATCH_END_H
#define OUTBOX_BATCH_END_H

#include <stdbool.h>
#include <stdint.h>

#include "failure.h"
#include "settings.h"

/* The outcome of END that is not a failure. */
typedef struct OutboxBatchResult
{
	bool	 refused;  /* refusals.c has what */
	bool	 fence;	   /* before the batch comes again */
	uint32_t told;	   /* events that are refused */
	uint32_t suspects; /* records refused together, one of which may be to blame; 0: none */
	/* how many a request will have at most when the batch comes again; 0: no limit */
	uint32_t per_request;
	char	 refused_text[640]; /* of the first that is told, else of the suspects */
	uint64_t batch_no;
	uint32_t events;
	uint64_t bytes;
	uint64_t duration_us;
	bool	 suspect;
} OutboxBatchResult;

extern bool outbox_batch_open(const OutboxSettings *settings, OutboxFailure *failure);
extern bool outbox_batch_end(const OutboxSettings *settings, uint32_t events,
							 OutboxBatchResult *result, OutboxFailure *failure);

#endif /* OUTBOX_BATCH_END_H */
