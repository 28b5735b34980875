/* SPDX-License-Identifier: PostgreSQL
 *
 * explain.c
 *	  What an error of Kafka's means here: the limit, the property and our value, the topic.
 *
 * Runs in the sender.  Kafka is asked for its side of it; who may not ask (DescribeConfigs), or gets
 * no answer, reads a text without it.  Every text ends with Kafka's own words.
 */
#include "sender.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ASK_TIMEOUT_MS		3000
#define UNKNOWN_VALUE		"?"

/* Takes the values of those limits from the answer. */
static void
take_entries(const rd_kafka_ConfigResource_t *resource, OutboxLimit *limits, int count)
{
	const rd_kafka_ConfigEntry_t **entries;
	size_t		found;
	size_t		i;
	int			k;

	entries = rd_kafka_ConfigResource_configs(resource, &found);
	for (i = 0; i < found; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		for (k = 0; k < count && value != NULL; k++)
			if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), limits[k].name) == 0)
				snprintf(limits[k].value, sizeof(limits[k].value), "%s", value);
	}
}

/* Asks for the limits of one topic or broker; what is not told stays UNKNOWN_VALUE. */
static void
ask_limits(rd_kafka_t *client, rd_kafka_ResourceType_t type, const char *name, OutboxLimit *limits, int count)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(type, name);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
	const rd_kafka_ConfigResource_t **answers;
	rd_kafka_event_t *event;
	char		error[128];
	size_t		answered = 0;
	int			i;

	for (i = 0; i < count; i++)
		snprintf(limits[i].value, sizeof(limits[i].value), UNKNOWN_VALUE);
	rd_kafka_AdminOptions_set_request_timeout(options, ASK_TIMEOUT_MS, error, sizeof(error));
	rd_kafka_DescribeConfigs(client, &resource, 1, options, queue);
	event = rd_kafka_queue_poll(queue, ASK_TIMEOUT_MS + 500);
	if (event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		answers = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &answered);
		if (answered == 1 && rd_kafka_ConfigResource_error(answers[0]) == RD_KAFKA_RESP_ERR_NO_ERROR)
			take_entries(answers[0], limits, count);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ConfigResource_destroy(resource);
}

/* transaction.max.timeout.ms of a broker; 0: it does not say. */
int64_t
outbox_explain_transaction_limit(rd_kafka_t *client)
{
	OutboxLimit limit = {.name = "transaction.max.timeout.ms"};
	const rd_kafka_metadata_t *metadata;
	char		broker[16] = "";

	if (rd_kafka_metadata(client, 0, NULL, &metadata, ASK_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	if (metadata->broker_cnt > 0)
		snprintf(broker, sizeof(broker), "%" PRId32, metadata->brokers[0].id);
	rd_kafka_metadata_destroy(metadata);
	if (broker[0] == '\0')
		return 0;
	ask_limits(client, RD_KAFKA_RESOURCE_BROKER, broker, &limit, 1);
	return strtoll(limit.value, NULL, 10);
}

/* Kafka does not allow our transaction.timeout.ms. */
void
outbox_explain_transaction_timeout(rd_kafka_t *client, int64_t ours_ms, OutboxFailure *failure)
{
	int64_t		limit_ms = outbox_explain_transaction_limit(client);

	if (limit_ms > 0)
		outbox_failure_precede(failure, "transaction.timeout.ms is %" PRId64 " (outbox.kafka_properties), more than "
							   "transaction.max.timeout.ms of the brokers, which is %" PRId64, ours_ms, limit_ms);
	else
		outbox_failure_precede(failure, "transaction.timeout.ms is %" PRId64 " (outbox.kafka_properties), more than "
							   "transaction.max.timeout.ms of the brokers", ours_ms);
}

/* The record's time is not one that the topic takes. */
static void
explain_time(rd_kafka_t *client, const OutboxFailedDelivery *failed, OutboxFailure *failure)
{
	OutboxLimit limits[] = {{.name = "message.timestamp.before.max.ms"}, {.name = "message.timestamp.after.max.ms"},
	{.name = "message.timestamp.difference.max.ms"}};
	time_t		second = (time_t) (failed->time_ms / 1000);
	struct tm	utc;
	char		ours[32];

	gmtime_r(&second, &utc);
	strftime(ours, sizeof(ours), "%Y-%m-%dT%H:%M:%SZ", &utc);
	ask_limits(client, RD_KAFKA_RESOURCE_TOPIC, failed->topic->name, limits, 3);
	outbox_failure_precede(failure, "topic \"%s\" takes no records of %s, the time of the batch by the database's clock: by Kafka's clock "
						   "that is earlier than message.timestamp.before.max.ms (%s) or later than "
						   "message.timestamp.after.max.ms (%s) allows%s%s%s. The relay tries again until the clocks agree "
						   "or the limit is raised", failed->topic->name, ours, limits[0].value, limits[1].value,
						   limits[2].value[0] == UNKNOWN_VALUE[0] ? "" : " (message.timestamp.difference.max.ms ",
						   limits[2].value[0] == UNKNOWN_VALUE[0] ? "" : limits[2].value,
						   limits[2].value[0] == UNKNOWN_VALUE[0] ? "" : ")");
}

/* Has the partition a leader, as far as Kafka says now? */
static bool
has_leader(rd_kafka_t *client, const OutboxFailedDelivery *failed)
{
	const rd_kafka_metadata_t *metadata;
	bool		has = true;
	int			i;

	if (failed->topic->handle == NULL ||
		rd_kafka_metadata(client, 0, failed->topic->handle, &metadata, ASK_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	for (i = 0; metadata->topic_cnt == 1 && i < metadata->topics[0].partition_cnt; i++)
		if (metadata->topics[0].partitions[i].id == failed->partition)
			has = metadata->topics[0].partitions[i].leader >= 0;
	rd_kafka_metadata_destroy(metadata);
	return has;
}

/* Why librdkafka takes no event of so many bytes of key and payload. */
void
outbox_explain_size(rd_kafka_t *client, size_t bytes, char *text, size_t size)
{
	char		most[32] = UNKNOWN_VALUE;
	size_t		most_size = sizeof(most);

	rd_kafka_conf_get(rd_kafka_conf(client), "message.max.bytes", most, &most_size);
	snprintf(text, size, "a record of %zu bytes and its headers is larger than message.max.bytes (outbox.kafka_properties), "
			 "which is %s: %s", bytes, most, rd_kafka_err2str(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE));
}

/* Why a batch failed whose first failed delivery this is. */
void
outbox_explain_delivery(rd_kafka_t *client, OutboxFailedDelivery *failed, OutboxFailure *failure)
{
	outbox_failure_from_code(failure, failed->error, "sending events", NULL);
	if (failed->topic == NULL)
		return;
	if (failed->error == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP)
		explain_time(client, failed, failure);
	else if (failed->partition < 0)
		outbox_failure_precede(failure, "topic \"%s\"", failed->topic->name);
	else
	{
		failed->leaderless = !has_leader(client, failed);
		outbox_failure_precede(failure, "partition %" PRId32 " of topic \"%s\"%s", failed->partition, failed->topic->name,
							   failed->leaderless ? " has no leader" : "");
	}
}
