/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_json.h
 *	  Spans as an OTLP/HTTP request in JSON.
 */
#ifndef OUTBOX_TRACE_JSON_H
#define OUTBOX_TRACE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/kafka/record.h"
#include "services/lib/trace_context.h"

/* OTLP's numbers. */
typedef enum OutboxSpanKind
{
	OUTBOX_SPAN_SERVER = 2,
	OUTBOX_SPAN_PRODUCER = 4,
	OUTBOX_SPAN_CONSUMER = 5,
} OutboxSpanKind;

/* An ended span; texts that are longer are cut. */
typedef struct OutboxEndedSpan
{
	OutboxSpanKind	   kind;
	OutboxTraceContext context;
	int64_t			   started_ns; /* since 1970 */
	int64_t			   ended_ns;
	char			   target[250]; /* topic; SERVER: route */
	const char		  *method;		/* SERVER: a constant */
	int				   status;		/* SERVER: of the answer */
	/* CONSUMER: lives as long as the process; from here on CONSUMER only */
	const char		  *consumer;
	int32_t			   partition;
	int64_t			   offset;
	bool			   tombstone;
	char			   event_id[OUTBOX_UUID_TEXT];
	char			   correlation_id[257]; /* "": none */
	char			   key[128];			/* "": none, or not printable */
	char			   error_type[16];		/* "": it succeeded */
	char			   error_message[256];
} OutboxEndedSpan;

/* The body of a request, malloc'ed; NULL: no memory. */
extern char *outbox_export_body(const char *service, const OutboxEndedSpan *spans, size_t count);

#endif /* OUTBOX_TRACE_JSON_H */
