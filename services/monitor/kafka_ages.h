/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_ages.h
 *	  How old the first record is that a group has not done.
 */
#ifndef OUTBOX_KAFKA_AGES_H
#define OUTBOX_KAFKA_AGES_H

#include "kafka_client.h"
#include "lag_snapshot.h"

/*
 * Since when the events of the first pending records exist; what is not answered in time stays
 * unknown.
 */
extern void outbox_kafka_ages_read(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot);

#endif /* OUTBOX_KAFKA_AGES_H */
