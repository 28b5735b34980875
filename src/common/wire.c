/* SPDX-License-Identifier: PostgreSQL
 *
 * wire.c
 *	  Writing and reading the frames of wire.h.
 *
 * Compiled into the relay (background worker) and the sender (its child).
 * Return codes only; memory comes from the buffer's grow function.
 */
#include "wire.h"

#include <string.h>

/*
 * Writing
 */

/* Makes room for `more` bytes after buf->len. */
static bool
reserve_space(OutboxWireBuffer *buf, size_t more)
{
	size_t needed = buf->len + more;
	size_t capacity = buf->capacity;
	void  *data;

	if (needed < more)
		return false;
	if (needed <= capacity)
		return true;
	if (capacity < 1024)
		capacity = 1024;
	while (capacity < needed)
		capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
	data = buf->grow(buf->data, capacity);
	if (data == NULL)
		return false;
	buf->data = data;
	buf->capacity = capacity;
	return true;
}

static uint8_t *
put_u16(uint8_t *dst, uint16_t value)
{
	dst[0] = (uint8_t) (value >> 8);
	dst[1] = (uint8_t) value;
	return dst + 2;
}

static uint8_t *
put_u32(uint8_t *dst, uint32_t value)
{
	value = __builtin_bswap32(value);
	memcpy(dst, &value, 4);
	return dst + 4;
}

static uint8_t *
put_u64(uint8_t *dst, uint64_t value)
{
	value = __builtin_bswap64(value);
	memcpy(dst, &value, 8);
	return dst + 8;
}

static uint8_t *
put_bytes(uint8_t *dst, const void *src, size_t len)
{
	if (len > 0)
		memcpy(dst, src, len);
	return dst + len;
}

/* Starts a frame; *mark is to be given to outbox_wire_finish. */
bool
outbox_wire_begin(OutboxWireBuffer *buf, OutboxFrameType type, size_t *mark)
{
	*mark = buf->len;
	if (!reserve_space(buf, OUTBOX_WIRE_HEADER_SIZE))
		return false;
	put_u32(buf->data + buf->len, 0);
	buf->data[buf->len + 4] = (uint8_t) type;
	buf->len += OUTBOX_WIRE_HEADER_SIZE;
	return true;
}

/* Writes the length of the frame begun at mark. */
void
outbox_wire_finish(OutboxWireBuffer *buf, size_t mark)
{
	put_u32(buf->data + mark, (uint32_t) (buf->len - mark - 4));
}

bool
outbox_wire_put_u8(OutboxWireBuffer *buf, uint8_t value)
{
	if (!reserve_space(buf, 1))
		return false;
	buf->data[buf->len++] = value;
	return true;
}

bool
outbox_wire_put_u16(OutboxWireBuffer *buf, uint16_t value)
{
	if (!reserve_space(buf, 2))
		return false;
	put_u16(buf->data + buf->len, value);
	buf->len += 2;
	return true;
}

bool
outbox_wire_put_u32(OutboxWireBuffer *buf, uint32_t value)
{
	if (!reserve_space(buf, 4))
		return false;
	put_u32(buf->data + buf->len, value);
	buf->len += 4;
	return true;
}

bool
outbox_wire_put_u64(OutboxWireBuffer *buf, uint64_t value)
{
	if (!reserve_space(buf, 8))
		return false;
	put_u64(buf->data + buf->len, value);
	buf->len += 8;
	return true;
}

bool
outbox_wire_put_string(OutboxWireBuffer *buf, const char *data, size_t len)
{
	if (data == NULL)
		return outbox_wire_put_u32(buf, OUTBOX_WIRE_NULL);
	if (len >= OUTBOX_WIRE_MAX_FRAME || !reserve_space(buf, 4 + len))
		return false;
	put_bytes(put_u32(buf->data + buf->len, (uint32_t) len), data, len);
	buf->len += 4 + len;
	return true;
}

/* Bytes that another buffer holds, as they are. */
bool
outbox_wire_put_bytes(OutboxWireBuffer *buf, const uint8_t *data, size_t len)
{
	if (len >= OUTBOX_WIRE_MAX_FRAME || !reserve_space(buf, len))
		return false;
	put_bytes(buf->data + buf->len, data, len);
	buf->len += len;
	return true;
}

bool
outbox_wire_put_cstring(OutboxWireBuffer *buf, const char *text)
{
	return outbox_wire_put_string(buf, text, text == NULL ? 0 : strlen(text));
}

bool
outbox_wire_event_fits(uint64_t bytes)
{
	return bytes <= OUTBOX_WIRE_MAX_FRAME - 1 - OUTBOX_WIRE_EVENT_FIXED;
}

/*
 * Appends one whole EVENT frame.  False also when the event would not fit into
 * OUTBOX_WIRE_MAX_FRAME; the buffer is then as it was.
 */
bool
outbox_wire_put_event(OutboxWireBuffer *buf, const OutboxWireEvent *event)
{
	uint32_t key_len = event->key == NULL ? 0 : event->key_len;
	uint32_t payload_len = event->payload == NULL ? 0 : event->payload_len;
	uint64_t bytes = (uint64_t) event->topic_len + event->type_len + event->content_type_len +
		key_len + payload_len + event->headers_len;
	uint64_t body = OUTBOX_WIRE_EVENT_FIXED + bytes;
	uint8_t *dst;

	if (!outbox_wire_event_fits(bytes) ||
		!reserve_space(buf, OUTBOX_WIRE_HEADER_SIZE + (size_t) body))
		return false;
	dst = put_u32(buf->data + buf->len, (uint32_t) body + 1);
	*dst++ = OUTBOX_FRAME_EVENT;
	dst = put_bytes(dst, event->id, 16);
	dst = put_u64(dst, (uint64_t) event->created_at);
	dst = put_u16(dst, event->topic_len);
	dst = put_u16(dst, event->type_len);
	dst = put_u16(dst, event->content_type_len);
	dst = put_u16(dst, event->flaw);
	dst = put_u32(dst, event->key == NULL ? OUTBOX_WIRE_NULL : key_len);
	dst = put_u32(dst, event->payload == NULL ? OUTBOX_WIRE_NULL : payload_len);
	dst = put_u32(dst, event->headers_len);
	dst = put_bytes(dst, event->topic, event->topic_len);
	dst = put_bytes(dst, event->type, event->type_len);
	dst = put_bytes(dst, event->content_type, event->content_type_len);
	dst = put_bytes(dst, event->key, key_len);
	dst = put_bytes(dst, event->payload, payload_len);
	dst = put_bytes(dst, event->headers, event->headers_len);
	buf->len = (size_t) (dst - buf->data);
	return true;
}

