/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  The topics the sender knows, and their handles.
 *
 * Runs in the sender.
 */
#include "sender.h"
#include "src/common/hash.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METADATA_TIMEOUT_MS 10000
#define GONE_TIMEOUT_MS		1000
#define PREFETCH_TIMEOUT_US 2000000	 /* a topic's metadata before its first event */
#define CROWD_US			60000000 /* small requests for a topic that is not used */
#define ABSENT_US			30000000 /* a topic found absent is not waited for again */

/* Open addressing by name; a power of two of slots, at most half of them full. */
static OutboxTopic **slots;
static size_t		 slot_count;
static size_t		 topic_count;

/* Never returns. */
void
outbox_exit_out_of_memory(void)
{
	outbox_log("out of memory");
	exit(1);
}

/* The slot that holds the name, or the free one where it belongs. */
static OutboxTopic **
find_slot(const char *name, size_t len)
{
	size_t at = outbox_hash_bytes(name, len) & (slot_count - 1);

	while (slots[at] != NULL &&
		   (slots[at]->name_len != len || memcmp(slots[at]->name, name, len) != 0))
		at = (at + 1) & (slot_count - 1);
	return &slots[at];
}

static void
grow_slots(void)
{
	OutboxTopic **old = slots;
	size_t		  old_count = slot_count;
	size_t		  i;

	slot_count = old_count == 0 ? 64 : old_count * 2;
	slots = calloc(slot_count, sizeof(*slots));
	if (slots == NULL)
		outbox_exit_out_of_memory();
	for (i = 0; i < old_count; i++)
		if (old[i] != NULL)
			*find_slot(old[i]->name, old[i]->name_len) = old[i];
	free(old);
}

/* The topic of that name, made known if it was not.  len < OUTBOX_TOPIC_NAME_SIZE. */
OutboxTopic *
outbox_topic_find(const char *name, size_t len)
{
	OutboxTopic **slot;

	if (topic_count * 2 >= slot_count)
		grow_slots();
	slot = find_slot(name, len);
	if (*slot == NULL)
	{
		*slot = calloc(1, sizeof(OutboxTopic));
		if (*slot == NULL)
			outbox_exit_out_of_memory();
		memcpy((*slot)->name, name, len);
		(*slot)->name_len = len;
		topic_count++;
	}
	return *slot;
}

/* The topic of that name, NULL if it is not known. */
OutboxTopic *
outbox_topic_known(const char *name)
{
	return topic_count == 0 ? NULL : *find_slot(name, strlen(name));
}

/* Each known topic in turn; *at is 0 at first.  NULL: that was the last. */
OutboxTopic *
outbox_topics_next(size_t *at)
{
	while (*at < slot_count)
	{
		OutboxTopic *topic = slots[(*at)++];

		if (topic != NULL)
			return topic;
	}
	return NULL;
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
	size_t					   i;
	int						   k;

	if (rd_kafka_metadata(client, 1, NULL, &metadata, GONE_TIMEOUT_MS) !=
		RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	for (i = 0; i < slot_count && gone == NULL; i++)
	{
		if (slots[i] == NULL || slots[i]->used_in_batch != serial)
			continue;
		gone = slots[i];
		for (k = 0; k < metadata->topic_cnt && gone != NULL; k++)
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
	int						   unsure = 0;
	size_t					   i;
	int						   k;

	*changed = NULL;
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->unsure && unsure++ == 0)
			only = slots[i]->handle;
	if (unsure == 0)
		return true;
	code = rd_kafka_metadata(client, unsure > 1, unsure > 1 ? NULL : only, &metadata,
							 METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_failure_from_code(failure, code, "listing topics", NULL);
		return false;
	}
	for (k = 0; k < metadata->topic_cnt; k++)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[k];
		OutboxTopic						*topic = *find_slot(found->topic, strlen(found->topic));

		if (topic != NULL && found->partition_cnt == topic->known_partitions)
			topic->unsure = false;
	}
	rd_kafka_metadata_destroy(metadata);
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->unsure)
			*changed = slots[i];
	return true;
}

