/* SPDX-License-Identifier: PostgreSQL
 *
 * main.c
 *	  outbox-monitor: lag of consumer groups, depth of dead letters and topics held apart,
 *	  as JSON, as metrics, and as alerts.
 *
 * Runs in outbox-monitor, main thread: settings, threads, signals, end.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alerts.h"
#include "database_list.h"
#include "databases.h"
#include "kafka_client.h"
#include "lag_api.h"
#include "lag_metrics.h"
#include "poller.h"
#include "settings.h"
#include "sinks.h"
#include "services/kafka/online.h"
#include "services/lib/arguments.h"
#include "services/lib/auth.h"
#include "services/lib/http.h"
#include "services/lib/http_listen.h"
#include "services/lib/http_settings.h"
#include "services/lib/log.h"
#include "services/lib/startup.h"

#define PROGRAM "outbox-monitor"

/* Lag and topics are nobody's business but the operator's. */
static bool
check_together(const OutboxConfig *config, char *error, size_t size)
{
	const void *blamed = &outbox_monitor.auth_file;
	char		reason[512] = "";

	if (outbox_monitor.auth_file[0] != '\0')
		(void) outbox_auth_load(outbox_monitor.auth_file, reason, sizeof(reason));
	else if (!outbox_http_is_local(outbox_http_settings.address))
	{
		blamed = &outbox_http_settings.address;
		snprintf(reason, sizeof(reason), "not a loopback address: auth_file is needed");
	}
	if (reason[0] == '\0' && !outbox_http_settings_check(config, error, size))
		return false;
	if (reason[0] == '\0' && !outbox_sinks_check(reason, sizeof(reason)))
		blamed = &outbox_monitor.pagerduty_routing_key_file;
	if (reason[0] == '\0' && !outbox_alerts_check(reason, sizeof(reason)))
		blamed = &outbox_monitor.state_file;
	if (reason[0] == '\0')
		return true;
	outbox_config_blame(config, blamed, reason, error, size);
	return false;
}

static int
check_online(char *error, size_t size)
{
	rd_kafka_conf_t *conf;
	int				 code;

	outbox_log_setup(PROGRAM, OUTBOX_LOG_ERROR);
	code = outbox_database_list_check_online(outbox_monitor.databases, error, size);
	if (code != EXIT_SUCCESS)
		return code;
	conf = outbox_kafka_client_conf(outbox_monitor.bootstrap_servers,
									outbox_monitor.kafka_properties, "read_committed");
	return outbox_online_kafka(conf, NULL, 0, false, error, size);
}

static bool
start_http(void)
{
	const OutboxHttpSite site = {.routes = outbox_lag_routes,
								 .alive = outbox_poller_alive,
								 .ready = outbox_poller_ready,
								 .admits = outbox_monitor.auth_file[0] != '\0' ?
									 outbox_auth_admits :
									 NULL};

	return outbox_http_settings_start(&site);
}

static bool
start_threads(void)
{
	outbox_lag_metrics_setup();
	return outbox_sinks_open(outbox_alerts_save) && outbox_alerts_open() && outbox_sinks_start() &&
		outbox_databases_start() && outbox_poller_start() && start_http();
}

static int
run_monitor(void)
{
	sigset_t signals;
	int		 got;
	bool	 closed;

	outbox_startup_await_ends(&signals);
	outbox_log_setup(PROGRAM, (OutboxLogLevel) outbox_monitor.log_level);
	outbox_log_start();
	if (!start_threads())
		return EXIT_FAILURE;
	outbox_log(OUTBOX_LOG_INFO, "started", "cluster %s", outbox_monitor.cluster_name);
	sigwait(&signals, &got);
	outbox_log(OUTBOX_LOG_INFO, "stopping", "got signal %d", got);
	outbox_http_stop();
	closed = outbox_poller_stop();
	outbox_databases_stop();
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
		 .summary = "lag of consumer groups, dead letters, topics held apart, alerts",
		 .check = check_together,
		 .check_online = check_online};
	int code;

	outbox_startup();
	outbox_config_add(&config, outbox_monitor_options);
	outbox_config_add(&config, outbox_http_options);
	outbox_config_default(&config, &outbox_http_settings.port, "8189");
	code = outbox_arguments_read(argc, argv, &program, &config);
	if (code < 0)
		code = run_monitor();
	outbox_config_free(&config);
	return code;
}
