/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.c
 *	  The settings every service has: one table.
 *
 * Runs in the services at start, main thread.
 */
#include "settings.h"

#include <stdio.h>
#include <string.h>

#include "consumer_conf.h"
#include "services/lib/arguments.h"
#include "services/lib/conninfo.h"
#include "services/lib/log.h"

#define INSTANCE_ID_MAX 240

OutboxConsumerSettings outbox_settings;

static const char *const order_choices[] = {"hold", "skip", NULL};
static const char *const headers_choices[] = {"standard", "spring", NULL};

static bool
check_instance_id(const char *value, char *error, size_t size)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	if (strspn(value, allowed) == strlen(value) && strlen(value) <= INSTANCE_ID_MAX)
		return true;
	snprintf(error, size,
			 "has other characters than letters, digits, '.', '_', '-', or more than %d",
			 INSTANCE_ID_MAX);
	return false;
}

/* A row: name, kind and variable, then default, limits and check, then the text. */
/* clang-format off */
const OutboxOption outbox_settings_options[] = {
	{.name = "bootstrap_servers", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_settings.bootstrap_servers,
		.check = outbox_check_servers,
		.text = "Kafka brokers, `host:port,...`"},
	{.name = "database", .kind = OUTBOX_OPTION_QUOTED, .variable = &outbox_settings.database,
		.check = outbox_conninfo_check,
		.text = "connection string of the service's database"},
	{.name = "group_id", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_settings.group_id,
		.text = "consumer group, also the consumer's name in the database"},
	{.name = "threads", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.threads,
		.initial = "1", .min = 1, .max = OUTBOX_MEMBERS_MAX,
		.text = "members of the group in this process"},
	{.name = "group_instance_id", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_settings.group_instance_id,
		.initial = "", .check = check_instance_id,
		.text = "static membership: thread i is the group's member `<value>-<i>`"},
	{.name = "batch_max", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.batch_max,
		.initial = "500", .min = 1, .max = 10000,
		.text = "most records in one transaction"},
	{.name = "batch_wait_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.batch_wait_ms,
		.initial = "5", .min = 0, .max = 1000,
		.text = "how long a batch waits for more records"},
	{.name = "calls_max", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.calls_max,
		.initial = "64", .min = 1, .max = 1000,
		.text = "calls to other systems that a member has under way at once"},
	{.name = "retry_max", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.retry_max,
		.initial = "3", .min = 0, .max = 100,
		.text = "tries after the first one"},
	{.name = "retry_backoff_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.retry_backoff_ms,
		.initial = "1000", .min = 1, .max = 3600000,
		.text = "time before the second try"},
	{.name = "retry_backoff_multiplier", .kind = OUTBOX_OPTION_NUMBER,
		.variable = &outbox_settings.retry_backoff_multiplier,
		.initial = "1", .min = 1, .max = 100,
		.text = "by which that time grows with each try"},
	{.name = "retry_backoff_max_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.retry_backoff_max_ms,
		.initial = "3600000", .min = 1, .max = 3600000,
		.text = "longest time between tries"},
	{.name = "crash_max", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.crash_max,
		.initial = "3", .min = 1, .max = 100,
		.text = "ends of the process with a record in hand that make it a dead letter"},
	{.name = "crash_after_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.crash_after_seconds,
		.initial = "60", .min = 1, .max = 86400,
		.text = "time a record fails alone before it is a dead letter"},
	{.name = "dlt_breaker", .kind = OUTBOX_OPTION_INTEGER, .variable = &outbox_settings.dlt_breaker,
		.initial = "20", .min = 0, .max = 100000,
		.text = "dead letters of one kind in a row that pause the consumer, 0: never"},
	{.name = "dlt_breaker_pause_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.dlt_breaker_pause_ms,
		.initial = "60000", .min = 100, .max = 86400000,
		.text = "pause until one record is tried"},
	{.name = "dlt_order", .kind = OUTBOX_OPTION_CHOICE, .variable = &outbox_settings.dlt_order,
		.initial = "hold", .choices = order_choices,
		.text = "later records of a failing or dead key wait, or pass"},
	{.name = "dlt_headers", .kind = OUTBOX_OPTION_CHOICE, .variable = &outbox_settings.dlt_headers,
		.initial = "standard", .choices = headers_choices,
		.text = "headers of dead letters: ours, or those of Spring Kafka besides"},
	{.name = "statement_timeout_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.statement_timeout_ms,
		.initial = "30000", .min = 0, .max = 3600000,
		.text = "longest SQL statement, 0 for any"},
	{.name = "idle_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.idle_seconds,
		.initial = "60", .min = 1, .max = 86400,
		.text = "time without records after which one line is logged"},
	{.name = "log_level", .kind = OUTBOX_OPTION_CHOICE, .variable = &outbox_settings.log_level,
		.initial = "info", .choices = outbox_log_level_names,
		.text = "least severe lines that are logged"},
	{.name = "kafka_properties", .kind = OUTBOX_OPTION_LINES,
		.variable = &outbox_settings.kafka_properties,
		.initial = "", .check = outbox_consumer_check_properties,
		.text = "librdkafka properties, one `name=value` a line"},
	{.name = "otlp_endpoint", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_settings.otlp_endpoint,
		.initial = "", .check = outbox_check_url,
		.text = "where traces go: OTLP/HTTP (JSON), `http://host:port`; empty: as"
			" `OTEL_EXPORTER_OTLP_ENDPOINT` says"},
	{.name = "otlp_queue_spans", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_settings.otlp_queue_spans,
		.initial = "2048", .min = 16, .max = 65536,
		.text = "spans that may wait to be sent; others are dropped"},
	{.name = NULL},
};
/* clang-format on */
