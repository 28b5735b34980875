/* SPDX-License-Identifier: PostgreSQL
 *
 * service_check.c
 *	  What a service's settings are judged by before it starts.
 *
 * Runs in the services at start, main thread.
 */
#define _GNU_SOURCE
#include "service_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer_conf.h"
#include "settings.h"
#include "trace.h"
#include "services/kafka/online.h"
#include "services/lib/arguments.h"
#include "services/lib/http_settings.h"
#include "services/lib/log.h"

#define TOPICS_MAX 64 /* the runtime reads no more */

/* What the role needs, as a text: outbox.grant_consume gives it. */
static const char rights_sql[] =
	"SELECT CASE"
	" WHEN pg_catalog.to_regnamespace('outbox') IS NULL THEN"
	"  pg_catalog.format('database %I has no extension outbox', pg_catalog.current_database())"
	" WHEN NOT pg_catalog.has_schema_privilege('outbox', 'USAGE') OR EXISTS ("
	"   SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = "
	"pg_catalog.to_regnamespace('outbox')"
	"   AND p.proname IN ('begin_batch', 'claim_many', 'dead_letter_add')"
	"   AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) THEN"
	"  pg_catalog.format('role %I may not consume: SELECT outbox.grant_consume(%L)', current_user, "
	"current_user)"
	" END";

/* written before anything else runs */
static const OutboxService *judged;

void
outbox_service_check_begin(const OutboxService *service)
{
	judged = service;
}

bool
outbox_service_check(const OutboxConfig *config, char *error, size_t size)
{
	char reason[128];

	if (outbox_settings.retry_backoff_ms > outbox_settings.retry_backoff_max_ms)
	{
		snprintf(reason, sizeof(reason), "%d is more than retry_backoff_max_ms, which is %d",
				 outbox_settings.retry_backoff_ms, outbox_settings.retry_backoff_max_ms);
		outbox_config_blame(config, &outbox_settings.retry_backoff_ms, reason, error, size);
		return false;
	}
	return outbox_http_settings_check(config, error, size) && outbox_trace_check(error, size);
}

/* The topics of the handlers, each once. */
static size_t
list_topics(const OutboxHandler *handlers, const char **topics)
{
	size_t count = 0;

	for (; handlers->topic != NULL; handlers++)
	{
		bool known = false;

		for (size_t i = 0; i < count; i++)
			known = known || strcmp(topics[i], handlers->topic) == 0;
		if (!known && count < TOPICS_MAX)
			topics[count++] = handlers->topic;
	}
	return count;
}

int
outbox_service_check_online(char *error, size_t size)
{
	OutboxConsumerConfig consumer = {0};
	const OutboxHandler *handlers = judged->handlers;
	const char			*topics[TOPICS_MAX];
	int					 code;

	outbox_log_setup(judged->name, OUTBOX_LOG_ERROR);
	code = outbox_online_database("database", outbox_settings.database, rights_sql, error, size);
	if (code != EXIT_SUCCESS)
		return code;
	if (handlers == NULL)
		handlers = judged->make_handlers();
	if (handlers == NULL)
	{
		snprintf(error, size, "the settings do not fit the database: the reason stands before");
		return OUTBOX_EXIT_SETTINGS;
	}
	consumer.bootstrap_servers = outbox_settings.bootstrap_servers;
	consumer.group = outbox_settings.group_id;
	consumer.client_id = judged->name;
	consumer.properties = outbox_settings.kafka_properties;
	return outbox_online_kafka(outbox_consumer_make_conf(&consumer), topics,
							   list_topics(handlers, topics), true, error, size);
}
