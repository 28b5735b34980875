/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_topic.c
 *	  How long a topic keeps a record: asks a broker on the caller's handle.
 *
 * Runs in the services, member threads and that of log_check.c.
 */
#include "consumer_topic.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"

#define ANSWER_TIMEOUT_MS	10000

/* Fills what it is not NULL from an answer to DescribeConfigs for one topic: retention.ms, and whether nothing is compacted. */
static bool
read_retention(rd_kafka_event_t *event, const char *topic, int64_t *ms, bool *keeps_all)
{
	const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
	const rd_kafka_ConfigResource_t **resources;
	const rd_kafka_ConfigEntry_t **entries = NULL;
	size_t		count = 0;
	bool		deletes = true;

	if (result != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		resources = rd_kafka_DescribeConfigs_result_resources(result, &count);
		entries = rd_kafka_ConfigResource_configs(resources[0], &count);
	}
	*ms = -1;
	*keeps_all = false;
	for (size_t i = 0; i < count; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (value == NULL)
			continue;
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "retention.ms") == 0)
			*ms = strtoll(value, NULL, 10);
		else if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "cleanup.policy") == 0)
		{
			deletes = strstr(value, "delete") != NULL;
			*keeps_all = strcmp(value, "delete") == 0;
		}
	}
	if (!deletes)
		*ms = -1;
	if (count == 0)
		outbox_log(OUTBOX_LOG_INFO, "retention_unknown", NULL, "%s: %s", topic,
				   event != NULL && rd_kafka_event_error_string(event) != NULL
				   ? rd_kafka_event_error_string(event) : "no answer");
	return count > 0;
}

bool
outbox_topic_retention(rd_kafka_t *rk, const char *topic, int64_t *ms, bool *keeps_all)
{
	rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	char		reason[256];
	bool		known;

	rd_kafka_AdminOptions_set_request_timeout(options, ANSWER_TIMEOUT_MS, reason, sizeof(reason));
	rd_kafka_DescribeConfigs(rk, &resource, 1, options, queue);
	event = rd_kafka_queue_poll(queue, ANSWER_TIMEOUT_MS + 1000);
	known = read_retention(event, topic, ms, keeps_all);
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ConfigResource_destroy(resource);
	return known;
}
