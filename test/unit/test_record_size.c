/* SPDX-License-Identifier: PostgreSQL
 *
 * test_record_size.c
 *	  How large a record is in Kafka, and how small compression can make it.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "src/common/kafka_headers.h"
#include "src/common/record_size.h"

/* The fewest bytes of data behind before, as compressed. */
static size_t
least(const char *before, const uint8_t *data, size_t len, size_t enough)
{
	static uint8_t	seen[1 << 17];
	OutboxSequences sequences = {.seen = seen, .bits = 8 * sizeof(seen)};

	memset(seen, 0, sizeof(seen));
	outbox_sequences_note(&sequences, (const uint8_t *) before, strlen(before));
	return outbox_sequences_least(&sequences, data, len, enough);
}

static void
test_sizes(void)
{
	OutboxRecordParts parts = {.key_len = -1, .payload_len = -1, .source_len = -1};
	OutboxHeader	  header = {.name = "h",
								.name_len = 1,
								.value = (const uint8_t *) "xy",
								.value_len = 2};
	uint8_t			  headers[16];
	uint8_t			 *end = outbox_header_put(outbox_varint_put(headers, 1), &header);

	CHECK(outbox_record_batch_size(&parts) == 61 + 1 + 3 + 1 + 1 + 1,
		  "no key, no value, no headers: 68 bytes");
	parts.key_len = 1;
	parts.payload_len = 100;
	CHECK(outbox_record_batch_size(&parts) == 61 + 2 + 3 + 2 + 102 + 1, "key of 1, value of 100");
	parts.headers = headers;
	parts.headers_len = (size_t) (end - headers);
	CHECK(outbox_record_batch_size(&parts) == 61 + 2 + 3 + 2 + 102 + 1 + 5,
		  "a header of its own: name, value, their lengths");
	parts.source_len = 10;
	parts.type_len = 4;
	CHECK(outbox_record_batch_size(&parts) ==
			  171 + 5 + (14 + 3 + 2) + (5 + 36 + 2) + (9 + 10 + 2) + (7 + 4 + 2) + (7 + 27 + 2),
		  "the envelope's headers");
	parts.content_type_len = 16;
	CHECK(outbox_record_batch_size(&parts) == 308 + 12 + 16 + 2, "and the content type");
}

static void
test_compression(void)
{
	uint8_t data[8192];
	size_t	i;
	size_t	found;

	memset(data, 'x', sizeof(data));
	CHECK(least("", data, sizeof(data), SIZE_MAX) <= 8, "one letter all over is nearly nothing");
	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t) random();
	found = least("", data, sizeof(data), SIZE_MAX);
	CHECK(found > sizeof(data) * 3 / 4 && found <= sizeof(data), "random bytes remain");
	memcpy(data + 4096, data, 4096);
	CHECK(least("", data, sizeof(data), SIZE_MAX) <= 4096 + 8, "what is there twice counts once");
	CHECK(least("abcdefgh", (const uint8_t *) "abcdefgh", 8, SIZE_MAX) == 0,
		  "and so does what was noted before");
	CHECK(least("", (const uint8_t *) "abc", 3, SIZE_MAX) == 3, "three bytes are no repetition");
	CHECK(least("", data, sizeof(data), 100) == 100, "it stops at enough");
	CHECK(least("", data, 0, 100) == 0, "nothing is nothing");
}

int
main(void)
{
	test_sizes();
	test_compression();
	return finish_tests();
}
