/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_headers.c
 *	  Record headers in Kafka's own encoding.
 *
 * Compiled into server, sender and services.  Never allocates; every length
 * read is checked against the end of the data.
 */
#include "kafka_headers.h"

#include <string.h>

/* Zigzag varint at reader->pos; sets bad when it is cut off or too long. */
static int64_t
read_varint(OutboxHeaderReader *reader)
{
	uint64_t raw = 0;
	int		 shift;

	for (shift = 0; shift < OUTBOX_VARINT_MAX * 7; shift += 7)
	{
		uint8_t byte;

		if (reader->pos >= reader->end)
			break;
		byte = *reader->pos++;
		if (shift == 63 && byte > 1)
			break;
		raw |= (uint64_t) (byte & 0x7f) << shift;
		if ((byte & 0x80) == 0)
			return (int64_t) (raw >> 1) ^ -(int64_t) (raw & 1);
	}
	reader->bad = true;
	return 0;
}

/* Starts reading; no data at all (len 0) means no headers. */
void
outbox_headers_read(OutboxHeaderReader *reader, const uint8_t *data, size_t len)
{
	reader->pos = data;
	reader->end = len == 0 ? data : data + len;
	reader->left = 0;
	reader->bad = false;
	if (len == 0)
		return;
	reader->left = read_varint(reader);
	if (reader->left < 0 || (reader->left == 0 && reader->pos != reader->end))
		reader->bad = true;
}

/*
 * The next header; its name and value point into the data.  False at the end
 * or when the bytes are no headers (reader->bad).
 */
bool
outbox_headers_next(OutboxHeaderReader *reader, OutboxHeader *header)
{
	int64_t len;

	if (reader->bad || reader->left == 0)
		return false;
	len = read_varint(reader);
	if (reader->bad || len < 0 || len > reader->end - reader->pos)
	{
		reader->bad = true;
		return false;
	}
	header->name = (const char *) reader->pos;
	header->name_len = (size_t) len;
	reader->pos += len;
	len = read_varint(reader);
	if (reader->bad || len < -1 || len > reader->end - reader->pos)
	{
		reader->bad = true;
		return false;
	}
	header->value = len < 0 ? NULL : reader->pos;
	header->value_len = len < 0 ? 0 : (size_t) len;
	reader->pos += header->value_len;
	if (--reader->left == 0 && reader->pos != reader->end)
	{
		reader->bad = true;
		return false;
	}
	return true;
}

static uint64_t
zigzag(int64_t value)
{
	return ((uint64_t) value << 1) ^ (uint64_t) (value >> 63);
}

static char
ascii_lower(char letter)
{
	return letter >= 'A' && letter <= 'Z' ? (char) (letter | 0x20) : letter;
}

bool
outbox_header_begins(const OutboxHeader *header, const char *prefix)
{
	size_t len = strlen(prefix);
	size_t same = 0;

	while (same < len && same < header->name_len &&
		   ascii_lower(header->name[same]) == ascii_lower(prefix[same]))
		same++;
	return same == len;
}

bool
outbox_header_is(const OutboxHeader *header, const char *name)
{
	return header->name_len == strlen(name) && outbox_header_begins(header, name);
}

size_t
outbox_varint_size(int64_t value)
{
	uint64_t raw = zigzag(value);
	size_t	 size = 1;

	while (raw >= 0x80)
	{
		raw >>= 7;
		size++;
	}
	return size;
}

/* Returns the place after the varint. */
uint8_t *
outbox_varint_put(uint8_t *dst, int64_t value)
{
	uint64_t raw = zigzag(value);

	while (raw >= 0x80)
	{
		*dst++ = (uint8_t) (raw | 0x80);
		raw >>= 7;
	}
	*dst++ = (uint8_t) raw;
	return dst;
}

size_t
outbox_header_size(const OutboxHeader *header)
{
	size_t size = outbox_varint_size((int64_t) header->name_len) + header->name_len;

	if (header->value == NULL)
		return size + outbox_varint_size(-1);
	return size + outbox_varint_size((int64_t) header->value_len) + header->value_len;
}

/* Returns the place after the header. */
uint8_t *
outbox_header_put(uint8_t *dst, const OutboxHeader *header)
{
	dst = outbox_varint_put(dst, (int64_t) header->name_len);
	if (header->name_len > 0)
		memcpy(dst, header->name, header->name_len);
	dst += header->name_len;
	if (header->value == NULL)
		return outbox_varint_put(dst, -1);
	dst = outbox_varint_put(dst, (int64_t) header->value_len);
	if (header->value_len > 0)
		memcpy(dst, header->value, header->value_len);
	return dst + header->value_len;
}
