/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  The topics the sender knows.
 *
 * Runs in the sender.
 */
#include "topics.h"

#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "src/common/hash.h"

#define CROWD_US 60000000 /* small requests for a topic that is not used */

/* Open addressing by name; a power of two of slots, at most half of them full. */
static OutboxTopic **slots;
static size_t		 slot_count;
static size_t		 topic_count;

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
