/* SPDX-License-Identifier: PostgreSQL
 *
 * main.c
 *	  A service as a program: arguments, settings, threads, signals, end.
 *
 * Runs in the services.  The main thread waits for signals and, once a second,
 * looks after what no member does: idle time, dead letter gauge, health.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log_check.h"
#include "member.h"
#include "service_check.h"
#include "trace.h"
#include "services/lib/arguments.h"
#include "services/lib/conninfo.h"
#include "services/lib/startup.h"

#define MEMBERS_MAX		 64
#define INSTANCE_ID_MAX	 240
#define LIVE_MS			 30000
#define GAUGE_REFRESH_MS 2000

static bool check_multiplier(const char *value, char *error, size_t size);
static bool check_order(const char *value, char *error, size_t size);
static bool check_headers(const char *value, char *error, size_t size);
static bool check_instance_id(const char *value, char *error, size_t size);

static const OutboxOption runtime_options[] = {
	{"bootstrap_servers", OUTBOX_OPTION_TEXT, NULL, 0, 0, "Kafka brokers, host:port,...",
	 outbox_check_servers},
	{"database", OUTBOX_OPTION_QUOTED, NULL, 0, 0, "connection string of the service's database",
	 outbox_conninfo_check},
	{"group_id", OUTBOX_OPTION_TEXT, NULL, 0, 0,
	 "consumer group, also the consumer's name in the database", NULL},
	{"threads", OUTBOX_OPTION_INTEGER, "1", 1, MEMBERS_MAX, "members of the group in this process",
	 NULL},
	{"group_instance_id", OUTBOX_OPTION_TEXT, "", 0, 0,
	 "static membership: thread i is the group's member <value>-<i>", check_instance_id},
	{"batch_max", OUTBOX_OPTION_INTEGER, "500", 1, 10000, "most records in one transaction", NULL},
	{"batch_wait_ms", OUTBOX_OPTION_INTEGER, "5", 0, 1000,
	 "how long a batch waits for more records", NULL},
	{"retry_max", OUTBOX_OPTION_INTEGER, "3", 0, 100, "tries after the first one", NULL},
	{"retry_backoff_ms", OUTBOX_OPTION_INTEGER, "1000", 1, 3600000, "time before the second try",
	 NULL},
	{"retry_backoff_multiplier", OUTBOX_OPTION_TEXT, "1", 0, 0,
	 "by which that time grows with each try, 1 .. 100", check_multiplier},
	{"retry_backoff_max_ms", OUTBOX_OPTION_INTEGER, "3600000", 1, 3600000,
	 "longest time between tries", NULL},
	{"crash_max", OUTBOX_OPTION_INTEGER, "3", 1, 100,
	 "a record in hand at so many ends of the process is a dead letter", NULL},
	{"crash_after_seconds", OUTBOX_OPTION_INTEGER, "60", 1, 86400,
	 "a record that has failed alone for so long, five times at least, while the database worked "
	 "is a dead letter",
	 NULL},
	{"dlt_breaker", OUTBOX_OPTION_INTEGER, "20", 0, 100000,
	 "so many dead letters of one kind in a row pause the consumer, 0: never", NULL},
	{"dlt_breaker_pause_ms", OUTBOX_OPTION_INTEGER, "60000", 100, 86400000,
	 "pause until one record is tried", NULL},
	{"dlt_order", OUTBOX_OPTION_TEXT, "hold", 0, 0,
	 "later records of a failing or dead key: hold (they wait) or skip (they pass)", check_order},
	{"dlt_headers", OUTBOX_OPTION_TEXT, "standard", 0, 0,
	 "of dead letters: standard, or spring for Spring Kafka's besides", check_headers},
	{"statement_timeout_ms", OUTBOX_OPTION_INTEGER, "30000", 0, 3600000,
	 "longest SQL statement, 0 for any", NULL},
	{"http_address", OUTBOX_OPTION_TEXT, "127.0.0.1", 0, 0, "where HTTP listens",
	 outbox_http_check_address},
	{"http_port", OUTBOX_OPTION_INTEGER, NULL, 1, 65535, "port of HTTP", NULL},
	{"idle_seconds", OUTBOX_OPTION_INTEGER, "60", 1, 86400,
	 "without records for so long: one log line", NULL},
	{"log_level", OUTBOX_OPTION_TEXT, "info", 0, 0, "debug, info, warning or error",
	 outbox_check_level},
	{"kafka_properties", OUTBOX_OPTION_LINES, "", 0, 0,
	 "librdkafka properties, one name=value a line", outbox_consumer_check_properties},
	{"otlp_endpoint", OUTBOX_OPTION_TEXT, "", 0, 0,
	 "where traces go: OTLP/HTTP (JSON), http://host:port; empty: as OTEL_EXPORTER_OTLP_ENDPOINT "
	 "says",
	 outbox_check_url},
	{"otlp_queue_spans", OUTBOX_OPTION_INTEGER, "2048", 16, 65536,
	 "spans that may wait to be sent; others are dropped", NULL},
	{NULL, OUTBOX_OPTION_TEXT, NULL, 0, 0, NULL, NULL},
};

/* Written before the threads start; read by the HTTP threads. */
static OutboxRuntime runtime;
static OutboxMember *members;
static int			 member_count;

