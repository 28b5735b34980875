/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  The topics the sender knows: their handles, and the making of those that
 *	  were declared (and of the cursor's) when Kafka has them not.
 *
 * Runs in the sender.  An existing topic is never altered.  Existence is asked
 * with a request for all topics: a request that names a topic would make a
 * broker with auto.create.topics.enable create it with the wrong settings.
 */
#include "sender.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define METADATA_TIMEOUT_MS		10000
#define CREATE_TIMEOUT_MS		30000
#define APPEAR_TIMEOUT_US		15000000	/* a created topic has its leaders */
#define PREFETCH_TIMEOUT_US		2000000 /* a topic's metadata before its first event */

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

static size_t
hash_name(const char *name, size_t len)
{
	size_t		hash = 14695981039346656037u;
	size_t		i;

	for (i = 0; i < len; i++)
		hash = (hash ^ (uint8_t) name[i]) * 1099511628211u;
	return hash;
}

/* The slot that holds the name, or the free one where it belongs. */
static OutboxTopic **
find_slot(const char *name, size_t len)
{
	size_t		at = hash_name(name, len) & (slot_count - 1);

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

/* Remembers what the topic should be like if it has to be created. */
void
outbox_topic_declare(const OutboxTopic *declaration)
{
	OutboxTopic *topic = outbox_topic_find(declaration->name, declaration->name_len);

	topic->declared = true;
	topic->partitions = declaration->partitions;
	topic->replication = declaration->replication;
	topic->retention_ms = declaration->retention_ms;
	memcpy(topic->cleanup_policy, declaration->cleanup_policy, sizeof(topic->cleanup_policy));
}

/* Lists the declared topics not known to be present; *missing is malloc'd. */
static size_t
list_missing(OutboxTopic ***missing)
{
	size_t		count = 0;
	size_t		i;

	*missing = calloc(topic_count + 1, sizeof(OutboxTopic *));
	if (*missing == NULL)
		exit_out_of_memory();
	for (i = 0; i < slot_count; i++)
		if (slots[i] != NULL && slots[i]->declared && !slots[i]->present)
			(*missing)[count++] = slots[i];
	return count;
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
			topic->present = true;
	}
	rd_kafka_metadata_destroy(metadata);
	return true;
}

/* What CreateTopics shall be told of one topic. */
static rd_kafka_NewTopic_t *
describe_topic(const OutboxTopic *topic, OutboxFailure *failure)
{
	rd_kafka_NewTopic_t *request;
	char		error[256];
	char		retention[32];

	request = rd_kafka_NewTopic_new(topic->name, topic->partitions > 0 ? topic->partitions : -1,
									topic->replication > 0 ? topic->replication : -1,
									error, sizeof(error));
	if (request == NULL)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR__INVALID_ARG,
						   "creating a topic", "topic \"%s\": %s", topic->name, error);
		return NULL;
	}
	if (topic->retention_ms != INT64_MIN)
	{
		snprintf(retention, sizeof(retention), "%" PRId64, topic->retention_ms);
		rd_kafka_NewTopic_set_config(request, "retention.ms", retention);
	}
	if (topic->cleanup_policy[0] != '\0')
		rd_kafka_NewTopic_set_config(request, "cleanup.policy", topic->cleanup_policy);
	return request;
}

/* Looks at Kafka's answer for each topic. */
static bool
check_created(rd_kafka_event_t *event, OutboxFailure *failure)
{
	const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);
	const rd_kafka_topic_result_t **topics;
	size_t		count;
	size_t		i;

	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL)
	{
		outbox_failure_from_code(failure, rd_kafka_event_error(event), "creating topics",
								 rd_kafka_event_error_string(event));
		return false;
	}
	topics = rd_kafka_CreateTopics_result_topics(result, &count);
	for (i = 0; i < count; i++)
	{
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(topics[i]);
		const char *text = rd_kafka_topic_result_error_string(topics[i]);

		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			outbox_log("created topic \"%s\"", rd_kafka_topic_result_name(topics[i]));
		else if (code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		{
			outbox_failure_set(failure, outbox_error_classify(code), code, "creating a topic",
							   "topic \"%s\": %s", rd_kafka_topic_result_name(topics[i]),
							   text != NULL ? text : rd_kafka_err2str(code));
			return false;
		}
	}
	return true;
}

