/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_client.h
 *	  What kafka_lag.c, kafka_groups.c and kafka_offsets.c share; nobody else includes it.
 *
 * Requests to coordinators never time out here, the poll merely stops waiting:
 * librdkafka (2.0.2; its issue 4605, open) aborts the process when a
 * coordinator turns up for a request that has timed out.  What is still under way
 * is not asked for again.
 */
#ifndef OUTBOX_KAFKA_CLIENT_H
#define OUTBOX_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "kafka_lag.h"

/* Poller thread. */
struct OutboxKafkaLag
{
	rd_kafka_t *committed;		/* isolation.level read_committed */
	rd_kafka_t *uncommitted;
	int			timeout_ms;
	rd_kafka_queue_t *descriptions; /* answers of DescribeConsumerGroups */
	int64_t		describing_since;	/* outbox_clock_ms of the request under way; 0: none is */
	rd_kafka_queue_t *offsets;	/* answers of ListConsumerGroupOffsets */
	struct OutboxAskedGroup *asked; /* whose offsets are under way */
};

/* Options of an admin request; patient: no time-out but the longest there is, an hour. */
extern rd_kafka_AdminOptions_t *outbox_kafka_options(OutboxKafkaLag *kafka, rd_kafka_admin_op_t operation,
													 void *opaque, bool patient);

/*
 * Groups, members and committed offsets into an empty snapshot, sorted.
 * false: Kafka does not answer, error says why.
 */
extern bool outbox_kafka_groups_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
									 const OutboxLagSnapshot *before,
									 bool (*wanted) (const char *group), char *error, size_t size);

/*
 * Committed offsets of all groups of a sorted snapshot.  A group whose coordinator is
 * silent has not answered.  false: none has, error says why.
 */
extern bool outbox_kafka_offsets_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot, char *error,
									  size_t size);

/* outbox_clock_ms since when the oldest request is under way; 0: none is. */
extern int64_t outbox_kafka_offsets_oldest(const OutboxKafkaLag *kafka);

#endif							/* OUTBOX_KAFKA_CLIENT_H */
