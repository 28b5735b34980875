/* SPDX-License-Identifier: PostgreSQL
 *
 * refusals.c
 *	  What is refused of the batch under way: collected, sifted, told in one answer.
 *
 * Runs in the sender, main thread.  The relay's dead letters of a key have the key's order, so an
 * event is told only when every event ahead of it in its topic, or by Kafka in its partition, has
 * been answered for, or is behind a refused one of its own key (policy hold_key).  What is not told
 * is found again when the batch comes again.
 */
#include "refusals.h"

#include <stdlib.h>
#include <string.h>

#include "process.h"
#include "topics.h"
#include "src/common/hash.h"

#define TEXTS_MOST 64
#define OTHER_TEXT "refused for one of so many reasons that they are not told one by one"

typedef struct Refusal
{
	uint32_t	 index;
	int32_t		 error;
	OutboxTopic *topic;		/* NULL: its name is none */
	int32_t		 partition; /* by Kafka: where it was to go; -1 by us */
	uint16_t	 text;
	bool		 whole_topic;
	bool		 told;
	/* of those of its partition that Kafka has refused: all ahead of it there is judged */
	bool		 first;
} Refusal;

static Refusal *refusals;
static size_t	refusal_count;
static size_t	refusal_room;
static char	   *texts[TEXTS_MOST];
static size_t	text_count;
static bool		by_us;	  /* one was refused before Kafka has judged those ahead of it */
static bool		by_topic; /* a whole topic was */
static bool		by_kafka;

/* Hashes of topic and key of those refused by us; open addressing, 0 is free. */
static uint64_t *keys;
static size_t	 key_room;
static size_t	 key_count;

static void *
need_memory(void *memory)
{
	if (memory == NULL)
	{
		outbox_process_log("out of memory");
		exit(1);
	}
	return memory;
}

/* A batch begins: nothing of it is refused. */
void
outbox_refusals_clear(void)
{
	while (text_count > 0)
		free(texts[--text_count]);
	if (key_count > 0)
		memset(keys, 0, key_room * sizeof(*keys));
	refusal_count = key_count = 0;
	by_us = by_kafka = by_topic = false;
}

/* Is anything of the batch refused, by whomever? */
bool
outbox_refusals_any(void)
{
	return refusal_count > 0;
}

/* Has one been refused before Kafka has judged those ahead of it? */
bool
outbox_refusals_by_us(void)
{
	return by_us;
}

/* Has Kafka refused one?  Then nothing more is sent. */
bool
outbox_refusals_by_kafka(void)
{
	return by_kafka;
}

/* Were all refused by us, one by one? */
bool
outbox_refusals_only_ours(void)
{
	return by_us && !by_kafka && !by_topic;
}

static uint64_t
hash_key(const OutboxTopic *topic, const OutboxWireEvent *event)
{
	uint64_t hash = outbox_hash_bytes((const char *) event->key, event->key_len);

	hash = (hash ^ (uint64_t) (uintptr_t) topic) * UINT64_C(0x9E3779B97F4A7C15);
	hash ^= hash >> 32;
	return hash == 0 ? 1 : hash;
}

static uint64_t *
find_key(uint64_t hash)
{
	size_t at = (size_t) hash & (key_room - 1);

	while (keys[at] != 0 && keys[at] != hash)
		at = (at + 1) & (key_room - 1);
	return &keys[at];
}

static void
note_key(uint64_t hash)
{
	if (key_count * 2 >= key_room)
	{
		uint64_t *old = keys;
		size_t	  old_room = key_room;
		size_t	  i;

		key_room = old_room == 0 ? 1024 : old_room * 2;
		keys = need_memory(calloc(key_room, sizeof(*keys)));
		for (i = 0; i < old_room; i++)
			if (old[i] != 0)
				*find_key(old[i]) = old[i];
		free(old);
	}
	if (*find_key(hash) == 0)
	{
		*find_key(hash) = hash;
		key_count++;
	}
}

/* Is an earlier event of its key refused by us? */
bool
outbox_refusals_hold(const OutboxTopic *topic, const OutboxWireEvent *event)
{
	return key_count > 0 && event->key != NULL && *find_key(hash_key(topic, event)) != 0;
}

static uint16_t
keep_text(const char *text)
{
	size_t i;

	for (i = text_count; i > 0; i--)
		if (strcmp(texts[i - 1], text) == 0)
			return (uint16_t) (i - 1);
	if (text_count == TEXTS_MOST)
		return TEXTS_MOST - 1;
	if (text_count == TEXTS_MOST - 1)
		text = OTHER_TEXT;
	texts[text_count] = need_memory(strdup(text));
	return (uint16_t) text_count++;
}

static Refusal *
add(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code, const char *text)
{
	if (refusal_count == refusal_room)
	{
		refusal_room = refusal_room == 0 ? 64 : refusal_room * 2;
		refusals = need_memory(realloc(refusals, refusal_room * sizeof(*refusals)));
	}
	refusals[refusal_count] =
		(Refusal) {.index = index, .error = (int32_t) code, .topic = topic, .partition = -1};
	refusals[refusal_count].text = keep_text(text);
	return &refusals[refusal_count++];
}

