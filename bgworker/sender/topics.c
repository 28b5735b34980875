/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  The topics the sender knows: their handles, and the making of those that
 *	  were declared (and of the cursor's) when Kafka has them not.
 *
 * Runs in the sender.  An existing topic is never altered.  Existence is asked
 * with a request for all topics: a request that names a topic would make a
 * broker with auto.create.topics.enable create it with the wrong settings.
 *
 * A topic that cannot be created concerns its own events only: they are refused
 * when they come.  The cursor topic alone is needed for all.  Dead letter topics
 * are declared with every topic and seldom used, so they are created by their
 * first event.
 */
#include "sender.h"
#include "../../src/common/hash.h"
#include "../../src/common/topic_names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METADATA_TIMEOUT_MS		10000
#define GONE_TIMEOUT_MS			1000
#define CREATE_TIMEOUT_MS		30000
#define APPEAR_TIMEOUT_US		15000000	/* a created topic has its leaders */
#define EVENT_APPEAR_TIMEOUT_US 5000000 /* the same inside a transaction */
#define PREFETCH_TIMEOUT_US		2000000 /* a topic's metadata before its first event */
#define ABSENT_US				30000000	/* a topic found absent is not waited for again */

/* Open addressing by name; a power of two of slots, at most half of them full. */
static OutboxTopic **slots;
static size_t slot_count;
static size_t topic_count;

static void
exit_out_of_memory(void)
{
	outbox_log("out of memory");
	exit(1);
}

/* The slot that holds the name, or the free one where it belongs. */
static OutboxTopic **
find_slot(const char *name, size_t len)
{
	size_t		at = outbox_hash_bytes(name, len) & (slot_count - 1);

	while (slots[at] != NULL &&
		   (slots[at]->name_len != len || memcmp(slots[at]->name, name, len) != 0))
		at = (at + 1) & (slot_count - 1);
	return &slots[at];
}

static void
grow_slots(void)
{
	OutboxTopic **old = slots;
	size_t		old_count = slot_count;
	size_t		i;

	slot_count = old_count == 0 ? 64 : old_count * 2;
	slots = calloc(slot_count, sizeof(*slots));
	if (slots == NULL)
		exit_out_of_memory();
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
			exit_out_of_memory();
		memcpy((*slot)->name, name, len);
		(*slot)->name_len = len;
		topic_count++;
	}
	return *slot;
}

/* Is it created by its first event only? */
static bool
is_dead_letter_topic(const OutboxTopic *topic)
{
	size_t		len = sizeof(OUTBOX_DLT_SUFFIX) - 1;

	return topic->name_len > len &&
		memcmp(topic->name + topic->name_len - len, OUTBOX_DLT_SUFFIX, len) == 0;
}

/* Should it be in Kafka by now, and is not known to be? */
static bool
is_missing(const OutboxTopic *topic)
{
	return topic->declared && !topic->present && !is_dead_letter_topic(topic);
}

/* Lists what is missing; *missing is malloc'd. */
static size_t
list_missing(OutboxTopic ***missing)
{
	size_t		count = 0;
	size_t		i;

	*missing = calloc(topic_count + 1, sizeof(OutboxTopic *));
	if (*missing == NULL)
		exit_out_of_memory();
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && is_missing(slots[i]))
			(*missing)[count++] = slots[i];
	return count;
}

/* Remembers why the topic cannot be created; the log hears of it once. */
static void
note_create_error(OutboxTopic *topic, rd_kafka_resp_err_t code, const char *text)
{
	bool		known = topic->create_error == code;

	topic->create_error = code;
	snprintf(topic->create_text, sizeof(topic->create_text),
			 "topic \"%s\" could not be created: %s", topic->name,
			 text != NULL ? text : rd_kafka_err2str(code));
	if (!known)
		outbox_log("%s", topic->create_text);
}

static bool
has_all_leaders(const rd_kafka_metadata_topic_t *found)
{
	int			i;

	if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR || found->partition_cnt == 0)
		return false;
	for (i = 0; i < found->partition_cnt; i++)
		if (found->partitions[i].leader < 0)
			return false;
	return true;
}