static bool
check_multiplier(const char *value, char *error, size_t size)
{
	char  *end;
	double number = strtod(value, &end);

	if (end != value && *end == '\0' && number >= 1 && number <= 100)
		return true;
	snprintf(error, size, "not a number from 1 to 100");
	return false;
}

static bool
check_words(const char *value, const char *one, const char *other, char *error, size_t size)
{
	if (strcmp(value, one) == 0 || strcmp(value, other) == 0)
		return true;
	snprintf(error, size, "neither %s nor %s", one, other);
	return false;
}

static bool
check_order(const char *value, char *error, size_t size)
{
	return check_words(value, "hold", "skip", error, size);
}

static bool
check_headers(const char *value, char *error, size_t size)
{
	return check_words(value, "standard", "spring", error, size);
}

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

static const char *
find_dead(void)
{
	for (int i = 0; i < member_count; i++)
	{
		if (outbox_clock_ms() - members[i].turned_at > LIVE_MS)
			return "a member's loop has not turned for 30 s";
	}
	return NULL;
}

static const char *
find_unready(void)
{
	if (outbox_breaker_state(&runtime.breaker) != OUTBOX_BREAKER_CLOSED)
		return "paused: too many dead letters of one kind in a row, see breaker_open in the log";
	for (int i = 0; i < member_count; i++)
	{
		if (members[i].halted)
			return "a partition is halted: program and database do not fit, see the log";
		if (!members[i].ready)
			return "a member has no assignment yet or waits for its database";
	}
	return find_dead();
}

static void
fill_runtime(const OutboxService *service, const OutboxConfig *config)
{
	OutboxLogLevel level;

	outbox_log_level_parse(outbox_config_text(config, "log_level"), &level);
	outbox_log_setup(service->name, level);
	runtime.service = service;
	runtime.handlers = service->handlers;
	runtime.config = config;
	runtime.consumer = outbox_config_text(config, "group_id");
	runtime.database = outbox_config_text(config, "database");
	runtime.batch_max = (int) outbox_config_integer(config, "batch_max");
	runtime.batch_wait_ms = (int) outbox_config_integer(config, "batch_wait_ms");
	runtime.retry_max = (int) outbox_config_integer(config, "retry_max");
	runtime.retry_backoff_ms = outbox_config_integer(config, "retry_backoff_ms");
	runtime.retry_backoff_multiplier =
		strtod(outbox_config_text(config, "retry_backoff_multiplier"), NULL);
	runtime.retry_backoff_max_ms = outbox_config_integer(config, "retry_backoff_max_ms");
	runtime.crash_max = (int) outbox_config_integer(config, "crash_max");
	runtime.crash_after_ms = 1000 * outbox_config_integer(config, "crash_after_seconds");
	outbox_breaker_init(&runtime.breaker, (int) outbox_config_integer(config, "dlt_breaker"),
						outbox_config_integer(config, "dlt_breaker_pause_ms"));
	runtime.hold = strcmp(outbox_config_text(config, "dlt_order"), "hold") == 0;
	runtime.spring = strcmp(outbox_config_text(config, "dlt_headers"), "spring") == 0;
	runtime.idle_ms = 1000 * outbox_config_integer(config, "idle_seconds");
	runtime.last_record_at = outbox_clock_ms();
}

