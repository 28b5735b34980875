/* SPDX-License-Identifier: PostgreSQL
 *
 * service.c
 *	  A service as a program: arguments, settings, threads, signals, end.
 *
 * Runs in the services.  The main thread waits for signals and, once a second,
 * looks after what no member does: idle time, dead letter gauge, health.
 */
#define _GNU_SOURCE
#include "service.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "breaker.h"
#include "log_check.h"
#include "loop.h"
#include "member.h"
#include "service_check.h"
#include "service_metrics.h"
#include "settings.h"
#include "trace.h"
#include "services/lib/arguments.h"
#include "services/lib/clock.h"
#include "services/lib/http_settings.h"
#include "services/lib/objects.h"
#include "services/lib/startup.h"

#define LIVE_MS			 30000
#define GAUGE_REFRESH_MS 2000

/* Written before the threads start; read by the HTTP threads. */
static OutboxRuntime runtime;
static OutboxMember *members;
static int			 member_count;

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
fill_runtime(const OutboxService *service)
{
	outbox_log_setup(service->name, (OutboxLogLevel) outbox_settings.log_level);
	runtime.service = service;
	runtime.handlers = service->handlers;
	outbox_breaker_init(&runtime.breaker, outbox_settings.dlt_breaker,
						outbox_settings.dlt_breaker_pause_ms);
	outbox_call_gate_init(&runtime.gate);
	runtime.last_record_at = outbox_clock_ms();
}

/* Threads for calls to other systems, where a handler makes any. */
static void
make_pool(void)
{
	for (const OutboxHandler *handler = runtime.handlers; handler->topic != NULL; handler++)
	{
		if (handler->call_out != NULL && runtime.pool == NULL)
			runtime.pool = outbox_call_pool_make(outbox_settings.calls_max * member_count);
	}
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
	outbox_set_paused(paused, halted);
}

static void
count_calls(void)
{
	int	 under_way = 0;
	int	 waiting = 0;
	bool full = false;

	for (int i = 0; i < member_count; i++)
	{
		under_way += members[i].calls_under_way;
		waiting += members[i].calls_waiting;
		full = full || members[i].window_full;
	}
	outbox_set_calls(under_way, waiting, full);
}

static void
log_idle(void)
{
	static int64_t reported_for = -1; /* last_record_at an idle line was written for */
	int64_t		   last = runtime.last_record_at;
	int64_t		   idle = outbox_clock_ms() - last;

	outbox_set_idle((double) idle / 1000);
	if (idle < 1000 * outbox_settings.idle_seconds || reported_for == last)
		return;
	reported_for = last;
	outbox_log(OUTBOX_LOG_INFO, "idle", "no records for %d s", outbox_settings.idle_seconds);
}

/* The main thread until the end is asked for. */
static void
wait_for_stop(const sigset_t *signals)
{
	const struct timespec second = {1, 0};
	OutboxDb			  db;
	int64_t				  refresh_at = 0;
	int					  got;

	if (!outbox_db_open(&db, outbox_settings.database, 5000))
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
		if (runtime.pool != NULL)
			count_calls();
		if (outbox_clock_ms() >= refresh_at)
		{
			outbox_refresh_dead_letters(&db);
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

	config.bootstrap_servers = outbox_settings.bootstrap_servers;
	config.client_id = runtime.service->name;
	config.properties = outbox_settings.kafka_properties;
	return outbox_log_check_start(&config);
}

static int
start_members(pthread_t *threads)
{
	const char *instance_id = outbox_settings.group_instance_id;
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

static bool
start_http(const OutboxService *service)
{
	const OutboxHttpSite site = {.routes = service->routes,
								 .alive = find_dead,
								 .ready = find_unready};

	return outbox_http_settings_start(&site);
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

/* false: program and database are of versions that do not go together; the log says so. */
static bool
check_objects(void)
{
	char reason[512];
	bool serve = outbox_objects_check(outbox_settings.database, reason, sizeof(reason));

	if (!serve)
		outbox_log(OUTBOX_LOG_ERROR, "objects_refused", "%s", reason);
	return serve;
}

static int
run_service(const OutboxService *service)
{
	pthread_t threads[OUTBOX_MEMBERS_MAX];
	sigset_t  signals;
	int		  started;

	outbox_startup_await_ends(&signals);
	fill_runtime(service);
	outbox_log_start();
	if (!check_objects())
		return OUTBOX_EXIT_SETTINGS;
	if (runtime.handlers == NULL)
		runtime.handlers = service->make_handlers();
	if (runtime.handlers == NULL)
		return OUTBOX_EXIT_SETTINGS;
	outbox_set_build_info();
	outbox_set_breaker(false);
	if (!outbox_trace_start(outbox_settings.group_id))
		return OUTBOX_EXIT_SETTINGS;
	member_count = outbox_settings.threads;
	members = calloc((size_t) member_count, sizeof(OutboxMember));
	make_pool();
	if (members == NULL || (service->start != NULL && !service->start()))
		return EXIT_FAILURE;
	if (!start_http(service))
		return EXIT_FAILURE;
	outbox_log(OUTBOX_LOG_INFO, "started", "consumer %s, %d thread(s)", outbox_settings.group_id,
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
	if (runtime.pool != NULL && outbox_call_pool_under_way(runtime.pool) > 0)
	{
		outbox_log_stop();
		_exit(runtime.failed ? EXIT_FAILURE : EXIT_SUCCESS); /* they use what would be freed */
	}
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
	outbox_config_add(&config, outbox_settings_options);
	outbox_config_add(&config, outbox_http_options);
	outbox_config_add(&config, service->options);
	if (service->group != NULL)
		outbox_config_default(&config, &outbox_settings.group_id, service->group);
	if (service->http_port != NULL)
		outbox_config_default(&config, &outbox_http_settings.port, service->http_port);
	outbox_service_check_begin(service);
	code = outbox_arguments_read(argc, argv, &program, &config);
	if (code < 0)
		code = run_service(service);
	free(members);
	outbox_config_free(&config);
	return code;
}
