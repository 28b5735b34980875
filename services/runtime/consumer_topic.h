/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_topic.h
 *	  What a broker tells of a topic, for consumer.c and log_reader.c alone.
 */
#ifndef OUTBOX_CONSUMER_TOPIC_H
#define OUTBOX_CONSUMER_TOPIC_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

/* As outbox_consumer_retention; *keeps_all: nothing is ever compacted, so that a record goes only with all before it. */
extern bool outbox_topic_retention(rd_kafka_t *rk, const char *topic, int64_t *ms, bool *keeps_all);

#endif							/* OUTBOX_CONSUMER_TOPIC_H */
