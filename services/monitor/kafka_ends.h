/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_ends.h
 *	  Where the logs begin and end.
 */
#ifndef OUTBOX_KAFKA_ENDS_H
#define OUTBOX_KAFKA_ENDS_H

#include "kafka_client.h"
#include "lag_snapshot.h"

/*
 * Ends of the logs, and with them lags; drops partitions of topics that are gone.  What a silent
 * leader has stays unknown.  *turn counts polls: which leader is asked first.  false: no leader
 * answers, error says why.
 */
extern bool outbox_kafka_ends_read(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot,
								   size_t *turn, char *error, size_t size);

#endif /* OUTBOX_KAFKA_ENDS_H */
