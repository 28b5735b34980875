/* SPDX-License-Identifier: PostgreSQL
 *
 * record_size.c
 *	  How large an event is in Kafka, and how small a compressed record can be.
 *
 * Compiled into server and sender.
 */
#include "record_size.h"

#include <stdbool.h>
#include <string.h>

#include "kafka_headers.h"

#define BATCH_HEADER_SIZE 61 /* record batch, magic 2 */
#define CE_FIXED_HEADERS  5	 /* specversion, id, source, type, time */
#define CE_ID_LEN		  36
#define CE_TIME_LEN		  27
#define SEQUENCE_LEN	  4

static size_t
header_size(size_t name_len, size_t value_len)
{
	return outbox_varint_size((int64_t) name_len) + name_len +
		outbox_varint_size((int64_t) value_len) + value_len;
}

/* Key or value: its length, -1 for NULL, and its bytes. */
static size_t
field_size(int64_t len)
{
	return outbox_varint_size(len) + (size_t) (len < 0 ? 0 : len);
}

static size_t
headers_size(const OutboxRecordParts *parts)
{
	OutboxHeaderReader reader = {0};
	int64_t			   count = 0;
	size_t			   size = 0;

	if (parts->headers_len > 0)
	{
		outbox_headers_read(&reader, parts->headers, parts->headers_len);
		count = reader.left;
		size = (size_t) (reader.end - reader.pos);
	}
	if (parts->source_len >= 0)
	{
		count += CE_FIXED_HEADERS;
		size += header_size(strlen("ce_specversion"), strlen("1.0")) +
			header_size(strlen("ce_id"), CE_ID_LEN) +
			header_size(strlen("ce_source"), (size_t) parts->source_len) +
			header_size(strlen("ce_type"), parts->type_len) +
			header_size(strlen("ce_time"), CE_TIME_LEN);
		if (parts->content_type_len > 0)
		{
			count++;
			size += header_size(strlen("content-type"), parts->content_type_len);
		}
	}
	return outbox_varint_size(count) + size;
}

size_t
outbox_record_batch_size(const OutboxRecordParts *parts)
{
	/* attributes, and the deltas of time and offset, which are 0 */
	size_t body =
		3 + field_size(parts->key_len) + field_size(parts->payload_len) + headers_size(parts);

	return BATCH_HEADER_SIZE + outbox_varint_size((int64_t) body) + body;
}

/* Notes the sequence at data; true if it, or one with its hash, was noted before. */
static bool
note_sequence(OutboxSequences *sequences, const uint8_t *data)
{
	uint32_t value;
	size_t	 bit;
	bool	 known;

	memcpy(&value, data, sizeof(value));
	bit = (size_t) ((value * UINT64_C(0x9E3779B97F4A7C15)) >> 24) & (sequences->bits - 1);
	known = (sequences->seen[bit / 8] & (1 << bit % 8)) != 0;
	sequences->seen[bit / 8] |= (uint8_t) (1 << bit % 8);
	return known;
}

void
outbox_sequences_note(OutboxSequences *sequences, const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i + SEQUENCE_LEN <= len; i++)
		(void) note_sequence(sequences, data + i);
}

size_t
outbox_sequences_least(OutboxSequences *sequences, const uint8_t *data, size_t len, size_t enough)
{
	size_t copied_to = 0; /* what lies before may be part of a repetition */
	size_t least = 0;
	size_t i;

	for (i = 0; i < len && least < enough; i++)
	{
		if (i + SEQUENCE_LEN <= len && note_sequence(sequences, data + i))
			copied_to = i + SEQUENCE_LEN;
		if (copied_to <= i)
			least++;
	}
	return least;
}
