/* SPDX-License-Identifier: PostgreSQL
 *
 * test_headers.c
 *	  Record headers in Kafka's encoding: order, repeats, bytes, NULL; garbage is
 *	  noticed and never read past its end.
 */
#include <limits.h>
#include <string.h>

#include "unit.h"
#include "src/common/kafka_headers.h"

static void
test_varints(void)
{
	static const int64_t values[] = {0,	  -1,	1,	  63,		 64,		-64,
									 -65, 8191, 8192, INT32_MAX, INT64_MAX, INT64_MIN};
	uint8_t				 bytes[OUTBOX_VARINT_MAX];
	bool				 ok = true;
	size_t				 i;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		ok &=
			(size_t) (outbox_varint_put(bytes, values[i]) - bytes) == outbox_varint_size(values[i]);
	CHECK(ok, "a varint has the size foretold");
	outbox_varint_put(bytes, -1);
	CHECK(bytes[0] == 1, "-1 is one byte, 01");
	outbox_varint_put(bytes, 300);
	CHECK(bytes[0] == 0xd8 && bytes[1] == 0x04, "300 is d8 04");
}

static size_t
write_sample(uint8_t *bytes)
{
	static const OutboxHeader sample[] = {
		{"a", 1, (const uint8_t *) "\0\xff", 2},
		{"a", 1, NULL, 0},
		{"long", 4, (const uint8_t *) "", 0},
	};
	uint8_t *pos = outbox_varint_put(bytes, 3);
	size_t	 size = outbox_varint_size(3);
	int		 i;

	for (i = 0; i < 3; i++)
	{
		pos = outbox_header_put(pos, &sample[i]);
		size += outbox_header_size(&sample[i]);
	}
	CHECK((size_t) (pos - bytes) == size, "headers have the size foretold");
	return size;
}

static void
test_round_trip(void)
{
	uint8_t			   bytes[64];
	size_t			   size = write_sample(bytes);
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	outbox_headers_read(&reader, bytes, size);
	CHECK(outbox_headers_next(&reader, &header) && header.name_len == 1 && header.value_len == 2 &&
			  memcmp(header.value, "\0\xff", 2) == 0,
		  "binary value");
	CHECK(outbox_headers_next(&reader, &header) && header.name[0] == 'a' && header.value == NULL,
		  "a repeated name with a NULL value");
	CHECK(outbox_headers_next(&reader, &header) && header.value != NULL && header.value_len == 0,
		  "an empty value is not NULL");
	CHECK(!outbox_headers_next(&reader, &header) && !reader.bad, "the end is the end");
	outbox_headers_read(&reader, NULL, 0);
	CHECK(!outbox_headers_next(&reader, &header) && !reader.bad, "no bytes, no headers");
}

static bool
is_bad(const uint8_t *bytes, size_t size)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	outbox_headers_read(&reader, bytes, size);
	while (outbox_headers_next(&reader, &header))
		;
	return reader.bad;
}

static void
test_garbage(void)
{
	uint8_t bytes[65];
	size_t	size = write_sample(bytes);
	size_t	cut;
	bool	all_bad = true;

	for (cut = 1; cut < size; cut++)
		all_bad &= is_bad(bytes, cut);
	CHECK(all_bad, "headers cut anywhere are bad");
	bytes[size] = 0;
	CHECK(is_bad(bytes, size + 1), "headers with a tail are bad");
	CHECK(is_bad((const uint8_t *) "\x01", 1), "a negative count is bad");
	CHECK(is_bad((const uint8_t *) "\x02\x03", 2), "a negative name length is bad");
	CHECK(is_bad((const uint8_t *) "\x02\x02"
								   "a\x03",
				 4),
		  "a value length of -2 is bad");
	CHECK(is_bad((const uint8_t *) "\x02\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),
		  "a name length of 2^63-1 is bad");
	CHECK(is_bad((const uint8_t *) "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11),
		  "a varint that does not end is bad");
}

static bool
is_named(const char *given, const char *name)
{
	OutboxHeader header = {.name = given, .name_len = strlen(given)};

	return outbox_header_is(&header, name);
}

static bool
begins_with(const char *given, const char *prefix)
{
	OutboxHeader header = {.name = given, .name_len = strlen(given)};

	return outbox_header_begins(&header, prefix);
}

static void
test_names(void)
{
	CHECK(is_named("Content-TYPE", "content-type") && is_named("ce_id", "ce_id") &&
			  is_named("", ""),
		  "names have no case");
	CHECK(!is_named("content-typ", "content-type") && !is_named("content-types", "content-type"),
		  "nor another length");
	CHECK(!is_named("[", "{") && !is_named("@", "`") && !is_named("ce\x7fid", "ce_id"),
		  "letters alone have a case");
	CHECK(!is_named("correlat\xDD"
					"onid",
					"correlationid") &&
			  !is_named("\xC4", "\xE4"),
		  "those of ASCII: I with a dot of ISO 8859-9 is no i");
	CHECK(begins_with("DLT-original-topic", "dlt-") && begins_with("dlt-", "dlt-") &&
			  !begins_with("dlt", "dlt-") && !begins_with("kafka_dlt-x", "dlt-"),
		  "beginnings");
}

int
main(void)
{
	test_varints();
	test_round_trip();
	test_garbage();
	test_names();
	return finish_tests();
}