static void
count_paused(void)
{
	int paused = 0;
	int halted = 0;

	for (int i = 0; i < member_count; i++)
	{
		paused += members[i].paused;
		halted += members[i].halted;
	}
	outbox_set_paused(&runtime, paused, halted);
}

static void
log_idle(void)
{
	static int64_t reported_for = -1; /* last_record_at an idle line was written for */
	int64_t		   last = runtime.last_record_at;
	int64_t		   idle = outbox_clock_ms() - last;

	outbox_set_idle(&runtime, (double) idle / 1000);
	if (idle < runtime.idle_ms || reported_for == last)
		return;
	reported_for = last;
	outbox_log(OUTBOX_LOG_INFO, "idle", "no records for %ld s", runtime.idle_ms / 1000);
}

/* The main thread until the end is asked for. */
static void
wait_for_stop(const sigset_t *signals)
{
	const struct timespec second = {1, 0};
	OutboxDb			  db;
	int64_t				  refresh_at = 0;
	int					  got;

	if (!outbox_db_open(&db, runtime.database, 5000))
		return;
	while (!runtime.stopping)
	{
		got = sigtimedwait(signals, NULL, &second);
		if (got > 0)
		{
			outbox_log(OUTBOX_LOG_INFO, "stopping", "got signal %d", got);
			break;
		}
		log_idle();
		count_paused();
		if (outbox_clock_ms() >= refresh_at)
		{
			outbox_refresh_dead_letters(&runtime, &db);
			refresh_at = outbox_clock_ms() + GAUGE_REFRESH_MS;
		}
	}
	outbox_db_close(&db);
	runtime.stopping = true;
}

static bool
start_log_check(void)
{
	OutboxConsumerConfig config = {0};

	config.bootstrap_servers = outbox_config_text(runtime.config, "bootstrap_servers");
	config.client_id = runtime.service->name;
	config.properties = outbox_config_text(runtime.config, "kafka_properties");
	return outbox_log_check_start(&config);
}

static int
start_members(pthread_t *threads)
{
	const char *instance_id = outbox_config_text(runtime.config, "group_instance_id");
	int			started = 0;

	for (int i = 0; i < member_count; i++)
	{
		members[i].runtime = &runtime;
		if (instance_id[0] != '\0')
			snprintf(members[i].instance_id, sizeof(members[i].instance_id), "%s-%d", instance_id,
					 i);
		members[i].random_state = (unsigned) (getpid() + i);
		members[i].turned_at = outbox_clock_ms();
		if (pthread_create(&threads[i], NULL, outbox_member_run, &members[i]) != 0)
		{
			outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "%s", strerror(errno));
			runtime.failed = runtime.stopping = true;
			break;
		}
		started++;
	}
	return started;
}

/* Ends the process when a member is overdue: what is done is committed, so the end may be rough. */
static void
watch_member(const OutboxMember *member, int64_t stopped_at)
{
	int64_t end_by = member->end_by;
	int64_t now = outbox_clock_ms();

	if (end_by == 0 && now >= stopped_at + OUTBOX_END_MAX_MS)
		outbox_log(OUTBOX_LOG_ERROR, "stop_timeout",
				   "a member's last turn takes more than %d s: a batch, or a database that does "
				   "not answer",
				   OUTBOX_END_MAX_MS / 1000);
	else if (end_by != 0 && now >= end_by)
		outbox_log(OUTBOX_LOG_ERROR, "close_timeout", "leaving the group took more than %d s",
				   OUTBOX_END_MAX_MS / 1000);
	else
		return;
	outbox_log_stop();
	_exit(EXIT_FAILURE);
}

