/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_export.c
 *	  The queue of ended spans and the thread that posts them.
 *
 * Runs in the services: outbox_export_put on any thread, the rest on the exporter's.  A batch goes
 * out when it is full or 1 s old.  A receiver that does not answer, or answers 429, 502, 503 or
 * 504, is tried again for 10 s, any other refusal at once is the batch's end; what comes meanwhile
 * fills the queue and is dropped beyond it.
 */
#define _GNU_SOURCE
#include "trace_export.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trace_json.h"
#include "services/lib/clock.h"
#include "services/lib/http_post.h"
#include "services/lib/log.h"
#include "services/lib/metrics.h"

#define BATCH_SPANS	 512
#define FLUSH_MS	 1000
#define ANSWER_MS	 5000
#define TRY_MS		 10000
#define RETRY_MS	 1000
#define STOP_MS		 2000
#define CURL_TURN_MS 1000 /* libcurl looks at a stop at least so often */

typedef struct SpanQueue
{
	OutboxEndedSpan *ring; /* size of them; contents guarded by queue_lock, as what follows */
	size_t			 size; /* written before the thread starts */
	size_t			 head;
	size_t			 count;
	bool			 stopping;
	int64_t			 stop_at; /* stopping: when to end, outbox_clock_ms */
} SpanQueue;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  queue_wake; /* on CLOCK_MONOTONIC */
static SpanQueue	   queue;

/* written before the thread starts */
static pthread_t   exporter;
static const char *traces_url;
/* scheme, host and port, for the log: the rest may be a secret */
static char		   shown_url[512];
static const char *service_name;

/* the exporter's own */
static OutboxEndedSpan *batch;
static CURL			   *curl;
static bool				failing; /* logged; until something is taken */

static OutboxMetric sent_total = {
	.name = "outbox_spans_sent_total",
	.help = "Spans the receiver has taken.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric dropped_total = {
	.name = "outbox_spans_dropped_total",
	.help = "Spans lost: the queue was full, or the receiver did not take them.",
	.type = OUTBOX_METRIC_COUNTER,
};

void
outbox_export_put(const OutboxEndedSpan *span)
{
	bool full;

	pthread_mutex_lock(&queue_lock);
	full = queue.count == queue.size || queue.stopping;
	if (!full)
	{
		queue.ring[(queue.head + queue.count++) % queue.size] = *span;
		if (queue.count == 1 || queue.count == BATCH_SPANS)
			pthread_cond_signal(&queue_wake);
	}
	pthread_mutex_unlock(&queue_lock);
	if (full)
		outbox_metric_add(&dropped_total, 1, "reason", "queue_full", NULL);
}

/* Waits until the time or, before it, a stop.  Caller holds queue_lock. */
static void
wait_until_locked(int64_t until, bool or_full)
{
	struct timespec at = {until / 1000, until % 1000 * 1000000};

	while (!queue.stopping && !(or_full && queue.count >= BATCH_SPANS) &&
		   pthread_cond_timedwait(&queue_wake, &queue_lock, &at) != ETIMEDOUT)
	{
		/* woken for spans */
	}
}

/* Moves the next batch out of the queue; 0: it is empty, and there comes no more. */
static size_t
take_batch(void)
{
	size_t count;

	pthread_mutex_lock(&queue_lock);
	while (queue.count == 0 && !queue.stopping)
		pthread_cond_wait(&queue_wake, &queue_lock);
	wait_until_locked(outbox_clock_ms() + FLUSH_MS, true);
	count = queue.count < BATCH_SPANS ? queue.count : BATCH_SPANS;
	for (size_t i = 0; i < count; i++)
		batch[i] = queue.ring[(queue.head + i) % queue.size];
	queue.head = (queue.head + count) % queue.size;
	queue.count -= count;
	pthread_mutex_unlock(&queue_lock);
	return count;
}

/* Milliseconds a transfer may take; 0: it is time to end. */
static int64_t
time_left(int64_t most)
{
	int64_t left = most;

	pthread_mutex_lock(&queue_lock);
	if (queue.stopping && queue.stop_at - outbox_clock_ms() < most)
		left = queue.stop_at - outbox_clock_ms();
	pthread_mutex_unlock(&queue_lock);
	return left > 0 ? left : 0;
}

/* Ends a transfer begun before the stop in time. */
static int
watch_stop(void *arg, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload)
{
	(void) arg, (void) total, (void) now, (void) upload_total, (void) upload;
	return time_left(STOP_MS) < CURL_TURN_MS ? 1 : 0;
}

