/* SPDX-License-Identifier: PostgreSQL
 *
 * sinks.c
 *	  Queues and delivery of alerts.
 *
 * Runs in outbox-monitor: one thread a sink; any thread queues.  A sink that does
 * not answer is tried again, 1 s to 60 s apart, and delays no other one; one that
 * refuses (4xx but for 408 and 429) loses the entry, for it would refuse it again.
 */
#define _GNU_SOURCE
#include "sinks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_post.h"
#include "log.h"
#include "metrics.h"

#define QUEUE_MAX		4096
#define BACKOFF_FIRST_S	1
#define BACKOFF_MAX_S	60
#define ANSWER_MS		5000

typedef struct Sink
{
	OutboxSinkKind kind;
	char		url[1024];		/* "": not configured; written before the threads start */
	json_t	   *queue;			/* of {action, alert}, or {action: repeat, alerts}; guarded by sink_lock */
	long		lost;			/* entries lost at the head; guarded by sink_lock */
	pthread_t	thread;
	bool		started;
} Sink;

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t sink_wake = PTHREAD_COND_INITIALIZER;
static Sink sinks[OUTBOX_SINK_KINDS];
static bool stopping;			/* guarded by sink_lock */

/* written before the threads start */
static char routing_key[256];
static void (*on_change) (void);

static OutboxMetric sent_total = {
	.name = "outbox_alerts_sent_total",
	.help = "Alerts that a sink has taken.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric failed_total = {
	.name = "outbox_alerts_failed_total",
	.help = "Attempts that failed (retried), were refused, or entries lost by a full queue.",
	.type = OUTBOX_METRIC_COUNTER,
};

static bool
read_routing_key(const char *path)
{
	FILE	   *file = fopen(path, "r");
	bool		good = file != NULL && fgets(routing_key, sizeof(routing_key), file) != NULL;

	if (file != NULL)
		fclose(file);
	routing_key[strcspn(routing_key, " \t\r\n")] = '\0';
	if (good && routing_key[0] != '\0')
		return true;
	outbox_log(OUTBOX_LOG_ERROR, "settings", NULL, "no routing key can be read from %s", path);
	return false;
}

static void
set_url(OutboxSinkKind kind, const char *base, const char *path)
{
	size_t		len = strlen(base);

	while (len > 0 && path[0] != '\0' && base[len - 1] == '/')
		len--;
	snprintf(sinks[kind].url, sizeof(sinks[kind].url), "%.*s%s", (int) len, base, len > 0 ? path : "");
}

bool
outbox_sinks_open(const OutboxConfig *config, void (*changed) (void))
{
	const char *key_file = outbox_config_text(config, "pagerduty_routing_key_file");

	on_change = changed;
	set_url(OUTBOX_SINK_WEBHOOK, outbox_config_text(config, "webhook_url"), "");
	set_url(OUTBOX_SINK_ALERTMANAGER, outbox_config_text(config, "alertmanager_url"), "/api/v2/alerts");
	if (*key_file != '\0')
	{
		if (!read_routing_key(key_file))
			return false;
		set_url(OUTBOX_SINK_PAGERDUTY, outbox_config_text(config, "pagerduty_url"), "/v2/enqueue");
	}
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		sinks[kind].kind = (OutboxSinkKind) kind;
		sinks[kind].queue = json_array();
	}
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

/* Ends a transfer early when the program ends. */
static int
watch_stop(void *arg, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload)
{
	bool		end;

	(void) arg, (void) total, (void) now, (void) upload_total, (void) upload;
	pthread_mutex_lock(&sink_lock);
	end = stopping;
	pthread_mutex_unlock(&sink_lock);
	return end ? 1 : 0;
}

/* Sends one entry.  true: done with it, taken or refused for good. */
static bool
deliver(const Sink *sink, CURL *curl, json_t *entry)
{
	const char *name = outbox_sink_name(sink->kind);
	const char *action = json_string_value(json_object_get(entry, "action"));
	json_t	   *alert = json_object_get(entry, "alert");
	json_t	   *alerts = json_object_get(entry, "alerts");
	const char *key = alerts != NULL ? "all" : json_string_value(json_object_get(alert, "key"));
	json_t	   *body = alerts != NULL ? outbox_sink_repeat_body(alerts) :
		outbox_sink_body(sink->kind, action, alert, routing_key);
	char	   *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *error = "out of memory";
	const OutboxHttpPost post = {.url = sink->url, .body = text, .timeout_ms = ANSWER_MS, .watch = watch_stop};
	long		status = text != NULL ? outbox_http_post(curl, &post, &error) : 0;
	bool		refused = status >= 400 && status < 500 && status != 408 && status != 429;

	json_decref(body);
	free(text);
	if (status >= 200 && status < 300)
	{
		outbox_log(OUTBOX_LOG_INFO, "alert_sent", NULL, "%s: %s %s", name, action, key);
		outbox_metric_add(&sent_total, 1, "sink", name, "action", action, NULL);
		return true;
	}
	outbox_metric_add(&failed_total, 1, "sink", name, NULL);
	if (status == 0)
		outbox_log(OUTBOX_LOG_WARNING, "alert_not_sent", NULL, "%s: %s %s: %s", name, action, key, error);
	else
		outbox_log(refused ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
				   refused ? "alert_refused" : "alert_not_sent", NULL, "%s: %s %s: HTTP status %ld", name,
				   action, key, status);
	return refused;
}

