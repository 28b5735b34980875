/* SPDX-License-Identifier: PostgreSQL
 *
 * sinks.c
 *	  Delivery of alerts.
 *
 * Runs in outbox-monitor: one thread a sink; any thread queues.  The changes of an alert are sent
 * one after another, several alerts at once.  What is not answered is tried again, 1 s to 60 s
 * apart, and delays no other alert; what is refused (4xx but for 408 and 429) is lost, for it would
 * be refused again.
 */
#define _GNU_SOURCE
#include "sinks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink_body.h"
#include "settings.h"
#include "sink_queue.h"
#include "services/lib/clock.h"
#include "services/lib/http_post.h"
#include "services/lib/log.h"
#include "services/lib/metrics.h"
#include "src/common/setting_text.h"

#define ANSWER_MS 5000
#define TRANSFERS 16 /* at once to a sink */
/* of these at most, so that what does not answer leaves room for what was not tried */
#define RETRIES	  8
#define IDLE_MS	  60000

/* One POST under way; of a sink's thread. */
typedef struct Transfer
{
	CURL			  *curl; /* NULL: none */
	struct curl_slist *headers;
	char			  *body;
	OutboxSinkLine	  *line; /* NULL: the repeat */
	const char		  *action;
	char			  *key; /* for the log */
	bool			   retry;
} Transfer;

typedef struct Sink
{
	OutboxSinkKind	kind;
	char			url[1024]; /* "": not configured; written before the threads start */
	OutboxSinkQueue queue;	   /* guarded by sink_lock */
	CURLM		   *multi;
	Transfer		transfers[TRANSFERS + 1]; /* the last one for the repeat */
	pthread_t		thread;
	bool			started;
} Sink;

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static Sink			   sinks[OUTBOX_SINK_KINDS];
static bool			   stopping; /* guarded by sink_lock */

/* written before the threads start */
static char routing_key[256];
static void (*on_change)(void);

static OutboxMetric sent_total = {
	.name = "outbox_alerts_sent_total",
	.help = "Alerts that a sink has taken.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric failed_total = {
	.name = "outbox_alerts_failed_total",
	.help = "Attempts that failed (retried), were refused, or changes lost by a full queue.",
	.type = OUTBOX_METRIC_COUNTER,
};

bool
outbox_sinks_check(char *error, size_t size)
{
	const char *path = outbox_monitor.pagerduty_routing_key_file;
	FILE	   *file;
	bool		good;

	if (*path == '\0')
		return true;
	file = fopen(path, "r");
	good = file != NULL && fgets(routing_key, sizeof(routing_key), file) != NULL;
	if (file == NULL)
		snprintf(error, size, "the file cannot be read: %s", strerror(errno));
	else
		fclose(file);
	if (file == NULL)
		return false;
	if (good)
	{
		const char *key = outbox_setting_trim((char *) outbox_setting_skip_bom(routing_key));

		memmove(routing_key, key, strlen(key) + 1);
		good = key[0] != '\0' && strcspn(key, " \t") == strlen(key) &&
			outbox_setting_flaw(key, false) == NULL;
	}
	if (!good)
		snprintf(error, size, "the file's first line has no routing key, or more than one word");
	return good;
}

static void
set_url(OutboxSinkKind kind, const char *base, const char *path)
{
	size_t len = strlen(base);

	while (len > 0 && path[0] != '\0' && base[len - 1] == '/')
		len--;
	snprintf(sinks[kind].url, sizeof(sinks[kind].url), "%.*s%s", (int) len, base,
			 len > 0 ? path : "");
}

