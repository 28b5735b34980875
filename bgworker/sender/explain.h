/* SPDX-License-Identifier: PostgreSQL
 *
 * explain.h
 *	  What an error means here: limit, property and value, topic and partition.
 *
 * Main thread.
 */
#ifndef OUTBOX_EXPLAIN_H
#define OUTBOX_EXPLAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"
#include "topics.h"

/* The first delivery of a batch that failed, and was not refused. */
typedef struct OutboxFailedDelivery
{
	rd_kafka_resp_err_t error; /* 0: none */
	OutboxTopic		   *topic;
	int32_t				partition;	/* -1: not chosen yet */
	int64_t				time_ms;	/* time stamp of the record */
	bool				leaderless; /* its partition, as was found when it was explained */
} OutboxFailedDelivery;

extern int64_t outbox_explain_transaction_limit(rd_kafka_t *client);
extern void outbox_explain_transaction_timeout(rd_kafka_t *client, int64_t ours_ms,
											   OutboxFailure *failure);
extern void outbox_explain_delivery(rd_kafka_t *client, OutboxFailedDelivery *failed,
									OutboxFailure *failure);
extern void outbox_explain_without_values(const OutboxSettings *settings, char *text);
extern void outbox_explain_size(rd_kafka_t *client, size_t bytes, char *text, size_t size);

#endif /* OUTBOX_EXPLAIN_H */