static bool
create_topics(rd_kafka_t *client, OutboxTopic **missing, size_t count, OutboxFailure *failure)
{
	rd_kafka_NewTopic_t **requests = calloc(count, sizeof(*requests));
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	rd_kafka_event_t *event = NULL;
	bool		ok = requests != NULL;
	size_t		described;

	for (described = 0; ok && described < count; described++)
	{
		requests[described] = describe_topic(missing[described], failure);
		if (requests[described] == NULL)
			break;
	}
	ok = ok && described == count;
	if (ok)
	{
		rd_kafka_CreateTopics(client, requests, count, NULL, queue);
		event = rd_kafka_queue_poll(queue, CREATE_TIMEOUT_MS);
		if (event == NULL)
			outbox_failure_from_code(failure, RD_KAFKA_RESP_ERR__TIMED_OUT, "creating topics",
									 NULL);
		ok = event != NULL && check_created(event, failure);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	if (requests != NULL)
		rd_kafka_NewTopic_destroy_array(requests, described);
	free(requests);
	return ok;
}

static void
pause_briefly(void)
{
	struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	nanosleep(&pause, NULL);
}

/* Waits until Kafka shows the created topics with leaders. */
static bool
await_topics(rd_kafka_t *client, OutboxTopic **created, size_t count, OutboxFailure *failure)
{
	int64_t		deadline = outbox_clock_us() + APPEAR_TIMEOUT_US;
	size_t		i = 0;

	while (i < count)
	{
		if (!mark_present(client, true, failure))
			return false;
		while (i < count && created[i]->present)
			i++;
		if (i == count)
			break;
		if (outbox_clock_us() > deadline)
		{
			outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE,
							   RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, "creating topics",
							   "topic \"%s\" was created but has no leader", created[i]->name);
			return false;
		}
		pause_briefly();
	}
	return true;
}

/*
 * Creates what is declared and absent, and the cursor topic (one partition,
 * holds no records) if its name is given.
 */
bool
outbox_topics_ensure(rd_kafka_t *client, const char *cursor_topic, OutboxFailure *failure)
{
	OutboxTopic **missing;
	size_t		count;
	bool		ok = true;

	if (cursor_topic != NULL)
	{
		OutboxTopic *topic;

		if (strlen(cursor_topic) >= OUTBOX_TOPIC_NAME_SIZE)
		{
			outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
							   "creating a topic", "the cursor topic's name is too long");
			return false;
		}
		topic = outbox_topic_find(cursor_topic, strlen(cursor_topic));
		topic->declared = true;
		topic->partitions = 1;
		topic->replication = -1;
		topic->retention_ms = INT64_MIN;
		topic->cleanup_policy[0] = '\0';
	}
	if (list_missing(&missing) > 0)
	{
		free(missing);
		if (!mark_present(client, false, failure))
			return false;
		count = list_missing(&missing);
		ok = count == 0 || (create_topics(client, missing, count, failure) &&
							await_topics(client, missing, count, failure));
	}
	free(missing);
	return ok;
}

/*
 * Gives the topic a handle of this producer and fetches its metadata, which
 * the first event would else wait for.  A topic that is unknown or forbidden is
 * no failure here: producing to it says what is wrong with it.
 */
bool
outbox_topic_open(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure)
{
	int64_t		deadline = outbox_clock_us() + PREFETCH_TIMEOUT_US;
	bool		wait = true;

	topic->handle = rd_kafka_topic_new(producer, topic->name, NULL);
	if (topic->handle == NULL)
	{
		outbox_failure_from_code(failure, rd_kafka_last_error(), "opening a topic", NULL);
		return false;
	}
	while (wait)
	{
		const rd_kafka_metadata_t *metadata;
		rd_kafka_resp_err_t code;

		code = rd_kafka_metadata(producer, 0, topic->handle, &metadata, METADATA_TIMEOUT_MS);
		if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_poll(producer, 0);
			outbox_failure_from_code(failure, code, "fetching a topic's metadata", NULL);
			return false;
		}
		code = metadata->topic_cnt == 1 ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_NO_ERROR;
		rd_kafka_metadata_destroy(metadata);
		wait = (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
				code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) && outbox_clock_us() < deadline;
		if (wait)
			pause_briefly();
	}
	return true;
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
		slots[i]->present = false;
	}
}
