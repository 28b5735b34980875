/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_create.h
 *	  Creation of declared topics.
 *
 * Main thread.
 */
#ifndef OUTBOX_TOPIC_CREATE_H
#define OUTBOX_TOPIC_CREATE_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "topics.h"

extern bool outbox_topic_declare(rd_kafka_t *client, const OutboxTopic *declaration,
								 OutboxFailure *failure);
extern bool outbox_topics_untried(void);
extern bool outbox_topics_ensure(rd_kafka_t *client, const char *cursor_topic,
								 OutboxFailure *failure);
extern bool outbox_topic_make_for_event(rd_kafka_t *producer, OutboxTopic *topic,
										OutboxFailure *failure);

#endif /* OUTBOX_TOPIC_CREATE_H */
