/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_topic.h
 *	  What a broker tells of a topic, for consumer.c alone.
 */
#ifndef OUTBOX_CONSUMER_TOPIC_H
#define OUTBOX_CONSUMER_TOPIC_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

/* As outbox_consumer_retention. */
extern bool outbox_topic_retention(rd_kafka_t *rk, const char *topic, int64_t *ms);

#endif							/* OUTBOX_CONSUMER_TOPIC_H */