/* Waits at most so long, or for ever when seconds is 0.  Caller holds sink_lock. */
static void
wait_locked(int seconds)
{
	struct timespec until;

	if (seconds == 0)
	{
		pthread_cond_wait(&sink_wake, &sink_lock);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	while (!stopping && pthread_cond_timedwait(&sink_wake, &sink_lock, &until) != ETIMEDOUT)
	{
		/* woken for another entry: the back-off goes on */
	}
}

static void *
run_sink(void *arg)
{
	Sink	   *sink = arg;
	CURL	   *curl = curl_easy_init();
	int			backoff = BACKOFF_FIRST_S;

	pthread_mutex_lock(&sink_lock);
	while (!stopping)
	{
		json_t	   *entry = json_deep_copy(json_array_get(sink->queue, 0));
		long		lost = sink->lost;
		bool		done;

		if (entry == NULL || curl == NULL)
		{
			wait_locked(0);
			continue;
		}
		pthread_mutex_unlock(&sink_lock);
		done = deliver(sink, curl, entry);
		json_decref(entry);
		pthread_mutex_lock(&sink_lock);
		if (done)
		{
			/* A full queue may have lost the very entry meanwhile. */
			if (sink->lost == lost)
				json_array_remove(sink->queue, 0);
			backoff = BACKOFF_FIRST_S;
			pthread_mutex_unlock(&sink_lock);
			on_change();
			pthread_mutex_lock(&sink_lock);
			continue;
		}
		wait_locked(backoff);
		backoff = 2 * backoff < BACKOFF_MAX_S ? 2 * backoff : BACKOFF_MAX_S;
	}
	pthread_mutex_unlock(&sink_lock);
	if (curl != NULL)
		curl_easy_cleanup(curl);
	return NULL;
}

bool
outbox_sinks_start(void)
{
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		if (sinks[kind].url[0] == '\0')
			continue;
		if (pthread_create(&sinks[kind].thread, NULL, run_sink, &sinks[kind]) != 0)
		{
			outbox_log(OUTBOX_LOG_ERROR, "thread_failed", NULL, "%s", strerror(errno));
			return false;
		}
		sinks[kind].started = true;
	}
	return true;
}

void
outbox_sinks_stop(void)
{
	pthread_mutex_lock(&sink_lock);
	stopping = true;
	pthread_cond_broadcast(&sink_wake);
	pthread_mutex_unlock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		if (sinks[kind].started)
			pthread_join(sinks[kind].thread, NULL);
	}
}

/* Caller holds sink_lock.  Takes the entry over. */
static void
queue_locked(Sink *sink, json_t *entry)
{
	if (sink->url[0] == '\0')
	{
		json_decref(entry);
		return;
	}
	if (json_array_size(sink->queue) == QUEUE_MAX)
	{
		outbox_log(OUTBOX_LOG_ERROR, "alert_lost", NULL, "%s: its queue is full",
				   outbox_sink_name(sink->kind));
		outbox_metric_add(&failed_total, 1, "sink", outbox_sink_name(sink->kind), NULL);
		json_array_remove(sink->queue, 0);
		sink->lost++;
	}
	json_array_append_new(sink->queue, entry);
	pthread_cond_broadcast(&sink_wake);
}

static json_t *
make_entry(const char *action, json_t *alert)
{
	return json_pack("{s:s, s:o}", "action", action, "alert", json_deep_copy(alert));
}

void
outbox_sinks_send(const char *action, json_t *alert)
{
	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
		queue_locked(&sinks[kind], make_entry(action, alert));
	pthread_mutex_unlock(&sink_lock);
}

void
outbox_sinks_repeat(json_t *alerts)
{
	Sink	   *sink = &sinks[OUTBOX_SINK_ALERTMANAGER];
	json_t	   *list;
	json_t	   *alert;
	const char *key;

	pthread_mutex_lock(&sink_lock);
	if (json_array_size(sink->queue) == 0 && json_object_size(alerts) > 0)
	{
		list = json_array();
		json_object_foreach(alerts, key, alert)
			json_array_append_new(list, json_deep_copy(alert));
		queue_locked(sink, json_pack("{s:s, s:o}", "action", "repeat", "alerts", list));
	}
	pthread_mutex_unlock(&sink_lock);
}

json_t *
outbox_sinks_dump(void)
{
	json_t	   *queues = json_object();

	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
		json_object_set_new(queues, outbox_sink_name((OutboxSinkKind) kind),
							json_deep_copy(sinks[kind].queue));
	pthread_mutex_unlock(&sink_lock);
	return queues;
}

void
outbox_sinks_restore(json_t *queues)
{
	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		json_t	   *entry;
		size_t		i;

		json_array_foreach(json_object_get(queues, outbox_sink_name((OutboxSinkKind) kind)), i, entry)
		{
			const char *action = json_string_value(json_object_get(entry, "action"));
			json_t	   *alert = json_object_get(entry, "alert");

			if (action != NULL && outbox_sink_alert_valid(alert))
				queue_locked(&sinks[kind], make_entry(action, alert));
		}
	}
	pthread_mutex_unlock(&sink_lock);
}