bool
outbox_sinks_open(void (*changed)(void))
{
	on_change = changed;
	set_url(OUTBOX_SINK_WEBHOOK, outbox_monitor.webhook_url, "");
	set_url(OUTBOX_SINK_ALERTMANAGER, outbox_monitor.alertmanager_url, "/api/v2/alerts");
	if (*outbox_monitor.pagerduty_routing_key_file != '\0')
		set_url(OUTBOX_SINK_PAGERDUTY, outbox_monitor.pagerduty_url, "/v2/enqueue");
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
		sinks[kind].kind = (OutboxSinkKind) kind;
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

/* Caller holds sink_lock.  Takes body and key over; line NULL: the repeat. */
static void
begin_transfer(Sink *sink, Transfer *transfer, OutboxSinkLine *line, json_t *body, char *key)
{
	OutboxHttpPost post = {.url = sink->url, .timeout_ms = ANSWER_MS};

	memset(transfer, 0, sizeof(*transfer));
	transfer->line = line;
	transfer->action = line != NULL ? line->changes[0].action : "repeat";
	transfer->retry = line != NULL && line->failures > 0;
	transfer->key = key;
	transfer->body = json_dumps(body, JSON_COMPACT);
	transfer->curl = curl_easy_init();
	json_decref(body);
	if (transfer->body == NULL || transfer->curl == NULL || key == NULL)
		abort();
	post.body = transfer->body;
	transfer->headers = outbox_http_post_prepare(transfer->curl, &post);
	curl_easy_setopt(transfer->curl, CURLOPT_PRIVATE, transfer);
	curl_multi_add_handle(sink->multi, transfer->curl);
}

/* Caller holds sink_lock. */
static void
begin_repeat(Sink *sink)
{
	json_t	   *list = json_array();
	json_t	   *alert;
	const char *key;

	json_object_foreach(sink->queue.repeat, key, alert)
		json_array_append(list, alert);
	sink->queue.repeat_under_way = true;
	begin_transfer(sink, &sink->transfers[TRANSFERS], NULL, outbox_sink_repeat_body(list),
				   strdup("all"));
	json_decref(list);
}

/* Sends what is due, as far as there is room. */
static void
begin_transfers(Sink *sink)
{
	int retries = 0;

	pthread_mutex_lock(&sink_lock);
	for (int i = 0; i < TRANSFERS; i++)
		retries += sink->transfers[i].curl != NULL && sink->transfers[i].retry;
	if (sink->queue.repeat != NULL && !sink->queue.repeat_under_way)
		begin_repeat(sink);
	for (int i = 0; i < TRANSFERS; i++)
	{
		Transfer	   *transfer = &sink->transfers[i];
		OutboxSinkLine *line;

		if (transfer->curl != NULL)
			continue;
		line = outbox_sink_queue_next(&sink->queue, outbox_clock_ms(), retries < RETRIES);
		if (line == NULL)
			break;
		line->under_way = true;
		begin_transfer(sink, transfer, line,
					   outbox_sink_body(sink->kind, line->changes[0].action, line->changes[0].alert,
										routing_key),
					   strdup(line->key));
		retries += transfer->retry;
	}
	pthread_mutex_unlock(&sink_lock);
}

static void
free_transfer(Sink *sink, Transfer *transfer)
{
	curl_multi_remove_handle(sink->multi, transfer->curl);
	curl_easy_cleanup(transfer->curl);
	curl_slist_free_all(transfer->headers);
	free(transfer->body);
	free(transfer->key);
	transfer->curl = NULL;
}

/* Counts and logs how a transfer ended.  true: there is nothing to be tried again. */
static bool
judge_transfer(const Sink *sink, const Transfer *transfer, CURLcode code)
{
	const char *name = outbox_sink_name(sink->kind);
	long		status = 0;
	bool		refused;

	if (code == CURLE_OK)
		curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status < 300)
	{
		outbox_log(OUTBOX_LOG_INFO, "alert_sent", "%s: %s %s", name, transfer->action,
				   transfer->key);
		outbox_metric_add(&sent_total, 1, "sink", name, "action", transfer->action, NULL);
		return true;
	}
	refused = status >= 400 && status < 500 && status != 408 && status != 429;
	outbox_metric_add(&failed_total, 1, "sink", name, NULL);
	if (status == 0)
		outbox_log(OUTBOX_LOG_WARNING, "alert_not_sent", "%s: %s %s: %s", name, transfer->action,
				   transfer->key, curl_easy_strerror(code));
	else
		outbox_log(refused ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
				   refused ? "alert_refused" : "alert_not_sent", "%s: %s %s: HTTP status %ld", name,
				   transfer->action, transfer->key, status);
	return refused;
}

/*
 * Ends the transfers that are over, and returns how many; *changed: something has left the queue.
 */
static int
end_transfers(Sink *sink, bool *changed)
{
	CURLMsg *message;
	int		 left;
	int		 ended = 0;

	*changed = false;

	while ((message = curl_multi_info_read(sink->multi, &left)) != NULL)
	{
		Transfer *transfer;
		bool	  done;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		done = judge_transfer(sink, transfer, message->data.result);
		pthread_mutex_lock(&sink_lock);
		if (transfer->line != NULL)
			outbox_sink_queue_sent(&sink->queue, transfer->line, done, outbox_clock_ms());
		else
			outbox_sink_queue_repeated(&sink->queue); /* the next one is due soon */
		pthread_mutex_unlock(&sink_lock);
		*changed = *changed || (done && transfer->line != NULL);
		free_transfer(sink, transfer);
		ended++;
	}
	return ended;
}

