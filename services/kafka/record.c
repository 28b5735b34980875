/* SPDX-License-Identifier: PostgreSQL
 *
 * record.c
 *	  Who a record is: event id, type, correlation id, trace and replay from its
 *	  headers.
 *
 * Runs in the services, member threads.  The event id never depends on when or
 * by whom a record is read: without an id in the headers it is made from topic,
 * partition, offset, time stamp and digest.
 */
#include "record.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloudevent.h"
#include "digest.h"
#include "services/lib/text.h"
#include "src/common/hash.h"
#include "src/common/kafka_headers.h"

#define TIMESTAMP_MAX_MS INT64_C(253402300799999) /* the end of year 9999 */

bool
outbox_uuid_valid(const char *text)
{
	for (int i = 0; i < OUTBOX_UUID_TEXT - 1; i++)
	{
		bool dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[OUTBOX_UUID_TEXT - 1] == '\0';
}

/* The headers that say who a record is. */
enum
{
	CE_ID,
	CE_SOURCE,
	CE_TYPE,
	CE_TIME,
	CE_CORRELATION_ID,
	CE_TRACEPARENT,
	CE_TRACESTATE,
	ID,
	EVENT_TYPE,
	CORRELATION_ID,
	TRACEPARENT,
	TRACESTATE,
	REPLAY_ID,
	REPLAY_MODE,
	CONTENT_TYPE,
	KNOWN_HEADERS
};

#define NAME(text) {text, sizeof(text) - 1}

static const struct
{
	const char *name;
	size_t		len;
} known_names[KNOWN_HEADERS] = {
	[CE_ID] = NAME("ce_id"),
	[CE_SOURCE] = NAME("ce_source"),
	[CE_TYPE] = NAME("ce_type"),
	[CE_TIME] = NAME("ce_time"),
	[CE_CORRELATION_ID] = NAME("ce_correlationid"),
	[CE_TRACEPARENT] = NAME("ce_traceparent"),
	[CE_TRACESTATE] = NAME("ce_tracestate"),
	[ID] = NAME("id"),
	[EVENT_TYPE] = NAME("eventType"),
	[CORRELATION_ID] = NAME("correlationid"),
	[TRACEPARENT] = NAME("traceparent"),
	[TRACESTATE] = NAME("tracestate"),
	[REPLAY_ID] = NAME(OUTBOX_REPLAY_ID_HEADER),
	[REPLAY_MODE] = NAME(OUTBOX_REPLAY_MODE_HEADER),
	[CONTENT_TYPE] = NAME("content-type"),
};

/* Kafka's names of headers have a case; content-type is written in any. */
static bool
is_known(const OutboxHeader *header, int which)
{
	if (header->name_len != known_names[which].len)
		return false;
	return which == CONTENT_TYPE ?
		outbox_header_is(header, known_names[which].name) :
		memcmp(header->name, known_names[which].name, header->name_len) == 0;
}

/* In one pass the first header of each known name that has a value; value NULL: there is none. */
static void
collect_known(const OutboxRecord *record, OutboxHeader known[KNOWN_HEADERS])
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	memset(known, 0, KNOWN_HEADERS * sizeof(OutboxHeader));
	if (record->headers == NULL)
		return;
	outbox_headers_read(&reader, record->headers, record->headers_len);
	while (outbox_headers_next(&reader, &header))
	{
		for (int i = 0; header.value != NULL && i < KNOWN_HEADERS; i++)
		{
			if (known[i].value == NULL && is_known(&header, i))
				known[i] = header;
		}
	}
}

/* The first header of the name that has a value; false: there is none. */
static bool
find_header(const OutboxRecord *record, const char *name, OutboxHeader *header)
{
	OutboxHeaderReader reader;
	size_t			   name_len = strlen(name);

	if (record->headers == NULL)
		return false;
	outbox_headers_read(&reader, record->headers, record->headers_len);
	while (outbox_headers_next(&reader, header))
	{
		if (header->value != NULL && header->name_len == name_len &&
			memcmp(header->name, name, name_len) == 0)
			return true;
	}
	return false;
}

/* Its value as outbox_record_header has it, at most max bytes; NULL: it has none. */
static char *
copy_text(const OutboxHeader *header, size_t max)
{
	return header->value != NULL ? outbox_text_header(header->value, header->value_len, max) : NULL;
}

char *
outbox_record_header(const OutboxRecord *record, const char *name)
{
	OutboxHeader header;

	return find_header(record, name, &header) ? copy_text(&header, SIZE_MAX) : NULL;
}

