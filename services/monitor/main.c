/* SPDX-License-Identifier: PostgreSQL
 *
 * main.c
 *	  outbox-monitor: lag of consumer groups and depth of dead letters, as JSON,
 *	  as metrics, and as alerts.
 *
 * Runs in outbox-monitor, main thread: settings, threads, signals, end.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alerts.h"
#include "group_settings.h"
#include "kafka_client.h"
#include "lag_api.h"
#include "lag_metrics.h"
#include "letters.h"
#include "poller.h"
#include "sinks.h"
#include "services/kafka/online.h"
#include "services/lib/arguments.h"
#include "services/lib/auth.h"
#include "services/lib/http.h"
#include "services/lib/log.h"
#include "services/lib/startup.h"

#define PROGRAM "outbox-monitor"

static const OutboxOption options[] = {
	{"bootstrap_servers", OUTBOX_OPTION_TEXT, NULL, 0, 0, "Kafka brokers, host:port,...",
	 outbox_check_servers},
	{"kafka_properties", OUTBOX_OPTION_LINES, "", 0, 0,
	 "librdkafka properties, one name=value a line", outbox_kafka_client_check},
	{"kafka_timeout_ms", OUTBOX_OPTION_INTEGER, "5000", 100, 60000,
	 "longest wait for an answer of Kafka", NULL},
	{"cluster_name", OUTBOX_OPTION_TEXT, "kafka", 0, 0, "Kafka's name in metrics and alerts", NULL},
	{"poll_seconds", OUTBOX_OPTION_INTEGER, "5", 1, 300,
	 "time between polls; a status judges ten of them", NULL},
	{"ignore_groups", OUTBOX_OPTION_LINES, "outbox-relay.*", 0, 0,
	 "groups not watched, one pattern a line", outbox_group_check_patterns},
	{"lag_threshold_seconds", OUTBOX_OPTION_INTEGER, "120", 1, 31536000, "further behind: an alert",
	 NULL},
	{"lag_thresholds", OUTBOX_OPTION_LINES, "", 0, 0,
	 "of single groups, one pattern=seconds a line", outbox_group_check_thresholds},
	{"members_grace_seconds", OUTBOX_OPTION_INTEGER, "30", 0, 86400,
	 "a group with lag and without members for so long: an alert", NULL},
	{"databases", OUTBOX_OPTION_LINES, "", 0, 0,
	 "where dead letters are counted, one connection string a line", outbox_letters_check},
	{"dead_letter_threshold", OUTBOX_OPTION_INTEGER, "10", 0, 1000000000,
	 "more open ones of a consumer and topic: an alert", NULL},
	{"webhook_url", OUTBOX_OPTION_TEXT, "", 0, 0, "alerts are posted here as JSON",
	 outbox_check_url},
	{"pagerduty_url", OUTBOX_OPTION_TEXT, "https://events.pagerduty.com", 0, 0,
	 "base URL of the Events API v2", outbox_check_url},
	{"pagerduty_routing_key_file", OUTBOX_OPTION_TEXT, "", 0, 0,
	 "file with the routing key; none: no PagerDuty", NULL},
	{"alertmanager_url", OUTBOX_OPTION_TEXT, "", 0, 0, "base URL of an Alertmanager",
	 outbox_check_url},
	{"alertmanager_repeat_seconds", OUTBOX_OPTION_INTEGER, "60", 1, 3600,
	 "firing alerts are sent to it again; below its resolve_timeout", NULL},
	{"state_file", OUTBOX_OPTION_TEXT, "", 0, 0, "keeps firing and unsent alerts across a restart",
	 NULL},
	{"auth_file", OUTBOX_OPTION_TEXT, "", 0, 0,
	 "user:hash lines of crypt(3); none: only on a loopback address", NULL},
	{"http_address", OUTBOX_OPTION_TEXT, "127.0.0.1", 0, 0, "where HTTP listens",
	 outbox_http_check_address},
	{"http_port", OUTBOX_OPTION_INTEGER, "8189", 1, 65535, "port of HTTP", NULL},
	{"log_level", OUTBOX_OPTION_TEXT, "info", 0, 0, "debug, info, warning or error",
	 outbox_check_level},
	{NULL, OUTBOX_OPTION_TEXT, NULL, 0, 0, NULL, NULL},
};

/* Lag and topics are nobody's business but the operator's. */
static bool
check_together(const OutboxConfig *config, char *error, size_t size)
{
	const char *auth_file = outbox_config_text(config, "auth_file");
	const char *address = outbox_config_text(config, "http_address");

	const char *name = "auth_file";
	char		reason[512] = "";

	if (auth_file[0] != '\0')
		(void) outbox_auth_load(auth_file, reason, sizeof(reason));
	else if (strncmp(address, "127.", 4) != 0)
	{
		name = "http_address";
		snprintf(reason, sizeof(reason), "not a loopback address: auth_file is needed");
	}
	if (reason[0] == '\0' && !outbox_sinks_check(config, reason, sizeof(reason)))
		name = "pagerduty_routing_key_file";
	if (reason[0] == '\0' &&
		!outbox_alerts_check(outbox_config_text(config, "state_file"), reason, sizeof(reason)))
		name = "state_file";
	if (reason[0] == '\0')
		return true;
	outbox_config_blame(config, name, reason, error, size);
	return false;
}

