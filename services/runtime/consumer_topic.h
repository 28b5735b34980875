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

typedef enum OutboxTopicAnswer
{
	OUTBOX_TOPIC_SILENT, /* no answer now, logged */
	/* the topic's settings are not told (DESCRIBE_CONFIGS is missing), logged */
	OUTBOX_TOPIC_REFUSED,
	OUTBOX_TOPIC_TOLD,
} OutboxTopicAnswer;

/*
 * *ms as of outbox_consumer_retention; *keeps_all: nothing is ever compacted, so that a record goes
 * only with all before it.  Not told: -1 and false.  Waits up to wait_ms.
 */
extern OutboxTopicAnswer outbox_topic_retention(rd_kafka_t *rk, const char *topic, int wait_ms,
												int64_t *ms, bool *keeps_all);

#endif /* OUTBOX_CONSUMER_TOPIC_H */
