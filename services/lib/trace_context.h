/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_context.h
 *	  Who a span is, and its W3C traceparent (Trace Context, level 1): version, trace
 *	  id, span id and flags in lower-case hex.
 */
#ifndef OUTBOX_TRACE_CONTEXT_H
#define OUTBOX_TRACE_CONTEXT_H

#include <stdbool.h>

/* with terminator */
#define OUTBOX_TRACE_ID_TEXT	33
#define OUTBOX_SPAN_ID_TEXT		17
#define OUTBOX_TRACEPARENT_TEXT 56

#define OUTBOX_TRACE_SAMPLED 0x01

typedef struct OutboxTraceContext
{
	char	 trace_id[OUTBOX_TRACE_ID_TEXT];
	char	 span_id[OUTBOX_SPAN_ID_TEXT];
	char	 parent_id[OUTBOX_SPAN_ID_TEXT]; /* "": the trace's first span */
	unsigned flags;
} OutboxTraceContext;

/*
 * Reads a traceparent: trace_id, span_id and flags; parent_id is "".  false: it is none
 * (also with ids that are zero), and must not be passed on.  Of a later version than 00
 * only what 00 has is read.
 */
extern bool outbox_trace_parse(const char *text, OutboxTraceContext *context);

/*
 * A new span: child of traceparent, of the same trace and flags; of a trace of its
 * own, sampled, when that is NULL or none.
 */
extern void outbox_trace_make(const char *traceparent, OutboxTraceContext *context);

/* Its traceparent, of version 00. */
extern void outbox_trace_print(const OutboxTraceContext *context,
							   char						 text[OUTBOX_TRACEPARENT_TEXT]);

#endif /* OUTBOX_TRACE_CONTEXT_H */
