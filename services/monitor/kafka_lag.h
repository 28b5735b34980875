/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_lag.h
 *	  What the monitor asks Kafka: groups, members, committed offsets, the ends of the logs, and how
 *	  old the first record is that a group has not done.
 *
 * Poller thread.
 */
#ifndef OUTBOX_KAFKA_LAG_H
#define OUTBOX_KAFKA_LAG_H

#include "lag_snapshot.h"

typedef struct OutboxKafkaLag OutboxKafkaLag;

/* timeout_ms: longest wait for one answer.  NULL on failure, logged. */
extern OutboxKafkaLag *outbox_kafka_lag_open(const char *bootstrap_servers, const char *properties,
											 int timeout_ms);

/* May hang unless the client is idle: when a coordinator was never found. */
extern void outbox_kafka_lag_close(OutboxKafkaLag *kafka);

/* Is no request to a coordinator under way? */
extern bool outbox_kafka_lag_idle(const OutboxKafkaLag *kafka);

/* Has a request been under way for so long that a new client should take over? */
extern bool outbox_kafka_lag_worn(const OutboxKafkaLag *kafka);

/*
 * Fills an empty snapshot but for statuses, thresholds and alerts.  wanted says which groups;
 * before (NULL allowed) is the last one, of which known ages are taken over.  false: Kafka does not
 * answer, error says why, or the measuring was cancelled (kafka_client.h).
 */
extern bool outbox_kafka_lag_measure(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
									 OutboxLagSnapshot *before, bool (*wanted)(const char *group),
									 char *error, size_t error_size);

#endif /* OUTBOX_KAFKA_LAG_H */
