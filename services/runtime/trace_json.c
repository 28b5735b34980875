/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_json.c
 *	  Spans as an OTLP/HTTP request in JSON (opentelemetry-proto, ExportTraceServiceRequest:
 *	  ids in hex, 64 bit integers as text), attributes by OpenTelemetry's semantic
 *	  conventions for messaging and HTTP.
 *
 * Runs in the services, the exporter's thread.
 */
#include "trace_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define STATUS_ERROR 2

static void
add_value(json_t *attributes, const char *key, const char *type, json_t *value)
{
	if (value == NULL)
		return;
	json_array_append_new(attributes, json_pack("{s:s,s:{s:o}}", "key", key, "value", type, value));
}

/* Left out when it is empty or no UTF-8. */
static void
add_text(json_t *attributes, const char *key, const char *value)
{
	if (value[0] != '\0')
		add_value(attributes, key, "stringValue", json_string(value));
}

static json_t *
make_integer(int64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, value);
	return json_string(text);
}

static void
add_integer(json_t *attributes, const char *key, int64_t value)
{
	add_value(attributes, key, "intValue", make_integer(value));
}

static void
add_message(json_t *attributes, const OutboxEndedSpan *span, const char *operation)
{
	add_text(attributes, "messaging.system", "kafka");
	add_text(attributes, "messaging.operation.name", operation);
	add_text(attributes, "messaging.operation.type", operation);
	add_text(attributes, "messaging.destination.name", span->target);
}

static void
add_record(json_t *attributes, const OutboxEndedSpan *span)
{
	char partition[16];

	snprintf(partition, sizeof(partition), "%d", (int) span->partition);
	add_text(attributes, "messaging.destination.partition.id", partition);
	add_text(attributes, "messaging.consumer.group.name", span->consumer);
	add_text(attributes, "messaging.message.id", span->event_id);
	add_text(attributes, "messaging.message.conversation_id", span->correlation_id);
	add_text(attributes, "messaging.kafka.message.key", span->key);
	add_integer(attributes, "messaging.kafka.offset", span->offset);
	if (span->tombstone)
		add_value(attributes, "messaging.kafka.message.tombstone", "boolValue", json_true());
}

/* Fills the attributes; the span's name goes to name. */
static json_t *
make_attributes(const OutboxEndedSpan *span, char *name, size_t size)
{
	json_t *attributes = json_array();

	switch (span->kind)
	{
		case OUTBOX_SPAN_SERVER:
			snprintf(name, size, "%s %s", span->method, span->target);
			add_text(attributes, "http.request.method", span->method);
			add_text(attributes, "http.route", span->target);
			add_integer(attributes, "http.response.status_code", span->status);
			break;
		case OUTBOX_SPAN_PRODUCER:
			snprintf(name, size, "create %s", span->target);
			add_message(attributes, span, "create");
			break;
		case OUTBOX_SPAN_CONSUMER:
			snprintf(name, size, "process %s", span->target);
			add_message(attributes, span, "process");
			add_record(attributes, span);
			break;
	}
	add_text(attributes, "error.type", span->error_type);
	return attributes;
}

static json_t *
make_span(const OutboxEndedSpan *span)
{
	char	name[sizeof(span->target) + 16];
	json_t *attributes = make_attributes(span, name, sizeof(name));
	json_t *object =
		json_pack("{s:s,s:s,s:i,s:s,s:i,s:o,s:o,s:o}", "traceId", span->context.trace_id, "spanId",
				  span->context.span_id, "flags", (int) span->context.flags, "name", name, "kind",
				  (int) span->kind, "startTimeUnixNano", make_integer(span->started_ns),
				  "endTimeUnixNano", make_integer(span->ended_ns), "attributes", attributes);
	json_t *message;

	if (span->context.parent_id[0] != '\0')
		json_object_set_new(object, "parentSpanId", json_string(span->context.parent_id));
	if (span->error_type[0] != '\0')
	{
		message = json_string(span->error_message);
		json_object_set_new(object, "status",
							json_pack("{s:i,s:o}", "code", STATUS_ERROR, "message",
									  message != NULL ? message : json_string("")));
	}
	return object;
}

char *
outbox_export_body(const char *service, const OutboxEndedSpan *spans, size_t count)
{
	json_t *resource = json_array();
	json_t *list = json_array();
	json_t *body;
	char   *text;

	add_text(resource, "service.name", service);
	add_text(resource, "service.version", OUTBOX_VERSION);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, make_span(&spans[i]));
	body = json_pack("{s:[{s:{s:o},s:[{s:{s:s,s:s},s:o}]}]}", "resourceSpans", "resource",
					 "attributes", resource, "scopeSpans", "scope", "name", "outbox", "version",
					 OUTBOX_VERSION, "spans", list);
	text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	json_decref(body);
	return text;
}
