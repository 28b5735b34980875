/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_offsets.h
 *	  What consumer groups have committed.
 */
#ifndef OUTBOX_KAFKA_OFFSETS_H
#define OUTBOX_KAFKA_OFFSETS_H

#include "kafka_client.h"
#include "lag_snapshot.h"

/* The questions for committed offsets, one a group.  Poller thread. */
typedef struct OutboxKafkaOffsets
{
	rd_kafka_queue_t		*answers;
	struct OutboxAskedGroup *asked; /* whose offsets are under way */
} OutboxKafkaOffsets;

extern void outbox_kafka_offsets_open(OutboxKafkaOffsets *offsets, const OutboxKafkaClient *client);
extern void outbox_kafka_offsets_close(OutboxKafkaOffsets *offsets);

/*
 * Committed offsets of all groups of a sorted snapshot.  A group whose coordinator is
 * silent has not answered.  false: none has, error says why.
 */
extern bool outbox_kafka_offsets_read(OutboxKafkaOffsets *offsets, const OutboxKafkaClient *client,
									  OutboxLagSnapshot *snapshot, char *error, size_t size);

/* outbox_clock_ms since when the oldest request is under way; 0: none is. */
extern int64_t outbox_kafka_offsets_oldest(const OutboxKafkaOffsets *offsets);

#endif /* OUTBOX_KAFKA_OFFSETS_H */