bool
outbox_record_is_for(const OutboxRecord *record, const char *consumer)
{
	OutboxHeader group;

	if (!find_header(record, OUTBOX_REPLAY_ID_HEADER, &group) ||
		!find_header(record, OUTBOX_REPLAY_GROUP_HEADER, &group))
		return true;
	return group.value_len == strlen(consumer) &&
		memcmp(group.value, consumer, group.value_len) == 0;
}

static void
write_event_id(char id[OUTBOX_UUID_TEXT], uint64_t high, uint64_t low)
{
	snprintf(id, OUTBOX_UUID_TEXT, "%08x-%04x-8%03x-%04x-%012llx", (unsigned) (high >> 32),
			 (unsigned) (high >> 16 & 0xffff), (unsigned) (high & 0xfff),
			 0x8000u | (unsigned) (low >> 48 & 0x3fff),
			 (unsigned long long) (low & UINT64_C(0xffffffffffff)));
}

/*
 * A version 8 UUID of topic, partition, offset, time stamp and digest: another log's record has
 * another one.
 */
static void
make_event_id(OutboxRecord *record)
{
	uint64_t high = outbox_hash_bytes(record->topic, strlen(record->topic));

	high = outbox_digest_integer(high, (uint64_t) (uint32_t) record->partition);
	high = outbox_digest_integer(high, (uint64_t) record->offset);
	high = outbox_digest_integer(high, (uint64_t) record->timestamp_ms);
	write_event_id(record->event_id, high,
				   outbox_record_digest(record->key, record->key_len, record->raw_value,
										record->raw_value_len));
}

void
outbox_record_old_id(const OutboxRecord *record, char id[OUTBOX_UUID_TEXT])
{
	static const char *const id_headers[] = {"ce_id", "id"};
	uint64_t				 high = outbox_hash_bytes(record->topic, strlen(record->topic));
	const OutboxRecord		 raw = {.headers = record->raw_headers,
									.headers_len = record->raw_headers_len};
	bool					 found = false;

	for (size_t i = 0; i < 2 && !found; i++)
	{
		char *text = outbox_record_header(&raw, id_headers[i]);

		found = text != NULL && outbox_uuid_valid(text);
		if (found)
			memcpy(id, text, OUTBOX_UUID_TEXT);
		free(text);
	}
	if (!found)
		write_event_id(id, high ^ (uint64_t) (uint32_t) record->partition << 16,
					   (uint64_t) record->offset);
}

int64_t
outbox_record_time(int64_t timestamp_ms)
{
	return timestamp_ms < 0 || timestamp_ms > TIMESTAMP_MAX_MS ? -1 : timestamp_ms;
}

static int
read_hex(char digit)
{
	return isdigit((unsigned char) digit) ? digit - '0' : tolower((unsigned char) digit) - 'a' + 10;
}

/*
 * What is claimed of a record that is to be processed again: exclusive or of both
 * ids, so each pair of event and replay has its own.
 */
static void
make_claim_id(OutboxRecord *record)
{
	for (int i = 0; i < OUTBOX_UUID_TEXT - 1; i++)
	{
		if (record->claim_id[i] != '-')
			record->claim_id[i] =
				"0123456789abcdef"[read_hex(record->event_id[i]) ^ read_hex(record->replay_id[i])];
	}
}

static void
identify_replay(OutboxRecord *record, const OutboxHeader *known)
{
	char *mode;

	memcpy(record->claim_id, record->event_id, OUTBOX_UUID_TEXT);
	record->replay_id = copy_text(&known[REPLAY_ID], SIZE_MAX);
	if (record->replay_id == NULL)
		return;
	mode = copy_text(&known[REPLAY_MODE], SIZE_MAX);
	record->reprocess = mode != NULL && strcmp(mode, OUTBOX_REPLAY_REPROCESS) == 0 &&
		outbox_uuid_valid(record->replay_id);
	free(mode);
	if (record->reprocess)
		make_claim_id(record);
}

/*
 * Of a trace: what is too long, or no printable ASCII, is none; W3C Trace Context has it thrown
 * away whole.
 */
static char *
copy_printable(const OutboxHeader *header)
{
	if (header->value_len > OUTBOX_TRACESTATE_MAX)
		return NULL;
	for (size_t i = 0; i < header->value_len; i++)
	{
		if (header->value[i] < ' ' || header->value[i] > '~')
			return NULL;
	}
	return copy_text(header, SIZE_MAX);
}

/*
 * A traceparent that is none is no fault of the event: it is as if there were none.  That of the
 * event's making (ce_traceparent) serves where nobody has written one on the way.
 */
