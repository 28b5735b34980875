/* SPDX-License-Identifier: PostgreSQL
 *
 * limits.c
 *	  What a topic takes, as Kafka's configuration of it says.
 *
 * Runs in the sender, main thread.  Asked with DescribeConfigs when a topic is opened, and again
 * before an event is refused by an answer that is not fresh, for a person may have changed it.
 * Without the right to ask, or without an answer, nothing is known, and Kafka itself has to refuse.
 * The call is one to the controller, for explain.c to a broker, not to a coordinator, so librdkafka
 * 2.0.2 takes it on a producer handle.
 */
#include "limits.h"

#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "process.h"
#include "topics.h"

#define ASK_TIMEOUT_MS 2000
#define OPEN_FRESH_US  60000000	 /* one that a topic is opened with */
#define SILENT_US	   60000000	 /* after no answer, until Kafka is asked again */
#define DENIED_US	   300000000 /* the same of a topic that may not be asked for */
#define ASK_MOST	   500		 /* topics of one request */

static int64_t silent_until;

static int64_t
read_number(const char *value)
{
	char   *end;
	int64_t number = strtoll(value, &end, 10);

	return *value != '\0' && *end == '\0' ? number : INT64_MAX;
}

static void
take_entries(OutboxTopicLimits *limits, const rd_kafka_ConfigResource_t *resource)
{
	size_t						   count;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);
	size_t						   i;

	for (i = 0; i < count; i++)
	{
		const char *name = rd_kafka_ConfigEntry_name(entries[i]);
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (value == NULL)
			continue;
		if (strcmp(name, "cleanup.policy") == 0)
			limits->compacted = strstr(value, "compact") != NULL;
		else if (strcmp(name, "max.message.bytes") == 0)
			limits->max_message_bytes = read_number(value);
		else if (strcmp(name, "message.timestamp.before.max.ms") == 0)
			limits->before_max_ms = read_number(value);
		else if (strcmp(name, "message.timestamp.after.max.ms") == 0)
			limits->after_max_ms = read_number(value);
		else if (strcmp(name, "message.timestamp.difference.max.ms") == 0)
			limits->difference_max_ms = read_number(value);
	}
}

/* One topic's part of the answer. */
static void
take_resource(const rd_kafka_ConfigResource_t *resource, void *arg)
{
	const char		   *name = rd_kafka_ConfigResource_name(resource);
	OutboxTopic		   *topic = outbox_topic_find(name, strlen(name));
	rd_kafka_resp_err_t code = rd_kafka_ConfigResource_error(resource);

	(void) arg;
	topic->limits = (OutboxTopicLimits) {
		.known = code == RD_KAFKA_RESP_ERR_NO_ERROR,
		.read_us = outbox_clock_us(),
		.max_message_bytes = INT64_MAX,
		.before_max_ms = -1,
		.after_max_ms = -1,
		.difference_max_ms = -1,
	};
	if (topic->limits.known)
		take_entries(&topic->limits, resource);
	else if (outbox_error_classify(code) == OUTBOX_ERROR_AUTH && !topic->limits_denied_told)
	{
		topic->limits_denied_told = true;
		outbox_process_log("the settings of topic \"%s\" may not be read, what it does not take is "
						   "found "
						   "by trying: %s",
						   name, rd_kafka_err2str(code));
	}
}

/*
 * Asks Kafka for the settings of topics or brokers, which are freed; take sees each one's.  False:
 * no answer.
 */
bool
outbox_limits_describe(rd_kafka_t *client, rd_kafka_ConfigResource_t **resources, size_t count,
					   void (*take)(const rd_kafka_ConfigResource_t *resource, void *arg),
					   void *arg)
{
	rd_kafka_AdminOptions_t *options =
		rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_queue_t				 *queue = rd_kafka_queue_new(client);
	const rd_kafka_ConfigResource_t **answers;
	rd_kafka_event_t				 *event;
	char							  error[256];
	size_t							  answered = 0;
	size_t							  i;
	bool							  told;

	rd_kafka_AdminOptions_set_request_timeout(options, ASK_TIMEOUT_MS, error, sizeof(error));
	rd_kafka_DescribeConfigs(client, resources, count, options, queue);
	event = rd_kafka_queue_poll(queue, ASK_TIMEOUT_MS + 500);
	told = event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR;
	if (told)
	{
		answers =
			rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event),
													  &answered);
		for (i = 0; i < answered; i++)
			take(answers[i], arg);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy_array(resources, count);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	return told;
}

/* Asks for the topics; those without an answer keep what is known of them. */
static void
ask(rd_kafka_t *client, OutboxTopic **topics, size_t count)
{
	rd_kafka_ConfigResource_t *resources[ASK_MOST];
	size_t					   i;

	for (i = 0; i < count; i++)
		resources[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topics[i]->name);
	if (!outbox_limits_describe(client, resources, count, take_resource, NULL))
		silent_until = outbox_clock_us() + SILENT_US;
}

static bool
is_due(const OutboxTopicLimits *limits, int64_t fresh_us)
{
	int64_t age = outbox_clock_us() - limits->read_us;

	return limits->read_us == 0 || age > (limits->known ? fresh_us : DENIED_US);
}

/*
 * At the opening of the topic: one request for it and for the declared topics of which nothing is
 * known.
 */
void
outbox_limits_open(rd_kafka_t *client, OutboxTopic *topic)
{
	OutboxTopic *topics[ASK_MOST];

	if (!is_due(&topic->limits, OPEN_FRESH_US) || outbox_clock_us() < silent_until)
		return;
	topics[0] = topic;
	ask(client, topics, 1 + outbox_topics_list_unlimited(topics + 1, ASK_MOST - 1, topic));
}

/*
 * Before an event is refused: are the limits known as of that time or later?  They are asked for if
 * they are not.
 */
bool
outbox_limits_freshen(rd_kafka_t *client, OutboxTopic *topic, int64_t since_us)
{
	if (topic->limits.read_us < since_us && outbox_clock_us() >= silent_until)
		ask(client, &topic, 1);
	return topic->limits.known && topic->limits.read_us >= since_us;
}

/* Kafka has refused what the limits allowed: true if they are others by now. */
bool
outbox_limits_have_changed(rd_kafka_t *client, OutboxTopic *topic)
{
	OutboxTopicLimits before = topic->limits;

	if (outbox_clock_us() >= silent_until && (before.known || is_due(&before, DENIED_US)))
		ask(client, &topic, 1);
	return topic->limits.known &&
		(!before.known || topic->limits.compacted != before.compacted ||
		 topic->limits.max_message_bytes != before.max_message_bytes);
}

/* Another log may have other limits. */
void
outbox_limits_forget(OutboxTopic *topic)
{
	topic->limits = (OutboxTopicLimits) {0};
}