static int
check_online(const OutboxConfig *config, char *error, size_t size)
{
	rd_kafka_conf_t *conf;
	int				 code;

	outbox_log_setup(PROGRAM, OUTBOX_LOG_ERROR);
	code = outbox_letters_check_online(outbox_config_text(config, "databases"), error, size);
	if (code != EXIT_SUCCESS)
		return code;
	conf =
		outbox_kafka_client_conf(outbox_config_text(config, "bootstrap_servers"),
								 outbox_config_text(config, "kafka_properties"), "read_committed");
	return outbox_online_kafka(conf, NULL, 0, false, error, size);
}

static bool
start_threads(const OutboxConfig *config)
{
	const char *cluster = outbox_config_text(config, "cluster_name");

	outbox_lag_metrics_setup(cluster);
	return outbox_sinks_open(config, outbox_alerts_save) &&
		outbox_alerts_open(outbox_config_text(config, "state_file"),
						   outbox_config_integer(config, "alertmanager_repeat_seconds")) &&
		outbox_sinks_start() &&
		outbox_letters_start(outbox_config_text(config, "databases"), cluster,
							 outbox_config_integer(config, "dead_letter_threshold"),
							 outbox_config_integer(config, "poll_seconds")) &&
		outbox_poller_start(config) &&
		outbox_http_start(outbox_config_text(config, "http_address"),
						  (int) outbox_config_integer(config, "http_port"), outbox_lag_routes,
						  outbox_poller_alive, outbox_poller_ready);
}

static int
run_monitor(const OutboxConfig *config)
{
	OutboxLogLevel level;
	sigset_t	   signals;
	int			   got;
	bool		   closed;

	outbox_startup_await_ends(&signals);
	outbox_log_level_parse(outbox_config_text(config, "log_level"), &level);
	outbox_log_setup(PROGRAM, level);
	outbox_log_start();
	if (outbox_config_text(config, "auth_file")[0] != '\0')
		outbox_http_protect(outbox_auth_admits);
	if (!start_threads(config))
		return EXIT_FAILURE;
	outbox_log(OUTBOX_LOG_INFO, "started", "cluster %s",
			   outbox_config_text(config, "cluster_name"));
	sigwait(&signals, &got);
	outbox_log(OUTBOX_LOG_INFO, "stopping", "got signal %d", got);
	outbox_http_stop();
	closed = outbox_poller_stop();
	outbox_letters_stop();
	outbox_sinks_stop();
	outbox_log(OUTBOX_LOG_INFO, "stopped", "done");
	outbox_log_stop();
	if (!closed)
		/* no exit handler may pull the ground from under the client's threads */
		_exit(EXIT_SUCCESS);
	return EXIT_SUCCESS;
}

int
main(int argc, char **argv)
{
	static OutboxConfig		   config;
	static const OutboxProgram program =
		{.name = PROGRAM,
		 .summary = "lag of consumer groups, depth of dead letters, alerts",
		 .check = check_together,
		 .check_online = check_online};
	int code;

	outbox_startup();
	outbox_config_add(&config, options);
	code = outbox_arguments_read(argc, argv, &program, &config);
	if (code < 0)
		code = run_monitor(&config);
	outbox_config_free(&config);
	return code;
}