static void
identify_trace(OutboxRecord *record, const OutboxHeader *known)
{
	OutboxTraceContext context;
	bool			   own = known[TRACEPARENT].value != NULL;

	record->trace_id[0] = '\0';
	record->tracestate = NULL;
	record->traceparent = copy_printable(&known[own ? TRACEPARENT : CE_TRACEPARENT]);
	if (record->traceparent == NULL || !outbox_trace_parse(record->traceparent, &context))
	{
		free(record->traceparent);
		record->traceparent = NULL;
		return;
	}
	memcpy(record->trace_id, context.trace_id, OUTBOX_TRACE_ID_TEXT);
	record->tracestate = copy_printable(&known[own ? TRACESTATE : CE_TRACESTATE]);
}

/* The id that a header has, of this source (NULL: of the topic).  false: it names no event. */
static bool
read_event_id(OutboxRecord *record, const OutboxHeader *id, const OutboxHeader *source)
{
	if (id->value == NULL)
		return false;
	switch (outbox_event_id_read(id->value, id->value_len, record->event_id))
	{
		case OUTBOX_ID_NONE:
			return false;
		case OUTBOX_ID_UUID:
			return true;
		case OUTBOX_ID_OTHER:
			break;
	}
	if (source != NULL && source->value_len > 0)
		outbox_event_id_hash(OUTBOX_ID_OF_SOURCE, source->value, source->value_len, id->value,
							 id->value_len, record->event_id);
	else
		outbox_event_id_hash(OUTBOX_ID_OF_TOPIC, record->topic, strlen(record->topic), id->value,
							 id->value_len, record->event_id);
	return true;
}

/*
 * Fills known, after what a structured CloudEvent holds has become value and headers.  A tombstone
 * holds none.
 */
static void
read_headers(OutboxRecord *record, OutboxHeader known[KNOWN_HEADERS])
{
	const OutboxHeader *content_type = &known[CONTENT_TYPE];

	record->raw_value = record->value;
	record->raw_value_len = record->value_len;
	record->raw_headers = record->headers;
	record->raw_headers_len = record->headers_len;
	collect_known(record, known);
	if (record->value == NULL || content_type->value == NULL ||
		!outbox_cloudevent_is_structured(content_type))
		return;
	outbox_cloudevent_read(record, content_type);
	collect_known(record, known);
}

/* The first of the two that is there, as text of at most max bytes. */
static char *
copy_either(const OutboxHeader *first, const OutboxHeader *second, size_t max)
{
	return copy_text(first->value != NULL ? first : second, max);
}

void
outbox_record_identify(OutboxRecord *record)
{
	OutboxHeader known[KNOWN_HEADERS];

	read_headers(record, known);
	record->timestamp_ms = outbox_record_time(record->timestamp_ms);
	if (known[CE_TIME].value == NULL ||
		!outbox_event_time_read((const char *) known[CE_TIME].value, known[CE_TIME].value_len,
								&record->event_us))
		record->event_us = OUTBOX_NO_TIME;
	if (!read_event_id(record, &known[CE_ID], &known[CE_SOURCE]) &&
		!read_event_id(record, &known[ID], NULL))
		make_event_id(record);
	record->event_type = copy_either(&known[CE_TYPE], &known[EVENT_TYPE], SIZE_MAX);
	record->correlation_id =
		copy_either(&known[CORRELATION_ID], &known[CE_CORRELATION_ID], OUTBOX_CORRELATION_MAX);
	identify_trace(record, known);
	identify_replay(record, known);
}

void
outbox_record_clear(OutboxRecord *record)
{
	free(record->event_type);
	free(record->correlation_id);
	free(record->traceparent);
	free(record->tracestate);
	free(record->replay_id);
	free(record->header_memory);
	free(record->refusal);
	free(record->event_headers);
	free(record->event_value);
	record->event_type = record->correlation_id = record->traceparent = NULL;
	record->tracestate = record->replay_id = NULL;
	record->refusal = NULL;
	record->header_memory = record->event_headers = record->event_value = NULL;
}

const char *
outbox_record_key_text(const OutboxRecord *record, char *buffer, size_t size)
{
	size_t used = 0;
	bool   printable = true;

	if (record->key == NULL)
	{
		snprintf(buffer, size, "(none)");
		return buffer;
	}
	for (size_t i = 0; i < record->key_len; i++)
		printable = printable && record->key[i] > ' ' && record->key[i] <= '~';
	if (printable)
	{
		snprintf(buffer, size, "%.*s", (int) record->key_len, (const char *) record->key);
		return buffer;
	}
	used = (size_t) snprintf(buffer, size, "0x");
	for (size_t i = 0; i < record->key_len && used + 3 <= size; i++)
		used += (size_t) snprintf(buffer + used, size - used, "%02x", record->key[i]);
	return buffer;
}