/* The HTTP status, or 0 with *error set. */
static long
post_spans(const char *body, int64_t timeout_ms, const char **error)
{
	const OutboxHttpPost post = {.url = traces_url,
								 .body = body,
								 .header = "Expect:",
								 .timeout_ms = (long) timeout_ms,
								 .watch = timeout_ms > STOP_MS ? watch_stop : NULL};

	return outbox_http_post(curl, &post, error);
}

static void
give_up(size_t count, const char *reason, long status, const char *error)
{
	outbox_metric_add(&dropped_total, (double) count, "reason", reason, NULL);
	if (failing)
		return;
	failing = true;
	if (status > 0)
		outbox_log(OUTBOX_LOG_WARNING, "spans_not_sent", "%s: HTTP status %ld", shown_url, status);
	else
		outbox_log(OUTBOX_LOG_WARNING, "spans_not_sent", "%s: %s", shown_url, error);
}

/* Is it worth another try, after a pause that is made here? */
static bool
may_retry(long status, int64_t deadline)
{
	bool again;

	if (status != 0 && status != 429 && status != 502 && status != 503 && status != 504)
		return false;
	pthread_mutex_lock(&queue_lock);
	if (outbox_clock_ms() < deadline)
		wait_until_locked(outbox_clock_ms() + RETRY_MS, false);
	again = outbox_clock_ms() < deadline && !queue.stopping;
	pthread_mutex_unlock(&queue_lock);
	return again;
}

static void
send_batch(size_t count)
{
	char   *body = time_left(ANSWER_MS) > 0 ? outbox_export_body(service_name, batch, count) : NULL;
	int64_t deadline = outbox_clock_ms() + TRY_MS;
	const char *error = "no memory or time is left";
	int64_t		timeout;
	long		status;

	do
	{
		timeout = time_left(ANSWER_MS);
		status = body != NULL && timeout > 0 ? post_spans(body, timeout, &error) : 0;
	} while ((status < 200 || status >= 300) && body != NULL && timeout > 0 &&
			 may_retry(status, deadline));
	free(body);
	if (status >= 200 && status < 300)
	{
		failing = false;
		outbox_metric_add(&sent_total, (double) count, NULL);
	}
	else
		give_up(count, status == 0 ? "no_answer" : "refused", status, error);
}

/* Ends after a stop, when the queue is empty: what has no time left is dropped. */
static void *
run_exporter(void *arg)
{
	size_t count;

	(void) arg;
	while ((count = take_batch()) > 0)
		send_batch(count);
	return NULL;
}

/* Fills shown_url. */
static void
hide_credentials(const char *url)
{
	const char *authority = strstr(url, "://");
	const char *at;

	authority = authority != NULL ? authority + 3 : url;
	at = memrchr(authority, '@', strcspn(authority, "/?#"));
	at = at != NULL ? at + 1 : authority;
	snprintf(shown_url, sizeof(shown_url), "%.*s%.*s", (int) (authority - url), url,
			 (int) strcspn(at, "/?#"), at);
}

bool
outbox_export_start(const char *url, const char *service, size_t queue_spans)
{
	pthread_condattr_t attributes;
	int				   code = ENOMEM;

	traces_url = url;
	hide_credentials(url);
	service_name = service;
	queue.size = queue_spans;
	queue.ring = malloc(queue_spans * sizeof(OutboxEndedSpan));
	batch = malloc(BATCH_SPANS * sizeof(OutboxEndedSpan));
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&queue_wake, &attributes);
	pthread_condattr_destroy(&attributes);
	outbox_metric_add(&sent_total, 0, NULL);
	outbox_metric_add(&dropped_total, 0, "reason", "queue_full", NULL);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		curl = curl_easy_init();
	if (queue.ring != NULL && batch != NULL && curl != NULL)
		code = pthread_create(&exporter, NULL, run_exporter, NULL);
	if (code != 0)
		outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "the exporter of spans: %s", strerror(code));
	return code == 0;
}

void
outbox_export_stop(void)
{
	pthread_mutex_lock(&queue_lock);
	queue.stopping = true;
	queue.stop_at = outbox_clock_ms() + STOP_MS;
	pthread_cond_signal(&queue_wake);
	pthread_mutex_unlock(&queue_lock);
	pthread_join(exporter, NULL);
	curl_easy_cleanup(curl);
	free(queue.ring);
	free(batch);
}