static bool
is_stopping(Sink *sink, int *wait_ms)
{
	bool end;

	pthread_mutex_lock(&sink_lock);
	end = stopping;
	*wait_ms = (int) outbox_sink_queue_wait(&sink->queue, outbox_clock_ms(), IDLE_MS);
	pthread_mutex_unlock(&sink_lock);
	return end;
}

static void *
run_sink(void *arg)
{
	Sink *sink = arg;
	int	  wait_ms;
	int	  running;
	bool  changed;

	while (!is_stopping(sink, &wait_ms))
	{
		begin_transfers(sink);
		curl_multi_perform(sink->multi, &running);
		if (end_transfers(sink, &changed) == 0)
			curl_multi_poll(sink->multi, NULL, 0, wait_ms, NULL);
		if (changed)
			on_change();
	}
	for (int i = 0; i <= TRANSFERS; i++)
	{
		if (sink->transfers[i].curl != NULL)
			free_transfer(sink, &sink->transfers[i]);
	}
	return NULL;
}

bool
outbox_sinks_start(void)
{
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		Sink *sink = &sinks[kind];

		if (sink->url[0] == '\0')
			continue;
		sink->multi = curl_multi_init();
		if (sink->multi == NULL || pthread_create(&sink->thread, NULL, run_sink, sink) != 0)
		{
			outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "%s", strerror(errno));
			return false;
		}
		sink->started = true;
	}
	return true;
}

void
outbox_sinks_stop(void)
{
	pthread_mutex_lock(&sink_lock);
	stopping = true;
	pthread_mutex_unlock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		if (!sinks[kind].started)
			continue;
		curl_multi_wakeup(sinks[kind].multi);
		pthread_join(sinks[kind].thread, NULL);
		curl_multi_cleanup(sinks[kind].multi);
		sinks[kind].started = false;
	}
}

/* Caller holds sink_lock. */
static void
add_locked(Sink *sink, const char *action, json_t *alert)
{
	size_t lost;

	if (sink->url[0] == '\0')
		return;
	lost = outbox_sink_queue_add(&sink->queue, action, alert);
	if (lost > 0)
	{
		outbox_log(OUTBOX_LOG_ERROR, "alert_lost", "%s: its queue is full, %zu changes are lost",
				   outbox_sink_name(sink->kind), lost);
		outbox_metric_add(&failed_total, (double) lost, "sink", outbox_sink_name(sink->kind), NULL);
	}
	if (sink->started)
		curl_multi_wakeup(sink->multi);
}

void
outbox_sinks_send(const char *action, json_t *alert)
{
	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
		add_locked(&sinks[kind], action, alert);
	pthread_mutex_unlock(&sink_lock);
}

void
outbox_sinks_repeat(json_t *alerts)
{
	Sink *sink = &sinks[OUTBOX_SINK_ALERTMANAGER];

	pthread_mutex_lock(&sink_lock);
	if (sink->url[0] != '\0')
		outbox_sink_queue_repeat(&sink->queue, alerts);
	if (sink->started)
		curl_multi_wakeup(sink->multi);
	pthread_mutex_unlock(&sink_lock);
}

json_t *
outbox_sinks_dump(void)
{
	json_t *queues = json_object();

	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
		json_object_set_new(queues, outbox_sink_name((OutboxSinkKind) kind),
							outbox_sink_queue_dump(&sinks[kind].queue));
	pthread_mutex_unlock(&sink_lock);
	return queues;
}

void
outbox_sinks_restore(json_t *queues)
{
	pthread_mutex_lock(&sink_lock);
	for (int kind = 0; kind < OUTBOX_SINK_KINDS; kind++)
	{
		json_t *entry;
		size_t	i;

		json_array_foreach(json_object_get(queues, outbox_sink_name((OutboxSinkKind) kind)), i,
						   entry)
		{
			const char *action = json_string_value(json_object_get(entry, "action"));
			json_t	   *alert = json_object_get(entry, "alert");

			if (action != NULL && outbox_sink_alert_valid(alert))
				add_locked(&sinks[kind], action, alert);
		}
	}
	pthread_mutex_unlock(&sink_lock);
}
