/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_admin.c
 *	  Topics by librdkafka's admin API.
 *
 * Runs in outbox-topics.  Made for librdkafka 2.0.2, which has no
 * IncrementalAlterConfigs: AlterConfigs resets what it is not told, so all
 * settings of the topic are read first and sent again.  Somebody else's change
 * between the two is lost.
 */
#define _GNU_SOURCE
#include "topic_admin.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "services/kafka/kafka_conf.h"

#define METADATA_TIMEOUT_MS 10000
#define ANSWER_TIMEOUT_MS	65000 /* above the 60 s the client gives a request */

static bool fail(OutboxTopicAdmin *admin, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Keeps the first failure. */
static bool
fail(OutboxTopicAdmin *admin, const char *format, ...)
{
	va_list arguments;

	if (admin->error[0] != '\0')
		return false;
	va_start(arguments, format);
	vsnprintf(admin->error, sizeof(admin->error), format, arguments);
	va_end(arguments);
	return false;
}

static void
note_client_error(rd_kafka_t *client, int code, const char *reason, void *arg)
{
	OutboxTopicAdmin *admin = arg;

	(void) client;
	if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || admin->client_error[0] == '\0')
		snprintf(admin->client_error, sizeof(admin->client_error), "%s", reason);
}

bool
outbox_topic_admin_open(OutboxTopicAdmin *admin, const char *bootstrap_servers,
						const char *properties)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char			 reason[512];

	memset(admin, 0, sizeof(*admin));
	if (!outbox_kafka_conf_set(conf, "client.id", "outbox-topics", reason, sizeof(reason)) ||
		!outbox_kafka_conf_take(conf, properties, OUTBOX_KAFKA_ADMIN, reason, sizeof(reason)))
	{
		rd_kafka_conf_destroy(conf);
		return fail(admin, "--kafka-properties: %s", reason);
	}
	if (!outbox_kafka_conf_set(conf, "bootstrap.servers", bootstrap_servers, reason,
							   sizeof(reason)))
	{
		rd_kafka_conf_destroy(conf);
		return fail(admin, "--bootstrap-servers: %s", reason);
	}
	rd_kafka_conf_set_log_cb(conf, NULL);
	rd_kafka_conf_set_error_cb(conf, note_client_error);
	rd_kafka_conf_set_opaque(conf, admin);
	admin->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof(reason));
	if (admin->client == NULL)
	{
		char shown[512];

		rd_kafka_conf_destroy(conf);
		outbox_kafka_conf_hide(reason, properties, OUTBOX_KAFKA_ADMIN, shown, sizeof(shown));
		return fail(admin, "--kafka-properties: %s", shown);
	}
	admin->queue = rd_kafka_queue_new(admin->client);
	return true;
}

void
outbox_topic_admin_close(OutboxTopicAdmin *admin)
{
	if (admin->queue != NULL)
		rd_kafka_queue_destroy(admin->queue);
	if (admin->client != NULL)
		rd_kafka_destroy(admin->client);
	admin->queue = NULL;
	admin->client = NULL;
}

/*
 * Waits for the one answer under way; NULL: it is an error, the caller's request has failed as a
 * whole.
 */
static rd_kafka_event_t *
await_answer(OutboxTopicAdmin *admin, const char *tried)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(admin->queue, ANSWER_TIMEOUT_MS);

	if (event == NULL)
		fail(admin, "%s: Kafka did not answer", tried);
	else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		fail(admin, "%s: %s", tried, rd_kafka_event_error_string(event));
		rd_kafka_event_destroy(event);
		event = NULL;
	}
	return event;
}

static void
read_topic(OutboxTopicStep *step, const rd_kafka_metadata_topic_t *found)
{
	OutboxTopicState *state = &step->state;

	state->exists = true;
	state->partitions = found->partition_cnt;
	state->replication = 0;
	for (int i = 0; i < found->partition_cnt; i++)
	{
		int replicas = found->partitions[i].replica_cnt;

		if (i == 0 || replicas < state->replication)
			state->replication = replicas;
	}
}

/*
 * All topics are asked for: naming one would make a broker that creates topics by itself create it.
 */
static bool
read_metadata(OutboxTopicAdmin *admin, OutboxTopicPlan *plan)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_resp_err_t		   code;

	code = rd_kafka_metadata(admin->client, 1, NULL, &metadata, METADATA_TIMEOUT_MS);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		rd_kafka_poll(admin->client, 0);
		return fail(admin, "listing topics: %s%s%s", rd_kafka_err2str(code),
					admin->client_error[0] != '\0' ? ": " : "", admin->client_error);
	}
	plan->brokers = metadata->broker_cnt;
	for (size_t i = 0; i < plan->count; i++)
	{
		OutboxTopicStep *step = &plan->steps[i];

		memset(&step->state, 0, sizeof(step->state));
		for (int j = 0; j < metadata->topic_cnt; j++)
		{
			const rd_kafka_metadata_topic_t *found = &metadata->topics[j];

			if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
				strcmp(found->topic, step->spec.name) == 0)
				read_topic(step, found);
		}
	}
	rd_kafka_metadata_destroy(metadata);
	return true;
}

