/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_open.h
 *	  Handles of topics: opened for the producer, looked after in a batch, closed with it.
 *
 * Main thread.
 */
#ifndef OUTBOX_TOPIC_OPEN_H
#define OUTBOX_TOPIC_OPEN_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "topics.h"

extern bool outbox_topic_open(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure);
extern const OutboxTopic *outbox_topics_find_gone(rd_kafka_t *client, uint64_t serial);
extern bool outbox_topics_find_changed(rd_kafka_t *client, const OutboxTopic **changed,
									   OutboxFailure *failure);
extern void outbox_topics_close(void);

#endif /* OUTBOX_TOPIC_OPEN_H */
