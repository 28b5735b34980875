/* SPDX-License-Identifier: PostgreSQL
 *
 * poller.c
 *	  Every poll_seconds: measure, judge, alert, publish.
 *
 * Runs in outbox-monitor, a thread of its own.  While Kafka does not answer no
 * alert begins or ends, and the windows stand still.
 */
#define _GNU_SOURCE
#include "poller.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alerts.h"
#include "group_alerts.h"
#include "group_settings.h"
#include "kafka_client.h"
#include "kafka_lag.h"
#include "lag_published.h"
#include "settings.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"

/* The poller's thread is dead when a poll takes longer than all its waits together could. */
#define LIVE_POLLS 10

static pthread_mutex_t poller_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  poller_wake = PTHREAD_COND_INITIALIZER;
static bool			   stopping;  /* guarded by poller_lock */
static _Atomic int64_t turned_at; /* poller; outbox_clock_ms */
static atomic_bool	   answered;  /* poller: did Kafka answer the last poll? */

static OutboxKafkaLag *kafka; /* poller */

/* main thread */
static pthread_t poller_thread;

static bool
is_wanted(const char *group)
{
	return !outbox_group_is_listed(outbox_monitor.ignore_groups, group);
}

static void
poll_once(void)
{
	OutboxLagSnapshot *snapshot = calloc(1, sizeof(*snapshot));
	char			   error[512] = "";
	int64_t			   began = outbox_clock_ms();

	if (snapshot == NULL)
		abort();
	if (!outbox_kafka_lag_measure(kafka, snapshot, outbox_lag_published(), is_wanted, error,
								  sizeof(error)))
	{
		if ((answered || outbox_lag_published() == NULL) && !outbox_kafka_client_cancelled())
			outbox_log(OUTBOX_LOG_WARNING, "kafka_down", "%s", error);
		answered = false;
		outbox_lag_snapshot_free(snapshot);
		outbox_lag_publish(NULL, error);
		return;
	}
	if (!answered)
		outbox_log(OUTBOX_LOG_INFO, "kafka_up", "%zu groups", snapshot->group_count);
	answered = true;
	outbox_log(OUTBOX_LOG_DEBUG, "polled", "%zu groups in %lld ms", snapshot->group_count,
			   (long long) (outbox_clock_ms() - began));
	outbox_lag_snapshot_judge(snapshot);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];

		group->threshold = outbox_group_threshold(outbox_monitor.lag_thresholds, group->name,
												  outbox_monitor.lag_threshold_seconds);
		outbox_group_alerts_judge(group);
	}
	outbox_lag_publish(snapshot, "");
	outbox_group_alerts_sweep();
}

static void *
close_client(void *arg)
{
	outbox_kafka_lag_close(arg);
	return NULL;
}

/* A client that waits for a coordinator for ever makes room for a new one, and ends beside it. */
static void
replace_client(void)
{
	OutboxKafkaLag *fresh =
		outbox_kafka_lag_open(outbox_monitor.bootstrap_servers, outbox_monitor.kafka_properties,
							  outbox_monitor.kafka_timeout_ms);
	pthread_t thread;

	if (fresh == NULL)
		return;
	outbox_log(OUTBOX_LOG_WARNING, "kafka_client_replaced",
			   "a request has had no answer for too long");
	if (pthread_create(&thread, NULL, close_client, kafka) == 0)
		pthread_detach(thread);
	kafka = fresh;
}

static void *
run_poller(void *arg)
{
	struct timespec until;

	(void) arg;
	clock_gettime(CLOCK_MONOTONIC, &until);
	pthread_mutex_lock(&poller_lock);
	while (!stopping)
	{
		struct timespec now;

		pthread_mutex_unlock(&poller_lock);
		turned_at = outbox_clock_ms();
		if (outbox_kafka_lag_worn(kafka))
			replace_client();
		poll_once();
		outbox_alerts_repeat(); /* also while Kafka is away */
		pthread_mutex_lock(&poller_lock);
		clock_gettime(CLOCK_MONOTONIC, &now);
		until.tv_sec += outbox_monitor.poll_seconds;
		if (until.tv_sec < now.tv_sec)
			until = now; /* a slow poll: no hurry to catch up */
		while (!stopping &&
			   pthread_cond_clockwait(&poller_wake, &poller_lock, CLOCK_MONOTONIC, &until) !=
				   ETIMEDOUT)
		{
			/* woken for nothing */
		}
	}
	pthread_mutex_unlock(&poller_lock);
	return NULL;
}

bool
outbox_poller_start(void)
{
	kafka = outbox_kafka_lag_open(outbox_monitor.bootstrap_servers, outbox_monitor.kafka_properties,
								  outbox_monitor.kafka_timeout_ms);
	if (kafka == NULL)
		return false;
	turned_at = outbox_clock_ms();
	if (pthread_create(&poller_thread, NULL, run_poller, NULL) == 0)
		return true;
	outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "%s", strerror(errno));
	return false;
}

bool
outbox_poller_stop(void)
{
	pthread_mutex_lock(&poller_lock);
	stopping = true;
	pthread_cond_broadcast(&poller_wake);
	pthread_mutex_unlock(&poller_lock);
	outbox_kafka_client_cancel();
	pthread_join(poller_thread, NULL);
	if (!outbox_kafka_lag_idle(kafka))
		return false;
	outbox_kafka_lag_close(kafka);
	return true;
}

const char *
outbox_poller_alive(void)
{
	if (outbox_clock_ms() - turned_at >
		LIVE_POLLS * (outbox_monitor.kafka_timeout_ms + 1000) + 1000 * outbox_monitor.poll_seconds)
		return "the poll of Kafka does not end";
	return NULL;
}

const char *
outbox_poller_ready(void)
{
	return answered ? outbox_poller_alive() : "Kafka does not answer";
}
