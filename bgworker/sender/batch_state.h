/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_state.h
 *	  The batch under way, which batch.c and batch_end.c share.
 *
 * Main thread.
 */
#ifndef OUTBOX_BATCH_STATE_H
#define OUTBOX_BATCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "cursor.h"
#include "explain.h"
#include "topics.h"

/* The batch under way; since outbox_batch_begin unless it says otherwise. */
typedef struct OutboxBatch
{
	rd_kafka_t			*producer; /* that it goes to; NULL: it has been dropped */
	uint64_t			 serial;   /* counts batches of this process */
	OutboxCursor		 cursor;
	int64_t				 time_ms;		 /* time stamp of its records */
	bool				 begun;			 /* the transaction is open */
	bool				 ignore_reports; /* it is being given up */
	bool				 broken;		 /* librdkafka takes no more events */
	uint32_t			 events;		 /* EVENT frames seen */
	uint64_t			 bytes;
	int64_t				 started_us;
	bool				 passed_over; /* an event was dropped without a report */
	bool				 denied;	  /* a topic was, as a whole */
	/* Kafka, which has refused nothing, did not answer for events for long */
	bool				 stalled;
	OutboxFailedDelivery failed;   /* the first that is no refusal */
	const OutboxTopic	*gone;	   /* deleted, or made anew, since this producer knows it */
	const OutboxTopic	*presumed; /* librdkafka presumes that a record of it was written */
} OutboxBatch;

extern OutboxBatch outbox_batch;

extern void outbox_batch_note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code,
									const char *text);
extern const OutboxTopic *outbox_batch_take_shrunk(void);

#endif /* OUTBOX_BATCH_STATE_H */
