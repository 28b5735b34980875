/* SPDX-License-Identifier: PostgreSQL
 *
 * record.c
 *	  Who a record is: event id, type, correlation id, trace and replay from its
 *	  headers.
 *
 * Runs in the services, member threads.  The event id never depends on when or
 * by whom a record is read: without an id in the headers it is made from topic,
 * partition and offset.
 */
#include "record.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/kafka_headers.h"

#define TIMESTAMP_MAX_MS	INT64_C(253402300799999)	/* the end of year 9999 */

bool
outbox_uuid_valid(const char *text)
{
	for (int i = 0; i < OUTBOX_UUID_TEXT - 1; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[OUTBOX_UUID_TEXT - 1] == '\0';
}

/* The first header of the name that has a value; false: there is none. */
static bool
find_header(const OutboxRecord *record, const char *name, OutboxHeader *header)
{
	OutboxHeaderReader reader;
	size_t		name_len = strlen(name);

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

char *
outbox_record_header(const OutboxRecord *record, const char *name)
{
	OutboxHeader header;
	char	   *text;

	if (!find_header(record, name, &header))
		return NULL;
	text = malloc(header.value_len + 1);
	if (text == NULL)
		return NULL;
	memcpy(text, header.value, header.value_len);
	text[header.value_len] = '\0';
	for (size_t i = 0; i < header.value_len; i++)
	{
		if ((unsigned char) text[i] < ' ' || (unsigned char) text[i] > '~')
			text[i] = '?';
	}
	return text;
}

bool
outbox_record_is_for(const OutboxRecord *record, const char *consumer)
{
	OutboxHeader group;

	if (!find_header(record, OUTBOX_REPLAY_ID_HEADER, &group) ||
		!find_header(record, OUTBOX_REPLAY_GROUP_HEADER, &group))
		return true;
	return group.value_len == strlen(consumer) && memcmp(group.value, consumer, group.value_len) == 0;
}

/* A version 8 UUID of topic, partition and offset: the hash of the topic and the position itself. */
static void
make_event_id(OutboxRecord *record)
{
	uint64_t	high = outbox_hash_bytes(record->topic, strlen(record->topic));
	uint64_t	low = (uint64_t) record->offset;

	high ^= (uint64_t) (uint32_t) record->partition << 16;
	snprintf(record->event_id, sizeof(record->event_id), "%08x-%04x-8%03x-%04x-%012llx",
			 (unsigned) (high >> 32), (unsigned) (high >> 16 & 0xffff), (unsigned) (high & 0xfff),
			 0x8000u | (unsigned) (low >> 48 & 0x3fff),
			 (unsigned long long) (low & UINT64_C(0xffffffffffff)));
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
			record->claim_id[i] = "0123456789abcdef"[read_hex(record->event_id[i]) ^
													 read_hex(record->replay_id[i])];
	}
}

static void
identify_replay(OutboxRecord *record)
{
	char	   *mode;

	memcpy(record->claim_id, record->event_id, OUTBOX_UUID_TEXT);
	record->replay_id = outbox_record_header(record, OUTBOX_REPLAY_ID_HEADER);
	if (record->replay_id == NULL)
		return;
	mode = outbox_record_header(record, OUTBOX_REPLAY_MODE_HEADER);
	record->reprocess = mode != NULL && strcmp(mode, OUTBOX_REPLAY_REPROCESS) == 0 &&
		outbox_uuid_valid(record->replay_id);
	free(mode);
	if (record->reprocess)
		make_claim_id(record);
}

/* A traceparent that is none is no fault of the event: it is as if there were none. */
static void
identify_trace(OutboxRecord *record)
{
	OutboxTraceContext context;

	record->trace_id[0] = '\0';
	record->tracestate = NULL;
	record->traceparent = outbox_record_header(record, "traceparent");
	if (record->traceparent == NULL || !outbox_trace_parse(record->traceparent, &context))
	{
		free(record->traceparent);
		record->traceparent = NULL;
		return;
	}
	memcpy(record->trace_id, context.trace_id, OUTBOX_TRACE_ID_TEXT);
	record->tracestate = outbox_record_header(record, "tracestate");
	if (record->tracestate != NULL && strlen(record->tracestate) > OUTBOX_TRACESTATE_MAX)
	{
		free(record->tracestate);
		record->tracestate = NULL;
	}
}

void
outbox_record_identify(OutboxRecord *record)
{
	static const char *const id_headers[] = {"ce_id", "id"};
	char	   *text;

	if (record->timestamp_ms > TIMESTAMP_MAX_MS)
		record->timestamp_ms = -1;	/* a producer may write anything; a timestamptz cannot hold it */
	record->event_id[0] = '\0';
	for (size_t i = 0; i < 2 && record->event_id[0] == '\0'; i++)
	{
		text = outbox_record_header(record, id_headers[i]);
		if (text != NULL && outbox_uuid_valid(text))
			memcpy(record->event_id, text, OUTBOX_UUID_TEXT);
		free(text);
	}
	if (record->event_id[0] == '\0')
		make_event_id(record);
	record->event_type = outbox_record_header(record, "ce_type");
	if (record->event_type == NULL)
		record->event_type = outbox_record_header(record, "eventType");
	record->correlation_id = outbox_record_header(record, "correlationid");
	if (record->correlation_id == NULL)
		record->correlation_id = outbox_record_header(record, "ce_correlationid");
	if (record->correlation_id != NULL && strlen(record->correlation_id) > OUTBOX_CORRELATION_MAX)
		record->correlation_id[OUTBOX_CORRELATION_MAX] = '\0';
	identify_trace(record);
	identify_replay(record);
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
	record->event_type = record->correlation_id = record->traceparent = NULL;
	record->tracestate = record->replay_id = NULL;
	record->header_memory = NULL;
}

const char *
outbox_record_key_text(const OutboxRecord *record, char *buffer, size_t size)
{
	size_t		used = 0;
	bool		printable = true;

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