static void
read_values(OutboxTopicState *state, const rd_kafka_ConfigResource_t *resource)
{
	const rd_kafka_ConfigEntry_t **entries;
	size_t						   count;

	entries = rd_kafka_ConfigResource_configs(resource, &count);
	for (size_t i = 0; i < count; i++)
	{
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		for (int j = 0; value != NULL && j < OUTBOX_TOPIC_SETTINGS; j++)
		{
			if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), outbox_topic_setting_names[j]) == 0)
				snprintf(state->values[j], OUTBOX_TOPIC_VALUE_SIZE, "%s", value);
		}
	}
}

/*
 * Describes the settings of the existing topics `steps` points to.  *event holds the answer and
 * *resources one entry a topic, in the order asked.  NULL event: failed.
 */
static rd_kafka_event_t *
describe_settings(OutboxTopicAdmin *admin, OutboxTopicStep *const *steps, size_t count,
				  const rd_kafka_ConfigResource_t ***resources)
{
	rd_kafka_ConfigResource_t *asked[count];
	rd_kafka_event_t		  *event;
	size_t					   answered;

	for (size_t i = 0; i < count; i++)
		asked[i] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, steps[i]->spec.name);
	rd_kafka_DescribeConfigs(admin->client, asked, count, NULL, admin->queue);
	rd_kafka_ConfigResource_destroy_array(asked, count);
	event = await_answer(admin, "describing topics");
	if (event == NULL)
		return NULL;
	*resources =
		rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event),
												  &answered);
	for (size_t i = 0; i < answered; i++)
	{
		if (rd_kafka_ConfigResource_error((*resources)[i]) == RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		fail(admin, "describing topic \"%s\": %s", rd_kafka_ConfigResource_name((*resources)[i]),
			 rd_kafka_ConfigResource_error_string((*resources)[i]));
		rd_kafka_event_destroy(event);
		return NULL;
	}
	if (answered == count)
		return event;
	fail(admin, "describing topics: %zu answers instead of %zu", answered, count);
	rd_kafka_event_destroy(event);
	return NULL;
}

bool
outbox_topic_admin_read(OutboxTopicAdmin *admin, OutboxTopicPlan *plan)
{
	OutboxTopicStep					 *existing[plan->count];
	const rd_kafka_ConfigResource_t **resources;
	rd_kafka_event_t				 *event;
	size_t							  count = 0;

	admin->error[0] = '\0';
	if (!read_metadata(admin, plan))
		return false;
	for (size_t i = 0; i < plan->count; i++)
	{
		if (plan->steps[i].state.exists)
			existing[count++] = &plan->steps[i];
	}
	if (count == 0)
		return true;
	event = describe_settings(admin, existing, count, &resources);
	if (event == NULL)
		return false;
	for (size_t i = 0; i < count; i++)
	{
		for (size_t j = 0; j < count; j++)
		{
			if (strcmp(rd_kafka_ConfigResource_name(resources[j]), existing[i]->spec.name) == 0)
				read_values(&existing[i]->state, resources[j]);
		}
	}
	rd_kafka_event_destroy(event);
	return true;
}

/* Judges the answers of CreateTopics and CreatePartitions. */
static bool
judge_topics(OutboxTopicAdmin *admin, const rd_kafka_topic_result_t **results, size_t count,
			 const char *tried)
{
	bool good = true;

	for (size_t i = 0; i < count; i++)
	{
		if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			good = fail(admin, "%s topic \"%s\": %s", tried, rd_kafka_topic_result_name(results[i]),
						rd_kafka_topic_result_error_string(results[i]));
	}
	return good;
}

static bool
create_topics(OutboxTopicAdmin *admin, const OutboxTopicPlan *plan)
{
	rd_kafka_NewTopic_t			   *topics[plan->count];
	const rd_kafka_topic_result_t **results;
	rd_kafka_event_t			   *event;
	char							reason[256];
	size_t							count = 0;
	size_t							answered;
	bool							good;

	for (size_t i = 0; i < plan->count; i++)
	{
		const OutboxTopicSpec *spec = &plan->steps[i].spec;

		if (!plan->steps[i].create)
			continue;
		topics[count] = rd_kafka_NewTopic_new(spec->name, spec->partitions, spec->replication,
											  reason, sizeof(reason));
		if (topics[count] == NULL)
		{
			rd_kafka_NewTopic_destroy_array(topics, count);
			return fail(admin, "creating topic \"%s\": %s", spec->name, reason);
		}
		for (int j = 0; j < OUTBOX_TOPIC_SETTINGS; j++)
		{
			if (spec->values[j][0] != '\0')
				rd_kafka_NewTopic_set_config(topics[count], outbox_topic_setting_names[j],
											 spec->values[j]);
		}
		count++;
	}
	if (count == 0)
		return true;
	rd_kafka_CreateTopics(admin->client, topics, count, NULL, admin->queue);
	rd_kafka_NewTopic_destroy_array(topics, count);
	event = await_answer(admin, "creating topics");
	if (event == NULL)
		return false;
	results =
		rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &answered);
	good = judge_topics(admin, results, answered, "creating");
	rd_kafka_event_destroy(event);
	return good;
}