/* Asks Kafka for all its topics and marks those of ours that are there. */
static bool
mark_present(rd_kafka_t *client, bool with_leaders, OutboxFailure *failure)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_resp_err_t code;
	int			i;

	code = rd_kafka_metadata(client, 1, NULL, &metadata, METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		rd_kafka_poll(client, 0);
		outbox_failure_from_code(failure, code, "listing topics", NULL);
		return false;
	}
	for (i = 0; i < metadata->topic_cnt; i++)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[i];
		OutboxTopic *topic = *find_slot(found->topic, strlen(found->topic));

		if (topic != NULL && (!with_leaders || has_all_leaders(found)))
		{
			topic->present = true;
			topic->create_error = RD_KAFKA_RESP_ERR_NO_ERROR;
		}
	}
	rd_kafka_metadata_destroy(metadata);
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
	OutboxTopic *gone = NULL;
	size_t		i;
	int			k;

	if (rd_kafka_metadata(client, 1, NULL, &metadata, GONE_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
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
 * *changed: a topic that is no longer there, or with another number of partitions than the producer knows,
 * of those of which that is to be asked; NULL: none.  False: Kafka does not say.  Where a producer's records
 * follow older ones of its own their offsets tell a log that was made anew (outbox_topic_note_offset);
 * where they are its first in a partition, this does.
 */
bool
outbox_topics_find_changed(rd_kafka_t *client, const OutboxTopic **changed, OutboxFailure *failure)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_topic_t *only = NULL;
	rd_kafka_resp_err_t code;
	int			unsure = 0;
	size_t		i;
	int			k;

	*changed = NULL;
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->unsure && unsure++ == 0)
			only = slots[i]->handle;
	if (unsure == 0)
		return true;
	code = rd_kafka_metadata(client, unsure > 1, unsure > 1 ? NULL : only, &metadata, METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_failure_from_code(failure, code, "listing topics", NULL);
		return false;
	}
	for (k = 0; k < metadata->topic_cnt; k++)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[k];
		OutboxTopic *topic = *find_slot(found->topic, strlen(found->topic));

		if (topic != NULL && found->partition_cnt == topic->known_partitions)
			topic->unsure = false;
	}
	rd_kafka_metadata_destroy(metadata);
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->unsure)
			*changed = slots[i];
	return true;
}

/* What CreateTopics shall be told of one topic; NULL: it has its create_error. */
static rd_kafka_NewTopic_t *
describe_topic(OutboxTopic *topic)
{
	rd_kafka_NewTopic_t *request;
	char		error[256];
	char		number[32];

	request = rd_kafka_NewTopic_new(topic->name, topic->partitions > 0 ? topic->partitions : -1,
									topic->replication > 0 ? topic->replication : -1,
									error, sizeof(error));
	if (request == NULL)
	{
		note_create_error(topic, RD_KAFKA_RESP_ERR__INVALID_ARG, error);
		return NULL;
	}
	if (topic->retention_ms != INT64_MIN)
	{
		snprintf(number, sizeof(number), "%" PRId64, topic->retention_ms);
		rd_kafka_NewTopic_set_config(request, "retention.ms", number);
	}
	if (topic->max_message_bytes != INT64_MIN)
	{
		snprintf(number, sizeof(number), "%" PRId64, topic->max_message_bytes);
		rd_kafka_NewTopic_set_config(request, "max.message.bytes", number);
	}
	if (topic->cleanup_policy[0] != '\0')
		rd_kafka_NewTopic_set_config(request, "cleanup.policy", topic->cleanup_policy);
	return request;
}

/* Takes Kafka's answer for each topic. */
static void
take_results(const rd_kafka_CreateTopics_result_t *result)
{
	const rd_kafka_topic_result_t **results;
	size_t		count;
	size_t		i;

	results = rd_kafka_CreateTopics_result_topics(result, &count);
	for (i = 0; i < count; i++)
	{
		const char *name = rd_kafka_topic_result_name(results[i]);
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
		OutboxTopic *topic = outbox_topic_find(name, strlen(name));

		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			outbox_log("created topic \"%s\"", name);
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			topic->create_error = RD_KAFKA_RESP_ERR_NO_ERROR;
		else
			note_create_error(topic, code, rd_kafka_topic_result_error_string(results[i]));
	}
}