/* Not handed to Kafka: event is known not to be taken, whatever becomes of those ahead of it. */
void
outbox_refusals_note_ours(uint32_t index, OutboxTopic *topic, const OutboxWireEvent *event,
						  rd_kafka_resp_err_t code, const char *text)
{
	(void) add(index, topic, code, text);
	by_us = true;
	if (event->key != NULL)
		note_key(hash_key(topic, event));
}

/*
 * Every event of the topic is refused, from index on in this batch; topic NULL: the name is none.
 */
void
outbox_refusals_note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code,
						   const char *text)
{
	if (topic != NULL && topic->refused)
		return;
	if (topic != NULL)
		topic->refused = true;
	add(index, topic, code, text)->whole_topic = true;
	by_topic = true;
}

/* Kafka has refused the record, or the request that it was part of. */
void
outbox_refusals_note_kafka(uint32_t index, OutboxTopic *topic, int32_t partition,
						   rd_kafka_resp_err_t code, const char *text)
{
	add(index, topic, code, text)->partition = partition;
	by_kafka = true;
}

static int
compare_places(const void *a, const void *b)
{
	const Refusal *left = a;
	const Refusal *right = b;

	if (left->topic != right->topic)
		return (uintptr_t) left->topic < (uintptr_t) right->topic ? -1 : 1;
	if (left->partition != right->partition)
		return left->partition < right->partition ? -1 : 1;
	return (left->index > right->index) - (left->index < right->index);
}

/* An event that is refused twice, also with its whole topic: that comes first. */
static int
compare_indexes(const void *a, const void *b)
{
	const Refusal *left = a;
	const Refusal *right = b;

	if (left->index == right->index)
		return right->whole_topic - left->whole_topic;
	return (left->index > right->index) - (left->index < right->index);
}

/*
 * Records of one partition that Kafka has refused together: one of them is to blame, or what they
 * are together.  None is told, and nothing of the topic behind them.
 */
static void
suspect(Refusal *first, size_t count, OutboxSuspects *suspects)
{
	size_t i;

	for (i = 0; i < count; i++)
		first[i].told = false;
	outbox_topic_unanswered(first->topic, first->index);
	if (count <= suspects->count)
		return;
	suspects->count = (uint32_t) count;
	suspects->topic = first->topic;
	suspects->error = first->error;
}

/*
 * Sifts what was noted; what is left is told.  alone: each record had a request of its own, so that
 * one Kafka refuses is to blame.  *suspects: the largest group refused together, count 0 if there
 * is none.  Returns the number of those that are told.
 */
size_t
outbox_refusals_sift(bool alone, OutboxSuspects *suspects)
{
	size_t told = 0;
	size_t i;
	size_t end;

	*suspects = (OutboxSuspects) {0};
	qsort(refusals, refusal_count, sizeof(*refusals), compare_places);
	for (i = 0; i < refusal_count; i = end)
	{
		for (end = i; end < refusal_count && refusals[end].topic == refusals[i].topic &&
			 refusals[end].partition == refusals[i].partition;
			 end++)
			refusals[end].told = true;
		refusals[i].first = refusals[i].partition >= 0;
		if (!alone && refusals[i].first && end - i > 1)
			suspect(&refusals[i], end - i, suspects);
	}
	qsort(refusals, refusal_count, sizeof(*refusals), compare_indexes);
	for (i = 0; i < refusal_count; i++)
	{
		Refusal *refusal = &refusals[i];

		refusal->told &= refusal->whole_topic || refusal->first ||
			refusal->index <= refusal->topic->unanswered_from;
		if (i > 0 && refusals[i - 1].index == refusal->index && refusals[i - 1].told)
			refusal->told = false;
		told += refusal->told;
	}
	return told;
}

/* The first of those that are told, for a message; NULL: none. */
const char *
outbox_refusals_first(uint32_t *index)
{
	size_t i;

	for (i = 0; i < refusal_count; i++)
	{
		if (!refusals[i].told)
			continue;
		*index = refusals[i].index;
		return texts[refusals[i].text];
	}
	return NULL;
}

/* Is one of those that are told the refusal of a whole topic? */
bool
outbox_refusals_have_topic(void)
{
	size_t i;

	for (i = 0; i < refusal_count; i++)
		if (refusals[i].told && refusals[i].whole_topic)
			return true;
	return false;
}

/* The text of any of them, told or not. */
const char *
outbox_refusals_any_text(void)
{
	return text_count > 0 ? texts[0] : "";
}

/* Writes those that are told, in the batch's order, as REFUSED has them; false: out of memory. */
bool
outbox_refusals_put(OutboxWireBuffer *frame, size_t told)
{
	size_t i;
	bool   ok = outbox_wire_put_u16(frame, (uint16_t) text_count);

	for (i = 0; i < text_count; i++)
		ok = ok && outbox_wire_put_cstring(frame, texts[i]);
	ok = ok && outbox_wire_put_u32(frame, (uint32_t) told);
	for (i = 0; i < refusal_count && ok; i++)
		if (refusals[i].told)
			ok = outbox_wire_put_u32(frame, refusals[i].index) &&
				outbox_wire_put_u32(frame, (uint32_t) refusals[i].error) &&
				outbox_wire_put_u8(frame, refusals[i].whole_topic ? 1 : 0) &&
				outbox_wire_put_u16(frame, refusals[i].text);
	return ok;
}