static bool
is_altered(const OutboxTopicStep *step, const char *name)
{
	for (int i = 0; i < OUTBOX_TOPIC_SETTINGS; i++)
	{
		if (step->alter[i] && strcmp(name, outbox_topic_setting_names[i]) == 0)
			return true;
	}
	return false;
}

/* What the topic itself has set and is not altered, so that AlterConfigs keeps it. */
static bool
keep_settings(OutboxTopicAdmin *admin, rd_kafka_ConfigResource_t *change,
			  const rd_kafka_ConfigResource_t *found, const OutboxTopicStep *step)
{
	const rd_kafka_ConfigEntry_t **entries;
	size_t						   count;

	entries = rd_kafka_ConfigResource_configs(found, &count);
	for (size_t i = 0; i < count; i++)
	{
		const char *name = rd_kafka_ConfigEntry_name(entries[i]);
		const char *value = rd_kafka_ConfigEntry_value(entries[i]);

		if (rd_kafka_ConfigEntry_source(entries[i]) !=
				RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG ||
			is_altered(step, name))
			continue;
		if (value == NULL)
			return fail(admin, "altering topic \"%s\": its %s cannot be read, and would be lost",
						step->spec.name, name);
		rd_kafka_ConfigResource_set_config(change, name, value);
	}
	return true;
}

static bool
send_settings(OutboxTopicAdmin *admin, rd_kafka_ConfigResource_t *change)
{
	const rd_kafka_ConfigResource_t **resources;
	rd_kafka_event_t				 *event;
	size_t							  count;
	bool							  good = true;

	rd_kafka_AlterConfigs(admin->client, &change, 1, NULL, admin->queue);
	event = await_answer(admin, "altering a topic");
	if (event == NULL)
		return false;
	resources =
		rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &count);
	for (size_t i = 0; i < count; i++)
	{
		if (rd_kafka_ConfigResource_error(resources[i]) != RD_KAFKA_RESP_ERR_NO_ERROR)
			good =
				fail(admin, "altering topic \"%s\": %s", rd_kafka_ConfigResource_name(resources[i]),
					 rd_kafka_ConfigResource_error_string(resources[i]));
	}
	rd_kafka_event_destroy(event);
	return good;
}

static bool
alter_topic(OutboxTopicAdmin *admin, OutboxTopicStep *step)
{
	rd_kafka_ConfigResource_t		 *change;
	const rd_kafka_ConfigResource_t **found;
	rd_kafka_event_t				 *event = describe_settings(admin, &step, 1, &found);
	bool							  good;

	if (event == NULL)
		return false;
	change = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, step->spec.name);
	good = keep_settings(admin, change, found[0], step);
	for (int i = 0; i < OUTBOX_TOPIC_SETTINGS; i++)
	{
		if (step->alter[i])
			rd_kafka_ConfigResource_set_config(change, outbox_topic_setting_names[i],
											   step->spec.values[i]);
	}
	good = good && send_settings(admin, change);
	rd_kafka_ConfigResource_destroy(change);
	rd_kafka_event_destroy(event);
	return good;
}

static bool
grow_topic(OutboxTopicAdmin *admin, const OutboxTopicSpec *spec)
{
	const rd_kafka_topic_result_t **results;
	rd_kafka_NewPartitions_t	   *request;
	rd_kafka_event_t			   *event;
	char							reason[256];
	size_t							count;
	bool							good;

	request =
		rd_kafka_NewPartitions_new(spec->name, (size_t) spec->partitions, reason, sizeof(reason));
	if (request == NULL)
		return fail(admin, "adding partitions to topic \"%s\": %s", spec->name, reason);
	rd_kafka_CreatePartitions(admin->client, &request, 1, NULL, admin->queue);
	rd_kafka_NewPartitions_destroy(request);
	event = await_answer(admin, "adding partitions");
	if (event == NULL)
		return false;
	results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event),
													  &count);
	good = judge_topics(admin, results, count, "adding partitions to");
	rd_kafka_event_destroy(event);
	return good;
}

bool
outbox_topic_admin_apply(OutboxTopicAdmin *admin, const OutboxTopicPlan *plan)
{
	bool good;

	admin->error[0] = '\0';
	good = create_topics(admin, plan);
	for (size_t i = 0; i < plan->count; i++)
	{
		OutboxTopicStep *step = &plan->steps[i];

		if (outbox_topic_step_alters(step))
			good = alter_topic(admin, step) && good;
		if (step->grow)
			good = grow_topic(admin, &step->spec) && good;
	}
	return good;
}
