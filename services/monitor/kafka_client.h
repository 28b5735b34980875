/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_client.h
 *	  What the kafka_*.c share; nobody else includes it.
 *
 * Requests to coordinators never time out here, the poll merely stops waiting: librdkafka (2.0.2;
 * its issue 4605, open) aborts the process when a coordinator turns up for a request that has timed
 * out.  What is still under way is not asked for again.
 */
#ifndef OUTBOX_KAFKA_CLIENT_H
#define OUTBOX_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "kafka_lag.h"

/* Poller thread. */
struct OutboxKafkaLag
{
	rd_kafka_t				*committed; /* isolation.level read_committed */
	rd_kafka_t				*uncommitted;
	int						 timeout_ms;
	rd_kafka_queue_t		*descriptions; /* answers of DescribeConsumerGroups */
	/* outbox_clock_ms of the request under way; 0: none is */
	int64_t					 describing_since;
	rd_kafka_queue_t		*offsets; /* answers of ListConsumerGroupOffsets */
	struct OutboxAskedGroup *asked;	  /* whose offsets are under way */
	size_t					 turn;	  /* polls begun: which leader is asked first */
};

/* Options of an admin request; patient: no time-out but the longest there is, an hour. */
extern rd_kafka_AdminOptions_t *outbox_kafka_options(OutboxKafkaLag		*kafka,
													 rd_kafka_admin_op_t operation, void *opaque,
													 bool patient);

/*
 * Groups, members and committed offsets into an empty snapshot, sorted.
 * false: Kafka does not answer, error says why.
 */
extern bool outbox_kafka_groups_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
									 const OutboxLagSnapshot *before,
									 bool (*wanted)(const char *group), char *error, size_t size);

/*
 * Committed offsets of all groups of a sorted snapshot.  A group whose coordinator is
 * silent has not answered.  false: none has, error says why.
 */
extern bool outbox_kafka_offsets_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
									  char *error, size_t size);

/* outbox_clock_ms since when the oldest request is under way; 0: none is. */
extern int64_t outbox_kafka_offsets_oldest(const OutboxKafkaLag *kafka);

/*
 * Ends of the logs, and with them lags; drops partitions of topics that are gone.  What a silent
 * leader has stays unknown.  false: no leader answers, error says why.
 */
extern bool outbox_kafka_ends_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot, char *error,
								   size_t size);

/*
 * Since when the events of the first pending records exist; what is not answered in time stays
 * unknown.
 */
extern void outbox_kafka_ages_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot);

#endif /* OUTBOX_KAFKA_CLIENT_H */
