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

#include "services/lib/log.h"

/* The settings of the one topic asked for, *count of them; *reason: why there are none. */
static const rd_kafka_ConfigEntry_t **
find_entries(rd_kafka_event_t *event, size_t *count, OutboxTopicAnswer *answer, const char **reason)
{
	const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
	const rd_kafka_ConfigResource_t		   **resources = NULL;

	*count = 0;
	*answer = OUTBOX_TOPIC_SILENT;
	*reason = event != NULL && rd_kafka_event_error_string(event) != NULL ?
		rd_kafka_event_error_string(event) :
		"no answer";
	if (result != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
		resources = rd_kafka_DescribeConfigs_result_resources(result, count);
	if (resources == NULL || *count == 0)
		return NULL;
	switch (rd_kafka_ConfigResource_error(resources[0]))
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			*answer = OUTBOX_TOPIC_TOLD;
			break;
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
			*answer = OUTBOX_TOPIC_REFUSED;
			break;
		default:
			break;
	}
	if (*answer != OUTBOX_TOPIC_TOLD)
		*reason = rd_kafka_err2str(rd_kafka_ConfigResource_error(resources[0]));
	return rd_kafka_ConfigResource_configs(resources[0], count);
}

/*
 * Takes what an answer to DescribeConfigs for one topic tells: retention.ms, and whether nothing is
 * compacted.
 */
static OutboxTopicAnswer
read_retention(rd_kafka_event_t *event, const char *topic, int64_t *ms, bool *keeps_all)
{
	size_t						   count;
	OutboxTopicAnswer			   answer;
	const char					  *reason;
	const rd_kafka_ConfigEntry_t **entries = find_entries(event, &count, &answer, &reason);
	bool						   deletes = true;

	*ms = -1;
	*keeps_all = false;
	for (size_t i = 0; answer == OUTBOX_TOPIC_TOLD && i < count; i++)
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
	if (answer != OUTBOX_TOPIC_TOLD)
		outbox_log(OUTBOX_LOG_INFO, "retention_unknown", "%s: %s", topic, reason);
	return answer;
}

OutboxTopicAnswer
outbox_topic_retention(rd_kafka_t *rk, const char *topic, int wait_ms, int64_t *ms, bool *keeps_all)
{
	rd_kafka_ConfigResource_t *resource =
		rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
	rd_kafka_AdminOptions_t *options =
		rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_event_t *event;
	char			  reason[256];
	OutboxTopicAnswer answer;

	rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, reason, sizeof(reason));
	rd_kafka_DescribeConfigs(rk, &resource, 1, options, queue);
	event = rd_kafka_queue_poll(queue, wait_ms + 1000);
	answer = read_retention(event, topic, ms, keeps_all);
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_ConfigResource_destroy(resource);
	return answer;
}