/* 10 ms. */
void
outbox_pause_briefly(void)
{
	struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	nanosleep(&pause, NULL);
}

/* A handle of this producer whose opaque is the topic. */
static rd_kafka_topic_t *
make_handle(rd_kafka_t *producer, OutboxTopic *topic)
{
	rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(producer);

	rd_kafka_topic_conf_set_opaque(conf, topic);
	return rd_kafka_topic_new(producer, topic->name, conf);
}

/*
 * Remembers where Kafka has put a record.  False: not behind what it has put there before, so that
 * is another log than it was, and this producer may have the wrong number of its partitions.
 */
bool
outbox_topic_note_offset(OutboxTopic *topic, int32_t partition, int64_t offset)
{
	if (partition >= topic->newest_count)
	{
		int32_t	 count = partition + 1;
		int64_t *newest = realloc(topic->newest, (size_t) count * sizeof(*newest));

		if (newest == NULL)
			outbox_exit_out_of_memory();
		while (topic->newest_count < count)
			newest[topic->newest_count++] = -1;
		topic->newest = newest;
	}
	if (offset <= topic->newest[partition])
		return false;
	topic->unsure |= topic->newest[partition] < 0;
	topic->newest[partition] = offset;
	return true;
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

/* Kafka has not judged the topic's event of that index, and may not know it. */
void
outbox_topic_unanswered(OutboxTopic *topic, uint32_t index)
{
	if (index < topic->unanswered_from)
		topic->unanswered_from = index;
}

/*
 * Declared topics that Kafka has, but one, whose limits were never asked for; returns their number,
 * at most `most`.
 */
size_t
outbox_topics_list_unlimited(OutboxTopic **list, size_t most, const OutboxTopic *but)
{
	size_t count = 0;
	size_t i;

	for (i = 0; i < slot_count && count < most; i++)
		if (slots[i] != NULL && slots[i] != but && slots[i]->declared && slots[i]->present &&
			slots[i]->limits.read_us == 0)
			list[count++] = slots[i];
	return count;
}

/*
 * What a request may bring at most, so that each topic takes it that has refused larger ones; 0: no
 * limit.
 */
int64_t
outbox_topics_batch_bytes(void)
{
	int64_t least = 0;
	size_t	i;

	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->crowded_us != 0 && slots[i]->limits.known &&
			(least == 0 || slots[i]->limits.max_message_bytes < least))
			least = slots[i]->limits.max_message_bytes;
	return least;
}

/*
 * After the batch of that serial has passed: true when a topic for whose sake requests are small
 * was not used for CROWD_US.  The small requests are those of all topics.
 */
bool
outbox_topics_leave_crowd(uint64_t serial)
{
	int64_t now_us = outbox_clock_us();
	bool	left = false;
	size_t	i;

	for (i = 0; i < slot_count; i++)
	{
		if (slots[i] == NULL || slots[i]->crowded_us == 0)
			continue;
		if (slots[i]->used_in_batch == serial)
			slots[i]->crowded_us = now_us;
		else if (now_us - slots[i]->crowded_us > CROWD_US)
		{
			slots[i]->crowded_us = 0;
			left = true;
		}
	}
	return left;
}

/* Forgets what belongs to the producer that is about to go. */
void
outbox_topics_close(void)
{
	size_t i;

	for (i = 0; i < slot_count; i++)
	{
		if (slots[i] == NULL)
			continue;
		if (slots[i]->handle != NULL)
			rd_kafka_topic_destroy(slots[i]->handle);
		slots[i]->handle = NULL;
		free(slots[i]->newest);
		slots[i]->newest = NULL;
		slots[i]->newest_count = 0;
		slots[i]->unsure = false;
		slots[i]->present = false;
	}
}