/*
 * Reading
 */

/* The next `len` bytes of the body, or NULL and reader->bad. */
static const uint8_t *
take_bytes(OutboxWireReader *reader, size_t len)
{
	const uint8_t *bytes = reader->pos;

	if (reader->bad || (size_t) (reader->end - reader->pos) < len)
	{
		reader->bad = true;
		return NULL;
	}
	reader->pos += len;
	return bytes;
}

static uint16_t
load_u16(const uint8_t *src)
{
	return (uint16_t) ((src[0] << 8) | src[1]);
}

static uint32_t
load_u32(const uint8_t *src)
{
	uint32_t value;

	memcpy(&value, src, 4);
	return __builtin_bswap32(value);
}

static uint64_t
load_u64(const uint8_t *src)
{
	uint64_t value;

	memcpy(&value, src, 8);
	return __builtin_bswap64(value);
}

/*
 * Looks at the first frame in data.  True: it is there as a whole, *type, *body
 * and *frame_size (bytes to step over) are set.  False: more bytes are needed
 * (*frame_size says how many in all, 0 if that is not known yet), or *corrupt.
 */
bool
outbox_wire_frame(const uint8_t *data, size_t len, OutboxFrameType *type, OutboxWireReader *body,
				  size_t *frame_size, bool *corrupt)
{
	uint32_t frame_len;

	*corrupt = false;
	*frame_size = 0;
	if (len < OUTBOX_WIRE_HEADER_SIZE)
		return false;
	frame_len = load_u32(data);
	if (frame_len < 1 || frame_len > OUTBOX_WIRE_MAX_FRAME)
	{
		*corrupt = true;
		return false;
	}
	*frame_size = (size_t) frame_len + 4;
	if (len < *frame_size)
		return false;
	*type = (OutboxFrameType) data[4];
	body->pos = data + OUTBOX_WIRE_HEADER_SIZE;
	body->end = data + *frame_size;
	body->bad = false;
	return true;
}

uint8_t
outbox_wire_get_u8(OutboxWireReader *reader)
{
	const uint8_t *src = take_bytes(reader, 1);

	return src == NULL ? 0 : *src;
}

uint16_t
outbox_wire_get_u16(OutboxWireReader *reader)
{
	const uint8_t *src = take_bytes(reader, 2);

	return src == NULL ? 0 : load_u16(src);
}

uint32_t
outbox_wire_get_u32(OutboxWireReader *reader)
{
	const uint8_t *src = take_bytes(reader, 4);

	return src == NULL ? 0 : load_u32(src);
}

uint64_t
outbox_wire_get_u64(OutboxWireReader *reader)
{
	const uint8_t *src = take_bytes(reader, 8);

	return src == NULL ? 0 : load_u64(src);
}

bool
outbox_wire_get_string(OutboxWireReader *reader, const char **data, uint32_t *len)
{
	uint32_t string_len = outbox_wire_get_u32(reader);

	*data = NULL;
	*len = 0;
	if (reader->bad || string_len == OUTBOX_WIRE_NULL)
		return !reader->bad;
	*data = (const char *) take_bytes(reader, string_len);
	if (*data == NULL)
		return false;
	*len = string_len;
	return true;
}

/* Reads the body of an EVENT frame; the pointers point into the frame. */
bool
outbox_wire_get_event(OutboxWireReader *reader, OutboxWireEvent *event)
{
	const uint8_t *fixed = take_bytes(reader, OUTBOX_WIRE_EVENT_FIXED);
	uint32_t	   key_len;
	uint32_t	   payload_len;

	if (fixed == NULL)
		return false;
	event->id = fixed;
	event->created_at = (int64_t) load_u64(fixed + 16);
	event->topic_len = load_u16(fixed + 24);
	event->type_len = load_u16(fixed + 26);
	event->content_type_len = load_u16(fixed + 28);
	event->flaw = load_u16(fixed + 30);
	key_len = load_u32(fixed + 32);
	payload_len = load_u32(fixed + 36);
	event->headers_len = load_u32(fixed + 40);
	event->key_len = key_len == OUTBOX_WIRE_NULL ? 0 : key_len;
	event->payload_len = payload_len == OUTBOX_WIRE_NULL ? 0 : payload_len;
	event->topic = (const char *) take_bytes(reader, event->topic_len);
	event->type = (const char *) take_bytes(reader, event->type_len);
	event->content_type = (const char *) take_bytes(reader, event->content_type_len);
	event->key = take_bytes(reader, event->key_len);
	event->payload = take_bytes(reader, event->payload_len);
	event->headers = take_bytes(reader, event->headers_len);
	if (key_len == OUTBOX_WIRE_NULL)
		event->key = NULL;
	if (payload_len == OUTBOX_WIRE_NULL)
		event->payload = NULL;
	if (reader->pos != reader->end)
		reader->bad = true;
	return !reader->bad;
}