/* Waits for the members' ends, after the end was asked for. */
static void
join_members(pthread_t *threads, int started)
{
	int64_t stopped_at = outbox_clock_ms();

	for (int i = 0; i < started; i++)
	{
		struct timespec until;

		do
		{
			for (int k = i; k < started; k++)
				watch_member(&members[k], stopped_at);
			clock_gettime(CLOCK_MONOTONIC, &until);
			until.tv_sec++;
		} while (pthread_clockjoin_np(threads[i], NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
	}
}

static void *
end_http(void *arg)
{
	outbox_http_stop();
	return arg;
}

/* Lets requests under way end; one that waits for its database ends the process instead. */
static void
stop_http(void)
{
	struct timespec until;
	pthread_t		thread;

	if (pthread_create(&thread, NULL, end_http, NULL) != 0)
		_exit(EXIT_FAILURE);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += OUTBOX_END_MAX_MS / 1000;
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		return;
	outbox_log(OUTBOX_LOG_ERROR, "stop_timeout", "a request takes more than %d s",
			   OUTBOX_END_MAX_MS / 1000);
	outbox_log_stop();
	_exit(EXIT_FAILURE);
}

static int
run_service(const OutboxService *service, const OutboxConfig *config)
{
	pthread_t threads[MEMBERS_MAX];
	sigset_t  signals;
	int		  started;

	outbox_startup_await_ends(&signals);
	fill_runtime(service, config);
	outbox_log_start();
	if (runtime.handlers == NULL)
		runtime.handlers = service->make_handlers(config);
	if (runtime.handlers == NULL)
		return OUTBOX_EXIT_SETTINGS;
	outbox_set_build_info();
	outbox_set_breaker(&runtime, false);
	if (!outbox_trace_start(config, runtime.consumer))
		return OUTBOX_EXIT_SETTINGS;
	member_count = (int) outbox_config_integer(config, "threads");
	members = calloc((size_t) member_count, sizeof(OutboxMember));
	if (members == NULL || (service->start != NULL && !service->start(config)))
		return EXIT_FAILURE;
	if (!outbox_http_start(outbox_config_text(config, "http_address"),
						   (int) outbox_config_integer(config, "http_port"), service->routes,
						   find_dead, find_unready))
		return EXIT_FAILURE;
	outbox_log(OUTBOX_LOG_INFO, "started", "consumer %s, %d thread(s)", runtime.consumer,
			   member_count);
	if (!start_log_check())
		return EXIT_FAILURE;
	started = start_members(threads);
	wait_for_stop(&signals);
	join_members(threads, started);
	outbox_log_check_stop();
	stop_http();
	outbox_trace_stop();
	outbox_log(OUTBOX_LOG_INFO, "stopped", "%s", runtime.failed ? "after a failure" : "done");
	return runtime.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int
outbox_service_main(int argc, char **argv, const OutboxService *service)
{
	static OutboxConfig config;
	const OutboxProgram program = {.name = service->name,
								   .summary = service->summary,
								   .check = outbox_service_check,
								   .check_online = outbox_service_check_online};
	int					code;

	outbox_startup();
	outbox_config_add(&config, runtime_options);
	outbox_config_add(&config, service->options);
	if (service->group != NULL)
		outbox_config_default(&config, "group_id", service->group);
	if (service->http_port != NULL)
		outbox_config_default(&config, "http_port", service->http_port);
	outbox_service_check_begin(service);
	code = outbox_arguments_read(argc, argv, &program, &config);
	if (code < 0)
		code = run_service(service, &config);
	free(members);
	outbox_config_free(&config);
	return code;
}
