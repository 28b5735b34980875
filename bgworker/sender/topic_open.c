/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_open.c
 *	  Handles of topics: opened for the producer, looked after in a batch, closed with it.
 *
 * Runs in the sender, main thread.
 */
#include "topic_open.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "leaders.h"
#include "limits.h"
#include "process.h"
#include "topic_create.h"
#include "topics.h"

#define METADATA_TIMEOUT_MS 10000
#define GONE_TIMEOUT_MS		1000
#define PREFETCH_TIMEOUT_US 2000000	 /* a topic's metadata before its first event */
#define ABSENT_US			30000000 /* a topic found absent is not waited for again */

/* A handle of this producer whose opaque is the topic. */
static rd_kafka_topic_t *
make_handle(rd_kafka_t *producer, OutboxTopic *topic)
{
	rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(producer);

	rd_kafka_topic_conf_set_opaque(conf, topic);
	return rd_kafka_topic_new(producer, topic->name, conf);
}

/*
 * Gives the topic a handle of this producer and fetches its metadata, which the first event would
 * else wait for.  A topic that is unknown or forbidden is no failure here: producing to it says
 * what is wrong with it.  A declared topic that cannot be created gets no handle: its event is
 * refused for its create_error.
 */
bool
outbox_topic_open(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure)
{
	int64_t deadline;
	bool	wait = true;

	topic->absent = false;
	if (!outbox_topic_make_for_event(producer, topic, failure))
		return false;
	if (topic->declared && !topic->present)
		return true;
	topic->handle = make_handle(producer, topic);
	if (topic->handle == NULL)
	{
		outbox_failure_from_code(failure, rd_kafka_last_error(), "opening a topic", NULL);
		outbox_failure_precede(failure, "topic \"%s\"", topic->name);
		return false;
	}
	deadline = outbox_clock_us();
	if (topic->absent_us == 0 || deadline - topic->absent_us > ABSENT_US)
		deadline += PREFETCH_TIMEOUT_US;
	while (wait)
	{
		const rd_kafka_metadata_t *metadata;
		rd_kafka_resp_err_t		   code;
		int						   partitions;

		code = rd_kafka_metadata(producer, 0, topic->handle, &metadata, METADATA_TIMEOUT_MS);
		if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_poll(producer, 0);
			outbox_failure_from_code(failure, code, "fetching a topic's metadata", NULL);
			outbox_failure_precede(failure, "topic \"%s\"", topic->name);
			return false;
		}
		code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_NO_ERROR;
		partitions = metadata->topic_cnt == 1 ? metadata->topics[0].partition_cnt : 0;
		if (metadata->topic_cnt == 1)
			outbox_leaders_note(&metadata->topics[0]);
		rd_kafka_metadata_destroy(metadata);
		topic->absent = code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
		topic->known_partitions = partitions;
		wait = (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
				code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) &&
			outbox_clock_us() < deadline;
		if (wait)
			outbox_pause_briefly();
	}
	topic->absent_us = topic->absent ? outbox_clock_us() : 0;
	if (topic->absent)
		outbox_limits_forget(topic);
	else
		outbox_limits_open(producer, topic);
	return true;
}

/*
 * A topic used in the batch of that serial that Kafka no longer has; NULL: all are there, or Kafka
 * does not say.
 */
const OutboxTopic *
outbox_topics_find_gone(rd_kafka_t *client, uint64_t serial)
{
	const rd_kafka_metadata_t *metadata;
	OutboxTopic				  *gone = NULL;
	OutboxTopic				  *topic;
	size_t					   at = 0;

	if (rd_kafka_metadata(client, 1, NULL, &metadata, GONE_TIMEOUT_MS) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	while (gone == NULL && (topic = outbox_topics_next(&at)) != NULL)
	{
		if (topic->used_in_batch != serial)
			continue;
		gone = topic;
		for (int k = 0; k < metadata->topic_cnt && gone != NULL; k++)
			if (strcmp(metadata->topics[k].topic, gone->name) == 0)
				gone = NULL;
	}
	rd_kafka_metadata_destroy(metadata);
	return gone;
}

/*
 * *changed: a topic that is no longer there, or with another number of partitions than the producer
 * knows, of those of which that is to be asked; NULL: none.  False: Kafka does not say.  Where a
 * producer's records follow older ones of its own their offsets tell a log that was made anew
 * (outbox_topic_note_offset); where they are its first in a partition, this does.
 */
bool
outbox_topics_find_changed(rd_kafka_t *client, const OutboxTopic **changed, OutboxFailure *failure)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_topic_t		  *only = NULL;
	rd_kafka_resp_err_t		   code;
	OutboxTopic				  *topic;
	int						   unsure = 0;
	size_t					   at = 0;

	*changed = NULL;
	while ((topic = outbox_topics_next(&at)) != NULL)
		if (topic->unsure && unsure++ == 0)
			only = topic->handle;
	if (unsure == 0)
		return true;
	code = rd_kafka_metadata(client, unsure > 1, unsure > 1 ? NULL : only, &metadata,
							 METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_failure_from_code(failure, code, "listing topics", NULL);
		return false;
	}
	for (int k = 0; k < metadata->topic_cnt; k++)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[k];

		topic = outbox_topic_known(found->topic);
		if (topic != NULL && found->partition_cnt == topic->known_partitions)
			topic->unsure = false;
	}
	rd_kafka_metadata_destroy(metadata);
	at = 0;
	while ((topic = outbox_topics_next(&at)) != NULL)
		if (topic->unsure)
			*changed = topic;
	return true;
}

/* Forgets what belongs to the producer that is about to go. */
void
outbox_topics_close(void)
{
	OutboxTopic *topic;
	size_t		 at = 0;

	while ((topic = outbox_topics_next(&at)) != NULL)
	{
		if (topic->handle != NULL)
			rd_kafka_topic_destroy(topic->handle);
		topic->handle = NULL;
		free(topic->newest);
		topic->newest = NULL;
		topic->newest_count = 0;
		topic->unsure = false;
		topic->present = false;
	}
}
