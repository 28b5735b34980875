/* SPDX-License-Identifier: PostgreSQL
 *
 * limits.h
 *	  Topics' settings in Kafka that decide what they take.
 *
 * Main thread.
 */
#ifndef OUTBOX_LIMITS_H
#define OUTBOX_LIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "topics.h"

extern bool outbox_limits_describe(rd_kafka_t *client, rd_kafka_ConfigResource_t **resources,
								   size_t count,
								   void (*take)(const rd_kafka_ConfigResource_t *resource,
												void							*arg),
								   void *arg);
extern void outbox_limits_open(rd_kafka_t *client, OutboxTopic *topic);
extern bool outbox_limits_freshen(rd_kafka_t *client, OutboxTopic *topic, int64_t since_us);
extern bool outbox_limits_have_changed(rd_kafka_t *client, OutboxTopic *topic);
extern void outbox_limits_forget(OutboxTopic *topic);

#endif /* OUTBOX_LIMITS_H */
