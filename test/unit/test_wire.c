/* SPDX-License-Identifier: PostgreSQL
 *
 * test_wire.c
 *	  Frames survive writing and reading; cut and corrupt ones are noticed.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "src/common/wire.h"

static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255};

static void *
refuse_growth(void *data, size_t capacity)
{
	(void) data;
	(void) capacity;
	return NULL;
}

static OutboxWireEvent
sample_event(void)
{
	return (OutboxWireEvent) {
		.id = id,
		.created_at = -5,
		.topic = "orders",
		.topic_len = 6,
		.type = "Placed",
		.type_len = 6,
		.content_type = "",
		.content_type_len = 0,
		.key = (const uint8_t *) "\xff\0k",
		.key_len = 3,
		.payload = (const uint8_t *) "",
		.payload_len = 0,
		.headers = (const uint8_t *) "\0",
		.headers_len = 1,
	};
}

static bool
read_back(OutboxWireBuffer *buf, OutboxWireEvent *event, OutboxWireReader *body)
{
	OutboxFrameType type;
	size_t			size;
	bool			corrupt;

	return outbox_wire_frame(buf->data, buf->len, &type, body, &size, &corrupt) &&
		type == OUTBOX_FRAME_EVENT && size == buf->len && outbox_wire_get_event(body, event);
}

static void
test_event(void)
{
	OutboxWireBuffer buf = {.grow = realloc};
	OutboxWireEvent	 event = sample_event();
	OutboxWireEvent	 got;
	OutboxWireReader body;

	CHECK(outbox_wire_put_event(&buf, &event), "an event is written");
	CHECK(buf.len == OUTBOX_WIRE_HEADER_SIZE + OUTBOX_WIRE_EVENT_FIXED + 6 + 6 + 3 + 1,
		  "its size is that of its parts");
	CHECK(read_back(&buf, &got, &body), "it is read back");
	CHECK(memcmp(got.id, id, 16) == 0 && got.created_at == -5, "id and time are the same");
	CHECK(got.topic_len == 6 && memcmp(got.topic, "orders", 6) == 0, "topic is the same");
	CHECK(got.key_len == 3 && memcmp(got.key, "\xff\0k", 3) == 0, "binary key is the same");
	CHECK(got.payload != NULL && got.payload_len == 0, "an empty payload is not NULL");
	CHECK(got.headers_len == 1 && got.headers[0] == 0, "headers are the same");
	event.payload = NULL;
	event.key = NULL;
	buf.len = 0;
	CHECK(outbox_wire_put_event(&buf, &event) && read_back(&buf, &got, &body) &&
			  got.payload == NULL && got.key == NULL,
		  "NULL payload and key stay NULL");
	CHECK(got.flaw == OUTBOX_EVENT_SOUND, "an event is sound");
	event.flaw = OUTBOX_EVENT_NO_TIME;
	buf.len = 0;
	CHECK(outbox_wire_put_event(&buf, &event) && read_back(&buf, &got, &body) &&
			  got.flaw == OUTBOX_EVENT_NO_TIME,
		  "unless its frame says what is wrong");
	free(buf.data);
}

static void
test_cut_event(void)
{
	OutboxWireBuffer buf = {.grow = realloc};
	OutboxWireEvent	 event = sample_event();
	OutboxWireEvent	 got;
	OutboxWireReader body;
	size_t			 len;
	int				 accepted = 0;
	bool			 corrupt = false;

	outbox_wire_put_event(&buf, &event);
	for (len = 0; len < buf.len; len++)
	{
		OutboxFrameType type;
		size_t			size;

		accepted += outbox_wire_frame(buf.data, len, &type, &body, &size, &corrupt);
	}
	CHECK(accepted == 0 && !corrupt, "a frame cut anywhere asks for more bytes");
	for (len = 0; len < buf.len - OUTBOX_WIRE_HEADER_SIZE; len++)
	{
		body = (OutboxWireReader) {.pos = buf.data + 5, .end = buf.data + 5 + len};
		accepted += outbox_wire_get_event(&body, &got);
	}
	CHECK(accepted == 0, "an event body cut anywhere is bad");
	body = (OutboxWireReader) {.pos = buf.data + 5, .end = buf.data + buf.len + 1};
	CHECK(!outbox_wire_get_event(&body, &got), "an event body with a tail is bad");
	free(buf.data);
}

static void
test_lengths(void)
{
	static const uint8_t zero[] = {0, 0, 0, 0, 'L'};
	static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'L'};
	OutboxFrameType		 type;
	OutboxWireReader	 body;
	size_t				 size;
	bool				 corrupt;

	CHECK(!outbox_wire_frame(zero, 5, &type, &body, &size, &corrupt) && corrupt,
		  "length 0 is corrupt");
	CHECK(!outbox_wire_frame(huge, 5, &type, &body, &size, &corrupt) && corrupt,
		  "a length above the limit is corrupt");
}

static void
test_strings(void)
{
	OutboxWireBuffer buf = {.grow = realloc};
	OutboxFrameType	 type;
	OutboxWireReader body;
	const char		*text;
	uint32_t		 len;
	size_t			 mark;
	size_t			 size;
	bool			 corrupt;

	outbox_wire_begin(&buf, OUTBOX_FRAME_BATCH, &mark);
	outbox_wire_put_u64(&buf, UINT64_MAX);
	outbox_wire_put_cstring(&buf, "n\xc3\xa9");
	outbox_wire_put_cstring(&buf, NULL);
	outbox_wire_put_cstring(&buf, "");
	outbox_wire_put_u16(&buf, 65535);
	outbox_wire_put_u8(&buf, 7);
	outbox_wire_put_bytes(&buf, (const uint8_t *) "\0\0\0\1x", 5);
	outbox_wire_put_bytes(&buf, NULL, 0);
	outbox_wire_finish(&buf, mark);
	CHECK(outbox_wire_frame(buf.data, buf.len, &type, &body, &size, &corrupt) &&
			  type == OUTBOX_FRAME_BATCH && size == buf.len,
		  "a frame is framed");
	CHECK(outbox_wire_get_u64(&body) == UINT64_MAX, "u64");
	CHECK(outbox_wire_get_string(&body, &text, &len) && len == 3 &&
			  memcmp(text, "n\xc3\xa9", 3) == 0,
		  "string");
	CHECK(outbox_wire_get_string(&body, &text, &len) && text == NULL, "NULL string");
	CHECK(outbox_wire_get_string(&body, &text, &len) && text != NULL && len == 0, "empty string");
	CHECK(outbox_wire_get_u16(&body) == 65535 && outbox_wire_get_u8(&body) == 7, "u16 and u8");
	CHECK(outbox_wire_get_string(&body, &text, &len) && len == 1 && text[0] == 'x',
		  "bytes as they are");
	CHECK(!body.bad, "all was there");
	CHECK(outbox_wire_get_u32(&body) == 0 && body.bad, "reading past the end is bad");
	free(buf.data);
}

static void
test_no_memory(void)
{
	OutboxWireBuffer buf = {.grow = refuse_growth};
	OutboxWireEvent	 event = sample_event();
	size_t			 mark;

	CHECK(!outbox_wire_put_event(&buf, &event) && buf.len == 0, "no memory, no event");
	CHECK(!outbox_wire_begin(&buf, OUTBOX_FRAME_END, &mark), "no memory, no frame");
	event.payload_len = OUTBOX_WIRE_MAX_FRAME;
	buf.grow = realloc;
	CHECK(!outbox_wire_put_event(&buf, &event) && buf.len == 0,
		  "an event above the frame limit is refused");
	CHECK(outbox_wire_event_fits(OUTBOX_WIRE_MAX_FRAME - 1 - OUTBOX_WIRE_EVENT_FIXED) &&
			  !outbox_wire_event_fits(OUTBOX_WIRE_MAX_FRAME - OUTBOX_WIRE_EVENT_FIXED) &&
			  !outbox_wire_event_fits(UINT64_MAX),
		  "which can be asked before");
}

int
main(void)
{
	test_event();
	test_cut_event();
	test_lengths();
	test_strings();
	test_no_memory();
	return finish_tests();
}
