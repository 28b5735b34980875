/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_create.c
 *	  The making of topics that were declared, and of the cursor's, when Kafka has them not.
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
#include "topic_create.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "failure.h"
#include "process.h"
#include "topics.h"
#include "src/common/topic_names.h"

#define METADATA_TIMEOUT_MS		10000
#define CREATE_TIMEOUT_MS		30000
#define APPEAR_TIMEOUT_US		15000000 /* a created topic has its leaders */
#define EVENT_APPEAR_TIMEOUT_US 5000000	 /* the same inside a transaction */

/* Is it created by its first event only? */
static bool
is_dead_letter_topic(const OutboxTopic *topic)
{
	size_t len = sizeof(OUTBOX_DLT_SUFFIX) - 1;

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
	OutboxTopic *topic;
	size_t		 count = 0;
	size_t		 most = 0;
	size_t		 at = 0;

	while (outbox_topics_next(&at) != NULL)
		most++;
	*missing = calloc(most + 1, sizeof(OutboxTopic *));
	if (*missing == NULL)
		outbox_exit_out_of_memory();
	for (at = 0; (topic = outbox_topics_next(&at)) != NULL;)
		if (is_missing(topic))
			(*missing)[count++] = topic;
	return count;
}

/* Remembers why the topic cannot be created; the log hears of it once. */
static void
note_create_error(OutboxTopic *topic, rd_kafka_resp_err_t code, const char *text)
{
	bool known = topic->create_error == code;

	topic->create_error = code;
	snprintf(topic->create_text, sizeof(topic->create_text),
			 "topic \"%s\" could not be created: %s", topic->name,
			 text != NULL ? text : rd_kafka_err2str(code));
	if (!known)
		outbox_process_log("%s", topic->create_text);
}

static bool
has_all_leaders(const rd_kafka_metadata_topic_t *found)
{
	int i;

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
	rd_kafka_resp_err_t		   code;
	int						   i;

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
		OutboxTopic						*topic = outbox_topic_known(found->topic);

		if (topic != NULL && (!with_leaders || has_all_leaders(found)))
		{
			topic->present = true;
			topic->create_error = RD_KAFKA_RESP_ERR_NO_ERROR;
		}
	}
	rd_kafka_metadata_destroy(metadata);
	return true;
}

/* What CreateTopics shall be told of one topic; NULL: it has its create_error. */
static rd_kafka_NewTopic_t *
describe_topic(OutboxTopic *topic)
{
	rd_kafka_NewTopic_t *request;
	char				 error[256];
	char				 number[32];

	request = rd_kafka_NewTopic_new(topic->name, topic->partitions > 0 ? topic->partitions : -1,
									topic->replication > 0 ? topic->replication : -1, error,
									sizeof(error));
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
	size_t							count;
	size_t							i;

	results = rd_kafka_CreateTopics_result_topics(result, &count);
	for (i = 0; i < count; i++)
	{
		const char		   *name = rd_kafka_topic_result_name(results[i]);
		rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
		OutboxTopic		   *topic = outbox_topic_find(name, strlen(name));

		if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
			outbox_process_log("created topic \"%s\"", name);
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
	rd_kafka_queue_t	 *queue = rd_kafka_queue_new(client);
	rd_kafka_event_t	 *event;
	rd_kafka_resp_err_t	  code;
	size_t				  described = 0;
	size_t				  i;

	if (requests == NULL)
		outbox_exit_out_of_memory();
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
			note_create_error(topics[i], code,
							  event != NULL ? rd_kafka_event_error_string(event) : NULL);
		if (event != NULL)
			rd_kafka_event_destroy(event);
	}
	rd_kafka_queue_destroy(queue);
	rd_kafka_NewTopic_destroy_array(requests, described);
	free(requests);
}

/* Waits until Kafka shows the created topics with leaders. */
static bool
await_topics(rd_kafka_t *client, OutboxTopic **topics, size_t count, int64_t timeout_us,
			 OutboxFailure *failure)
{
	int64_t deadline = outbox_clock_us() + timeout_us;
	size_t	i = 0;

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
			outbox_pause_briefly();
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
	size_t absent = 0;
	size_t i;

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
	topic->waits = declaration->waits;
	memcpy(topic->cleanup_policy, declaration->cleanup_policy, sizeof(topic->cleanup_policy));
	return client == NULL || !is_missing(topic) ||
		make_topics(client, &topic, 1, APPEAR_TIMEOUT_US, failure);
}

/* Is there a declared topic that nobody has tried to create yet? */
bool
outbox_topics_untried(void)
{
	OutboxTopic *topic;
	size_t		 at = 0;

	while ((topic = outbox_topics_next(&at)) != NULL)
		if (is_missing(topic) && topic->create_error == RD_KAFKA_RESP_ERR_NO_ERROR)
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
	OutboxTopic	 *cursor = NULL;
	size_t		  count;
	bool		  ok;

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
bool
outbox_topic_make_for_event(rd_kafka_t *producer, OutboxTopic *topic, OutboxFailure *failure)
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