/* Asks Kafka for the topics; afterwards each has a create_error, or 0 there. */
static void
create_topics(rd_kafka_t *client, OutboxTopic **topics, size_t count)
{
	rd_kafka_NewTopic_t **requests = calloc(count, sizeof(*requests));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_event_t *event;
	rd_kafka_resp_err_t code;
	size_t		described = 0;
	size_t		i;

	if (requests == NULL)
		exit_out_of_memory();
	for (i = 0; i < count; i++)
	{
		requests[described] = describe_topic(topics[i]);
		if (requests[described] != NULL)
			described++;
	}
	if (described > 0)
	{
		rd_kafka_CreateTopics(client, requests, described, NULL, queue);
		event = rd_kafka_queue_poll(queue, CREATE_TIMEOUT_MS);
		code = event != NULL ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			take_results(rd_kafka_event_CreateTopics_result(event));
		for (i = 0; code != RD_KAFKA_RESP_ERR_NO_ERROR && i < count; i++)
			note_create_error(topics[i], code, event != NULL ?
							  rd_kafka_event_error_string(event) : NULL);
		if (event != NULL)
			rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy_array(requests, described);
	free(requests);
}

static void
pause_briefly(void)
{
	struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	nanosleep(&pause, NULL);
}

/* Waits until Kafka shows the created topics with leaders. */
static bool
await_topics(rd_kafka_t *client, OutboxTopic **topics, size_t count, int64_t timeout_us,
			 OutboxFailure *failure)
{
	int64_t		deadline = outbox_clock_us() + timeout_us;
	size_t		i = 0;

	while (i < count)
	{
		if (topics[i]->present || topics[i]->create_error != RD_KAFKA_RESP_ERR_NO_ERROR)
			i++;
		else if (outbox_clock_us() > deadline)
			note_create_error(topics[i], RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
							  "it has no leader yet");
		else if (!mark_present(client, true, failure))
			return false;
		else if (!topics[i]->present)
			pause_briefly();
	}
	return true;
}

/*
 * Creates those of the topics that Kafka has not; what could not be created is
 * not present and has its create_error.  False: Kafka cannot be asked.
 */
static bool
make_topics(rd_kafka_t *client, OutboxTopic **topics, size_t count, int64_t timeout_us,
			OutboxFailure *failure)
{
	size_t		absent = 0;
	size_t		i;

	if (count == 0)
		return true;
	if (!mark_present(client, false, failure))
		return false;
	for (i = 0; i < count; i++)
		if (!topics[i]->present)
			topics[absent++] = topics[i];
	if (absent == 0)
		return true;
	create_topics(client, topics, absent);
	return await_topics(client, topics, absent, timeout_us, failure);
}

static void
fail_for_topic(const OutboxTopic *topic, OutboxFailure *failure)
{
	outbox_failure_set(failure, outbox_error_classify(topic->create_error), topic->create_error,
					   "creating a topic", "%s", topic->create_text);
}

/*
 * Remembers what the topic should be like.  With a client it is created if Kafka
 * has it not; false: Kafka cannot be asked.  One with a flaw is never created.
 */
bool
outbox_topic_declare(rd_kafka_t *client, const OutboxTopic *declaration, OutboxFailure *failure)
{
	OutboxTopic *topic = outbox_topic_find(declaration->name, declaration->name_len);

	memcpy(topic->flaw, declaration->flaw, sizeof(topic->flaw));
	topic->declared = topic->flaw[0] == '\0';
	topic->partitions = declaration->partitions;
	topic->replication = declaration->replication;
	topic->retention_ms = declaration->retention_ms;
	topic->max_message_bytes = declaration->max_message_bytes;
	memcpy(topic->cleanup_policy, declaration->cleanup_policy, sizeof(topic->cleanup_policy));
	return client == NULL || !is_missing(topic) ||
		make_topics(client, &topic, 1, APPEAR_TIMEOUT_US, failure);
}

/* Is there a declared topic that nobody has tried to create yet? */
bool
outbox_topics_untried(void)
{
	size_t		i;

	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && is_missing(slots[i]) &&
			slots[i]->create_error == RD_KAFKA_RESP_ERR_NO_ERROR)
			return true;
	return false;
}

