/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_state.c
 *	  The batch under way.
 *
 * Runs in the sender, main thread.
 */
#include "batch_state.h"

#include <string.h>

#include "notes.h"
#include "refusals.h"
#include "topics.h"

OutboxBatch outbox_batch;

/* Every event of the topic is refused, by Kafka or by librdkafka. */
void
outbox_batch_note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code,
						const char *text)
{
	outbox_batch.denied |= code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
	outbox_refusals_note_topic(index, topic, code, text);
}

/* Does the topic have an event in the batch that was handed over? */
static bool
is_used(const char *topic)
{
	return outbox_topic_find(topic, strlen(topic))->used_in_batch == outbox_batch.serial;
}

/* A topic of the batch that lost partitions since the last call; NULL: none. */
const OutboxTopic *
outbox_batch_take_shrunk(void)
{
	char name[OUTBOX_TOPIC_NAME_SIZE];

	return outbox_take_shrunk_topic(is_used, name, sizeof(name)) ?
		outbox_topic_find(name, strlen(name)) :
		NULL;
}
