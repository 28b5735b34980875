/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.c
 *	  The settings of outbox-monitor: one table.
 *
 * Runs in outbox-monitor at start, main thread.
 */
#include "settings.h"

#include "database_list.h"
#include "group_settings.h"
#include "kafka_client.h"
#include "services/lib/arguments.h"
#include "services/lib/log.h"

OutboxMonitorSettings outbox_monitor;

/* A row: name, kind and variable, then default, limits and check, then the text. */
/* clang-format off */
const OutboxOption outbox_monitor_options[] = {
	{.name = "bootstrap_servers", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_monitor.bootstrap_servers,
		.check = outbox_check_servers,
		.text = "Kafka brokers, `host:port,...`"},
	{.name = "kafka_properties", .kind = OUTBOX_OPTION_LINES,
		.variable = &outbox_monitor.kafka_properties,
		.initial = "", .check = outbox_kafka_client_check,
		.text = "librdkafka properties, one `name=value` a line"},
	{.name = "kafka_timeout_ms", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.kafka_timeout_ms,
		.initial = "5000", .min = 100, .max = 60000,
		.text = "longest wait for an answer of Kafka"},
	{.name = "cluster_name", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_monitor.cluster_name,
		.initial = "kafka",
		.text = "Kafka's name in metrics and alerts"},
	{.name = "poll_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.poll_seconds,
		.initial = "5", .min = 1, .max = 300,
		.text = "time between polls; a status judges ten of them"},
	{.name = "ignore_groups", .kind = OUTBOX_OPTION_LINES,
		.variable = &outbox_monitor.ignore_groups,
		.initial = "outbox-relay.*", .check = outbox_group_check_patterns,
		.text = "groups not watched, one pattern a line"},
	{.name = "lag_threshold_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.lag_threshold_seconds,
		.initial = "120", .min = 1, .max = OUTBOX_GROUP_THRESHOLD_MAX_S,
		.text = "further behind: an alert"},
	{.name = "lag_thresholds", .kind = OUTBOX_OPTION_LINES,
		.variable = &outbox_monitor.lag_thresholds,
		.initial = "", .check = outbox_group_check_thresholds,
		.text = "of single groups, one `pattern=seconds` a line"},
	{.name = "members_grace_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.members_grace_seconds,
		.initial = "30", .min = 0, .max = 86400,
		.text = "a group with lag and without members for so long: an alert"},
	{.name = "databases", .kind = OUTBOX_OPTION_LINES, .variable = &outbox_monitor.databases,
		.initial = "", .check = outbox_database_list_check,
		.text = "asked for dead letters and held topics, one connection string a line"},
	{.name = "dead_letter_threshold", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.dead_letter_threshold,
		.initial = "10", .min = 0, .max = 1000000000,
		.text = "more open ones of a consumer and topic: an alert"},
	{.name = "topic_held_threshold_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.topic_held_threshold_seconds,
		.initial = "60", .min = 0, .max = OUTBOX_GROUP_THRESHOLD_MAX_S,
		.text = "a topic held apart for so long: an alert"},
	{.name = "webhook_url", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_monitor.webhook_url,
		.initial = "", .check = outbox_check_url,
		.text = "alerts are posted here as JSON"},
	{.name = "pagerduty_url", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_monitor.pagerduty_url,
		.initial = "https://events.pagerduty.com", .check = outbox_check_url,
		.text = "base URL of the Events API v2"},
	{.name = "pagerduty_routing_key_file", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_monitor.pagerduty_routing_key_file,
		.initial = "",
		.text = "file with the routing key; none: no PagerDuty"},
	{.name = "alertmanager_url", .kind = OUTBOX_OPTION_TEXT,
		.variable = &outbox_monitor.alertmanager_url,
		.initial = "", .check = outbox_check_url,
		.text = "base URL of an Alertmanager"},
	{.name = "alertmanager_repeat_seconds", .kind = OUTBOX_OPTION_INTEGER,
		.variable = &outbox_monitor.alertmanager_repeat_seconds,
		.initial = "60", .min = 1, .max = 3600,
		.text = "firing alerts are sent to it again; below its `resolve_timeout`"},
	{.name = "state_file", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_monitor.state_file,
		.initial = "",
		.text = "keeps firing and unsent alerts across a restart"},
	{.name = "auth_file", .kind = OUTBOX_OPTION_TEXT, .variable = &outbox_monitor.auth_file,
		.initial = "",
		.text = "`user:hash` lines of crypt(3); none: only on a loopback address or a socket"},
	{.name = "log_level", .kind = OUTBOX_OPTION_CHOICE, .variable = &outbox_monitor.log_level,
		.initial = "info", .choices = outbox_log_level_names,
		.text = "least severe lines that are logged"},
	{.name = NULL},
};
/* clang-format on */
