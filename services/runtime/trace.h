/* SPDX-License-Identifier: PostgreSQL
 *
 * trace.h
 *	  OpenTelemetry spans of what a service does, sent by OTLP/HTTP when an endpoint
 *	  is configured.
 *
 * Nothing here waits: a span that finds the queue full is dropped and counted
 * (outbox_spans_dropped_total).  Without an endpoint there is no thread, a span costs nothing, and
 * traceparents are passed on as they came (W3C Trace Context: who records no span changes nothing).
 * Parent-based sampling: spans of a trace that is not sampled are not sent.
 */
#ifndef OUTBOX_TRACE_H
#define OUTBOX_TRACE_H

#include <stdint.h>

#include "services/kafka/record.h"
#include "services/lib/config.h"
#include "services/lib/db.h"
#include "services/lib/trace_context.h"

/* Work under way.  Belongs to one thread. */
typedef struct OutboxSpan
{
	OutboxTraceContext context;
	char			   traceparent[OUTBOX_TRACEPARENT_TEXT]; /* "": nothing is traced */
	int64_t			   started_ns;							 /* since 1970; 0: nothing is traced */
} OutboxSpan;

/* Is what the environment says of the endpoint a URL?  The setting was checked. */
extern bool outbox_trace_check(char *error, size_t size);

/*
 * Once, before other threads start: by the settings otlp_endpoint and otlp_queue_spans,
 * else by OTEL_EXPORTER_OTLP_ENDPOINT.  name is the service's unless OTEL_SERVICE_NAME
 * gives one; it lives as long as the process.  false: logged.
 */
extern bool outbox_trace_start(const char *name);

/* Sends what is queued, for 2 s at most; the rest is dropped. */
extern void outbox_trace_stop(void);

/* Child of traceparent; begins a trace when that is NULL or none. */
extern void outbox_span_begin(OutboxSpan *span, const char *traceparent);

/* The same for a record to be processed; sets record->trace_id. */
extern void outbox_span_begin_record(OutboxSpan *span, OutboxRecord *record);

/* What is emitted in the span carries this: incoming itself when nothing is traced. */
extern const char *outbox_span_traceparent(const OutboxSpan *span, const char *incoming);

/* Ends the processing of a record by a consumer; error NULL: it succeeded. */
extern void outbox_span_end_process(const OutboxSpan *span, const char *consumer,
									const OutboxRecord *record, const OutboxError *error);

/* Ends an HTTP request, e.g. "POST", "/orders". */
extern void outbox_span_end_request(const OutboxSpan *span, const char *method, const char *route,
									int status);

/* Ends the making of an event. */
extern void outbox_span_end_create(const OutboxSpan *span, const char *topic);

#endif /* OUTBOX_TRACE_H */
