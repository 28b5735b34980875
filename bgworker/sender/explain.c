/* SPDX-License-Identifier: PostgreSQL
 *
 * explain.c
 *	  What an error of Kafka's means here: the limit, the property and our value, the topic.
 *
 * Runs in the sender.  Kafka is asked for its side of it; who may not ask (DescribeConfigs), or
 * gets no answer, reads a text without it.  Every text ends with Kafka's own words.
 */
#include "explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "failure.h"
#include "limits.h"
#include "process.h"
#include "settings.h"
#include "topics.h"
#include "src/common/kafka_property_text.h"

#define ASK_TIMEOUT_MS 3000
#define UNKNOWN_VALUE  "?"

/* For outbox_limits_describe: transaction.max.timeout.ms of the broker. */
static void
take_transaction_limit(const rd_kafka_ConfigResource_t *resource, void *limit_ms)
{
	const rd_kafka_ConfigEntry_t **entries;
	size_t						   count;
	size_t						   i;

	if (rd_kafka_ConfigResource_error(resource) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	entries = rd_kafka_ConfigResource_configs(resource, &count);
	for (i = 0; i < count; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (value != NULL &&
			strcmp(rd_kafka_ConfigEntry_name(entries[i]), "transaction.max.timeout.ms") == 0)
			*(int64_t *) limit_ms = strtoll(value, NULL, 10);
	}
}

/* transaction.max.timeout.ms of a broker; 0: it does not say. */
int64_t
outbox_explain_transaction_limit(rd_kafka_t *client)
{
	rd_kafka_ConfigResource_t *resource;
	int64_t					   limit_ms = 0;
	const rd_kafka_metadata_t *metadata;
	char					   broker[16] = "";

	if (rd_kafka_metadata(client, 0, NULL, &metadata, ASK_TIMEOUT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return 0;
	if (metadata->broker_cnt > 0)
		snprintf(broker, sizeof(broker), "%" PRId32, metadata->brokers[0].id);
	rd_kafka_metadata_destroy(metadata);
	if (broker[0] == '\0')
		return 0;
	resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_BROKER, broker);
	(void) outbox_limits_describe(client, &resource, 1, take_transaction_limit, &limit_ms);
	return limit_ms;
}

/* Kafka does not allow our transaction.timeout.ms. */
void
outbox_explain_transaction_timeout(rd_kafka_t *client, int64_t ours_ms, OutboxFailure *failure)
{
	int64_t limit_ms = outbox_explain_transaction_limit(client);

	if (limit_ms > 0)
		outbox_failure_precede(failure,
							   "transaction.timeout.ms is %" PRId64
							   " (outbox.kafka_properties), more than "
							   "transaction.max.timeout.ms of the brokers, which is %" PRId64,
							   ours_ms, limit_ms);
	else
		outbox_failure_precede(failure,
							   "transaction.timeout.ms is %" PRId64
							   " (outbox.kafka_properties), more than "
							   "transaction.max.timeout.ms of the brokers",
							   ours_ms);
}

/* Takes the user's values out of librdkafka's words, in place; numbers stay. */
void
outbox_explain_without_values(const OutboxSettings *settings, char *text)
{
	int i;

	for (i = 0; i < settings->property_count; i++)
		outbox_kafka_hide_value(text, settings->properties[i].value);
}

/* "name (value)"; "?" for one that is not told. */
static void
describe_limit(const char *name, int64_t ms, char *text, size_t size)
{
	if (ms >= 0)
		snprintf(text, size, "%s (%" PRId64 ")", name, ms);
	else
		snprintf(text, size, "%s (" UNKNOWN_VALUE ")", name);
}

/* The record's time is not one that the topic takes. */
static void
explain_time(rd_kafka_t *client, const OutboxFailedDelivery *failed, OutboxFailure *failure)
{
	bool known = outbox_limits_freshen(client, failed->topic, outbox_clock_us());
	const OutboxTopicLimits *limits = &failed->topic->limits;
	time_t					 second = (time_t) (failed->time_ms / 1000);
	struct tm				 utc;
	char					 ours[32];
	char					 before[64];
	char					 after[64];
	char					 difference[80] = "";

	gmtime_r(&second, &utc);
	strftime(ours, sizeof(ours), "%Y-%m-%dT%H:%M:%SZ", &utc);
	describe_limit("message.timestamp.before.max.ms", known ? limits->before_max_ms : -1, before,
				   sizeof(before));
	describe_limit("message.timestamp.after.max.ms", known ? limits->after_max_ms : -1, after,
				   sizeof(after));
	if (known && limits->difference_max_ms >= 0)
		snprintf(difference, sizeof(difference),
				 " (message.timestamp.difference.max.ms %" PRId64 ")", limits->difference_max_ms);
	outbox_failure_precede(failure,
						   "topic \"%s\" takes no records of %s, the time of the batch by the "
						   "database's clock: by Kafka's clock "
						   "that is earlier than %s or later than %s allows%s. The relay tries "
						   "again until the clocks agree "
						   "or the limit is raised",
						   failed->topic->name, ours, before, after, difference);
}

/* Has the partition a leader, as far as Kafka says now? */
static bool
has_leader(rd_kafka_t *client, const OutboxFailedDelivery *failed)
{
	const rd_kafka_metadata_t *metadata;
	bool					   has = true;
	int						   i;

	if (failed->topic->handle == NULL ||
		rd_kafka_metadata(client, 0, failed->topic->handle, &metadata, ASK_TIMEOUT_MS) !=
			RD_KAFKA_RESP_ERR_NO_ERROR)
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
	char   most[32] = UNKNOWN_VALUE;
	size_t most_size = sizeof(most);

	rd_kafka_conf_get(rd_kafka_conf(client), "message.max.bytes", most, &most_size);
	snprintf(text, size,
			 "a record of %zu bytes and its headers is larger than message.max.bytes "
			 "(outbox.kafka_properties), "
			 "which is %s: %s",
			 bytes, most, rd_kafka_err2str(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE));
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
		outbox_failure_precede(failure, "partition %" PRId32 " of topic \"%s\"%s",
							   failed->partition, failed->topic->name,
							   failed->leaderless ? " has no leader" : "");
	}
}
