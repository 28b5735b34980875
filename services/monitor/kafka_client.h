/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_client.h
 *	  What kafka_lag.c and kafka_groups.c share; nobody else includes it.
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
};

/*
 * Groups, members and committed offsets into an empty snapshot, sorted.
 * false: Kafka does not answer, error says why.
 */
extern bool outbox_kafka_groups_read(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
									 const OutboxLagSnapshot *before,
									 bool (*wanted) (const char *group), char *error, size_t size);

#endif							/* OUTBOX_KAFKA_CLIENT_H */