/*
 * Creates what is declared and absent, and the cursor topic (one partition,
 * holds no records) if its name is given.  False: Kafka cannot be asked, or the
 * cursor topic cannot be created.
 */
bool
outbox_topics_ensure(rd_kafka_t *client, const char *cursor_topic, OutboxFailure *failure)
{
	OutboxTopic **missing;
	OutboxTopic *cursor = NULL;
	size_t		count;
	bool		ok;

	if (cursor_topic != NULL)
	{
		if (strlen(cursor_topic) >= OUTBOX_TOPIC_NAME_SIZE)
		{
			outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
							   "creating a topic", "the cursor topic's name is too long");
			return false;
		}
		cursor = outbox_topic_find(cursor_topic, strlen(cursor_topic));
		cursor->declared = true;
		cursor->partitions = 1;
		cursor->replication = -1;
		cursor->retention_ms = INT64_MIN;
		cursor->max_message_bytes = INT64_MIN;
		cursor->cleanup_policy[0] = '\0';
	}
	count = list_missing(&missing);
	ok = make_topics(client, missing, count, APPEAR_TIMEOUT_US, failure);
	free(missing);
	if (ok && cursor != NULL && !cursor->present)
	{
		fail_for_topic(cursor, failure);
		return false;
	}
	return ok;
}

/*
 * Sees that a declared topic is there before its event is sent.  False when that
 * may be so later.
 */
static bool
make_for_event(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure)
{
	if (!topic->declared || topic->present)
		return true;
	if (!make_topics(producer, &topic, 1, EVENT_APPEAR_TIMEOUT_US, failure))
		return false;
	if (topic->present || outbox_error_classify(topic->create_error) != OUTBOX_ERROR_RETRIABLE)
		return true;
	fail_for_topic(topic, failure);
	return false;
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
 * Remembers where Kafka has put a record.  False: not behind what it has put there before, so that is
 * another log than it was, and this producer may have the wrong number of its partitions.
 */
bool
outbox_topic_note_offset(OutboxTopic *topic, int32_t partition, int64_t offset)
{
	if (partition >= topic->newest_count)
	{
		int32_t		count = partition + 1;
		int64_t    *newest = realloc(topic->newest, (size_t) count * sizeof(*newest));

		if (newest == NULL)
			exit_out_of_memory();
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
 * Gives the topic a handle of this producer and fetches its metadata, which
 * the first event would else wait for.  A topic that is unknown or forbidden is
 * no failure here: producing to it says what is wrong with it.  A declared topic
 * that cannot be created gets no handle: its event is refused for its create_error.
 */
bool
outbox_topic_open(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure)
{
	int64_t		deadline;
	bool		wait = true;

	topic->absent = false;
	if (!make_for_event(producer, topic, failure))
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
		rd_kafka_resp_err_t code;
		int			partitions;

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
				code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) && outbox_clock_us() < deadline;
		if (wait)
			pause_briefly();
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

/* Declared topics that Kafka has, but one, whose limits were never asked for; returns their number, at most `most`. */
size_t
outbox_topics_list_unlimited(OutboxTopic **list, size_t most, const OutboxTopic *but)
{
	size_t		count = 0;
	size_t		i;

	for (i = 0; i < slot_count && count < most; i++)
		if (slots[i] != NULL && slots[i] != but && slots[i]->declared && slots[i]->present &&
			slots[i]->limits.read_us == 0)
			list[count++] = slots[i];
	return count;
}

/* What a request may bring at most, so that each topic takes it that has refused larger ones; 0: no limit. */
int64_t
outbox_topics_batch_bytes(void)
{
	int64_t		least = 0;
	size_t		i;

	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->crowded && slots[i]->limits.known &&
			(least == 0 || slots[i]->limits.max_message_bytes < least))
			least = slots[i]->limits.max_message_bytes;
	return least;
}

/* Forgets what belongs to the producer that is about to go. */
void
outbox_topics_close(void)
{
	size_t		i;

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
