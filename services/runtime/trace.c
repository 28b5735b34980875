/* SPDX-License-Identifier: PostgreSQL
 *
 * trace.c
 *	  Begins and ends spans.
 *
 * Runs in the services: start and stop on the main thread, the rest on any.
 */
#define _GNU_SOURCE
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "settings.h"
#include "trace_export.h"
#include "services/lib/arguments.h"
#include "services/lib/failure.h"
#include "services/lib/text.h"
#include "services/lib/trace_context.h"

#define TRACES_PATH "/v1/traces"

/* written before other threads start */
static bool enabled;

static int64_t
read_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Where spans go; "": nowhere. */
static const char *
find_endpoint(void)
{
	const char *endpoint = outbox_settings.otlp_endpoint;
	const char *other = getenv("OTEL_EXPORTER_OTLP_ENDPOINT");

	return *endpoint == '\0' && other != NULL ? other : endpoint;
}

bool
outbox_trace_check(char *error, size_t size)
{
	char reason[128];

	if (outbox_check_url(find_endpoint(), reason, sizeof(reason)))
		return true;
	snprintf(error, size, "environment OTEL_EXPORTER_OTLP_ENDPOINT: %s", reason);
	return false;
}

bool
outbox_trace_start(const char *name)
{
	const char *endpoint = find_endpoint();
	const char *other_name = getenv("OTEL_SERVICE_NAME");
	char	   *url;
	size_t		len;

	if (*endpoint == '\0')
		return true;
	len = strlen(endpoint);
	while (endpoint[len - 1] == '/')
		len--;
	if (asprintf(&url, "%.*s" TRACES_PATH, (int) len, endpoint) < 0)
		return false;
	enabled =
		outbox_export_start(url, other_name != NULL && *other_name != '\0' ? other_name : name,
							(size_t) outbox_settings.otlp_queue_spans);
	return enabled;
}

void
outbox_trace_stop(void)
{
	if (enabled)
		outbox_export_stop();
}

void
outbox_span_begin(OutboxSpan *span, const char *traceparent)
{
	span->traceparent[0] = '\0';
	span->started_ns = 0;
	if (!enabled)
		return;
	outbox_trace_make(traceparent, &span->context);
	outbox_trace_print(&span->context, span->traceparent);
	span->started_ns = read_clock();
}

void
outbox_span_begin_record(OutboxSpan *span, OutboxRecord *record)
{
	outbox_span_begin(span, record->traceparent);
	if (span->started_ns != 0)
		memcpy(record->trace_id, span->context.trace_id, OUTBOX_TRACE_ID_TEXT);
}

const char *
outbox_span_traceparent(const OutboxSpan *span, const char *incoming)
{
	return span->traceparent[0] != '\0' ? span->traceparent : incoming;
}

static bool
is_sent(const OutboxSpan *span)
{
	return span->started_ns != 0 && (span->context.flags & OUTBOX_TRACE_SAMPLED) != 0;
}

static void
fill_span(OutboxEndedSpan *ended, OutboxSpanKind kind, const OutboxSpan *span, const char *target)
{
	memset(ended, 0, sizeof(*ended));
	ended->kind = kind;
	ended->context = span->context;
	ended->started_ns = span->started_ns;
	ended->ended_ns = read_clock();
	snprintf(ended->target, sizeof(ended->target), "%s", target);
}

static void
copy_key(OutboxEndedSpan *ended, const OutboxRecord *record)
{
	size_t len = record->key_len < sizeof(ended->key) ? record->key_len : sizeof(ended->key) - 1;

	for (size_t i = 0; i < len; i++)
	{
		if (record->key[i] < ' ' || record->key[i] > '~')
			return;
	}
	if (record->key != NULL)
		memcpy(ended->key, record->key, len);
}

void
outbox_span_end_process(const OutboxSpan *span, const char *consumer, const OutboxRecord *record,
						const OutboxError *error)
{
	OutboxEndedSpan ended;

	if (!is_sent(span))
		return;
	fill_span(&ended, OUTBOX_SPAN_CONSUMER, span, record->topic);
	ended.consumer = consumer;
	ended.partition = record->partition;
	ended.offset = record->offset;
	ended.tombstone = record->raw_value == NULL;
	memcpy(ended.event_id, record->event_id, OUTBOX_UUID_TEXT);
	outbox_text_copy(ended.correlation_id, sizeof(ended.correlation_id),
					 record->correlation_id != NULL ? record->correlation_id : "");
	copy_key(&ended, record);
	if (error != NULL)
	{
		snprintf(ended.error_type, sizeof(ended.error_type), "%s",
				 error->sqlstate[0] != '\0' ? error->sqlstate :
											  outbox_failure_name(error->failure));
		outbox_text_copy(ended.error_message, sizeof(ended.error_message), error->message);
	}
	outbox_export_put(&ended);
}

void
outbox_span_end_request(const OutboxSpan *span, const char *method, const char *route, int status)
{
	OutboxEndedSpan ended;

	if (!is_sent(span))
		return;
	fill_span(&ended, OUTBOX_SPAN_SERVER, span, route);
	ended.method = method;
	ended.status = status;
	if (status >= 500)
		snprintf(ended.error_type, sizeof(ended.error_type), "%d", status);
	outbox_export_put(&ended);
}

void
outbox_span_end_create(const OutboxSpan *span, const char *topic)
{
	OutboxEndedSpan ended;

	if (!is_sent(span))
		return;
	fill_span(&ended, OUTBOX_SPAN_PRODUCER, span, topic);
	outbox_export_put(&ended);
}
