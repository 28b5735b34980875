/* SPDX-License-Identifier: PostgreSQL
 *
 * test_event.c
 *	  Which event a record is: ids of any form, and CloudEvents in structured mode.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "services/kafka/record.h"
#include "src/common/kafka_headers.h"

#define UUID	   "0189d3f5-7a7c-7b1e-8a3e-0123456789ab"
#define UUID_UPPER "0189D3F5-7A7C-7B1E-8A3E-0123456789AB"
#define NIL		   "00000000-0000-0000-0000-000000000000"

typedef struct Input
{
	OutboxRecord record;
	uint8_t		 bytes[70000];
} Input;

/* A record of `topic` with this value and headers: name, value by turns, ended by NULL. */
static OutboxRecord *
make_record(Input *input, const char *topic, const char *value, const char *const *headers)
{
	OutboxRecord *record = &input->record;
	uint8_t		 *end;
	int64_t		  count = 0;

	while (headers[2 * count] != NULL)
		count++;
	end = outbox_varint_put(input->bytes, count);
	for (; *headers != NULL; headers += 2)
	{
		OutboxHeader header = {headers[0], strlen(headers[0]), (const uint8_t *) headers[1],
							   headers[1] != NULL ? strlen(headers[1]) : 0};

		end = outbox_header_put(end, &header);
	}
	memset(record, 0, sizeof(*record));
	record->topic = topic;
	record->offset = 7;
	record->value = (const uint8_t *) value;
	record->value_len = value != NULL ? strlen(value) : 0;
	record->headers = input->bytes;
	record->headers_len = (size_t) (end - input->bytes);
	outbox_record_identify(record);
	return record;
}

/* The event's id of a record with these headers. */
static const char *
id_of(const char *topic, const char *const *headers)
{
	static char	 ids[4][OUTBOX_UUID_TEXT];
	static int	 next;
	static Input input;
	char		*id = ids[next++ % 4];

	memcpy(id, make_record(&input, topic, "{}", headers)->event_id, OUTBOX_UUID_TEXT);
	outbox_record_clear(&input.record);
	return id;
}

#define ID(...) id_of("t", (const char *const[]) {__VA_ARGS__, NULL})

static bool
is_version_8(const char *id)
{
	return outbox_uuid_valid(id) && id[14] == '8' && strchr("89ab", id[19]) != NULL;
}

static void
test_spellings(void)
{
	static const char *const spellings[] = {UUID, UUID_UPPER, "urn:uuid:" UUID,
											"URN:UUID:" UUID_UPPER, "{" UUID_UPPER "}"};
	static const char *const others[] = {" " UUID,
										 UUID " ",
										 "{" UUID,
										 "urn:uuid:{" UUID "}",
										 "urn:uuid:",
										 "0189d3f57a7c7b1e8a3e0123456789ab",
										 "0189d3f5-7a7c-7b1e-8a3e-0123456789ag"};
	static const char *const none[] = {"",
									   NIL,
									   "urn:uuid:" NIL,
									   "{" NIL "}",
									   "ffffffff-ffff-ffff-ffff-ffffffffffff",
									   "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"};

	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++)
	{
		CHECK(strcmp(ID("ce_id", spellings[i], "ce_source", "/a"), UUID) == 0, spellings[i]);
		CHECK(strcmp(ID("id", spellings[i]), UUID) == 0, "the same as id");
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(is_version_8(ID("ce_id", others[i], "id", UUID)) &&
				  strcmp(ID("ce_id", others[i]), UUID) != 0,
			  others[i]);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
	{
		CHECK(strcmp(ID("ce_id", none[i], "id", UUID), UUID) == 0, "no id: the header id");
		CHECK(strcmp(ID("ce_id", none[i], "id", none[i]), ID("x", "y")) == 0,
			  "nor that: the position");
	}
}

static void
test_any_id(void)
{
	static char longest[60001];
	char		other[60001];
	const char *id = ID("ce_id", "order-17-placed", "ce_source", "/shop");

	memset(longest, 'x', 60000);
	memcpy(other, longest, sizeof(other));
	other[59999] = 'y';
	CHECK(strcmp(id, "b312dce7-4bbc-85ee-b0fe-388de8122a55") == 0,
		  "the construction does not change");
	CHECK(strcmp(id,
				 id_of("u",
					   (const char *const[]) {"ce_source", "/shop", "ce_id", "order-17-placed",
											  NULL})) == 0,
		  "an event of a source is the same on every topic");
	CHECK(strcmp(id, ID("ce_id", "order-17-placed", "ce_source", "/crm")) != 0,
		  "another source, another event");
	CHECK(strcmp(id, ID("ce_id", "order-17-placed")) != 0 &&
			  strcmp(ID("ce_id", "order-17-placed"),
					 ID("ce_id", "order-17-placed", "ce_source", "")) == 0,
		  "without a source the id is of the topic");
	CHECK(strcmp(ID("ce_id", "17"), id_of("u", (const char *const[]) {"ce_id", "17", NULL})) != 0 &&
			  strcmp(ID("ce_id", "17"), ID("ce_id", "17", "ce_source", "t")) != 0,
		  "which is no source");
	CHECK(strcmp(ID("ce_id", "bc", "ce_source", "a"), ID("ce_id", "c", "ce_source", "ab")) != 0,
		  "where the source ends is part of it");
	CHECK(strcmp(ID("id", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
				 ID("id", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "ce_source", "a")) == 0 &&
			  strcmp(ID("id", "17"), id_of("u", (const char *const[]) {"id", "17", NULL})) != 0,
		  "the header id is of the topic");
	CHECK(is_version_8(ID("ce_id", "\xff\xfe\x01")) &&
			  strcmp(ID("ce_id", "\xff\xfe\x01"), ID("ce_id", "\xff\xfd\x01")) != 0,
		  "bytes that are no text, compared as they are");
	CHECK(strcmp(ID("ce_id", "a\n"), ID("ce_id", "a\t")) != 0, "control characters differ");
	CHECK(strcmp(ID("ce_id", longest), ID("ce_id", other)) != 0 &&
			  strcmp(ID("ce_id", longest), ID("ce_id", longest)) == 0,
		  "however long an id is, all of it counts");
}

#define STRUCTURED "application/cloudevents+json"
#define REQUIRED   "\"specversion\":\"1.0\",\"id\":\"17\",\"source\":\"/shop\",\"type\":\"Placed\""

static bool
value_is(const OutboxRecord *record, const char *expected)
{
	if (expected == NULL || record->value == NULL)
		return expected == NULL && record->value == NULL;
	return record->value_len == strlen(expected) &&
		memcmp(record->value, expected, record->value_len) == 0;
}

/* Does the record's first header of the name have this text? */
static bool
header_is(const OutboxRecord *record, const char *name, const char *expected)
{
	char *text = outbox_record_header(record, name);
	bool  same = expected == NULL ? text == NULL : text != NULL && strcmp(text, expected) == 0;

	free(text);
	return same;
}

static void
test_envelope(void)
{
	static Input	  input;
	static const char envelope[] = " {\"data\" : {\"n\":12345678901234567890123, \"s\":\"}\\\"\"} ,"
								   "\"specversion\":\"1.0\",\"id\":\"17\",\"source\":\"/"
								   "shop\",\"type\":\"Placed\",\"time\":\"2026-01-02T03:04:05Z\","
								   "\"correlationid\":\"c-1\",\"partitionkey\":\"k\",\"count\":-3,"
								   "\"last\":false,\"none\":null,"
								   "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-"
								   "b7ad6b7169203331-01\",\"tracestate\":\"a=1\"} ";
	OutboxRecord	 *record =
		make_record(&input, "t", envelope,
					(const char *const[]) {"x", "own", "Content-Type",
										   " Application/CloudEvents+JSON; charset=utf-8",
										   "ce_type", "Other", NULL});

	CHECK(record->refusal == NULL &&
			  value_is(record, "{\"n\":12345678901234567890123, \"s\":\"}\\\"\"}"),
		  "the data's own bytes are the value");
	CHECK(strcmp(record->event_id, ID("ce_id", "17", "ce_source", "/shop")) == 0,
		  "the same event as in binary mode");
	CHECK(strcmp(record->event_type, "Placed") == 0 && strcmp(record->correlation_id, "c-1") == 0,
		  "type and flow");
	CHECK(record->traceparent != NULL &&
			  strcmp(record->trace_id, "0af7651916cd43dd8448eb211c80319c") == 0 &&
			  strcmp(record->tracestate, "a=1") == 0,
		  "the trace");
	CHECK(header_is(record, "content-type", "application/json") &&
			  header_is(record, "Content-Type", NULL) &&
			  header_is(record, "ce_time", "2026-01-02T03:04:05Z") &&
			  header_is(record, "ce_partitionkey", "k") && header_is(record, "ce_count", "-3") &&
			  header_is(record, "ce_last", "false") && header_is(record, "ce_none", NULL) &&
			  header_is(record, "ce_specversion", "1.0") && header_is(record, "ce_data", NULL) &&
			  header_is(record, "x", "own"),
		  "attributes and own headers");
	CHECK(record->raw_value == (const uint8_t *) envelope &&
			  record->raw_value_len == strlen(envelope) && record->raw_headers == input.bytes,
		  "what came is kept");
	outbox_record_clear(record);
}

static void
test_data(void)
{
	static const struct
	{
		const char *what;
		const char *members;
		const char *value;		  /* NULL: none */
		const char *content_type; /* NULL: none */
	} cases[] = {
		{"no data", "", NULL, NULL},
		{"null is no data", ",\"data\":null", NULL, NULL},
		{"a text of JSON", ",\"data\":\"a\"", "\"a\"", "application/json"},
		{"a number", ",\"data\":1.50", "1.50", "application/json"},
		{"true", ",\"data\":true", "true", "application/json"},
		{"an array", ",\"data\":[1, {\"a\":[]}]", "[1, {\"a\":[]}]", "application/json"},
		{"a type of JSON", ",\"datacontenttype\":\"Text/JSON; a=b\",\"data\":\"a\"", "\"a\"",
		 "Text/JSON; a=b"},
		{"a suffix of JSON", ",\"datacontenttype\":\"application/x+json\",\"data\":\"a\"", "\"a\"",
		 "application/x+json"},
		{"a text", ",\"datacontenttype\":\"text/plain\",\"data\":\"a\\n\\u00e4\"", "a\n\xc3\xa4",
		 "text/plain"},
		{"an empty text", ",\"datacontenttype\":\"text/plain\",\"data\":\"\"", "", "text/plain"},
		{"JSON under another type", ",\"datacontenttype\":\"text/plain\",\"data\":{\"a\":1}",
		 "{\"a\":1}", "text/plain"},
		{"bytes", ",\"data_base64\":\"AQL+\"", "\x01\x02\xfe", NULL},
		{"bytes of JSON", ",\"datacontenttype\":\"application/json\",\"data_base64\":\"e30=\"",
		 "{}", "application/json"},
		{"no bytes", ",\"data_base64\":\"\"", "", NULL},
		{"a name with an escape", ",\"d\\u0061ta\":1,\"other\":\"data\"", "1", "application/json"},
		{"the last of two", ",\"data\":1,\"data\":2", "2", "application/json"},
		{"a name within the data", ",\"data\":{\"data\":1}", "{\"data\":1}", "application/json"},
	};
	static Input input;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char		  text[512];
		OutboxRecord *record;

		snprintf(text, sizeof(text), "{" REQUIRED "%s}", cases[i].members);
		record = make_record(&input, "t", text,
							 (const char *const[]) {"content-type", STRUCTURED, NULL});
		CHECK(record->refusal == NULL && value_is(record, cases[i].value) &&
				  header_is(record, "content-type", cases[i].content_type),
			  cases[i].what);
		outbox_record_clear(record);
	}
}

/*
 * A copy made by a replay is the same event; re-processed it is claimed by event and replay, in
 * either mode.
 */
static void
test_replays(void)
{
	static const char replay[] = "5f0c4f62-1111-4222-9333-0123456789ab";
	static Input	  inputs[3];
	OutboxRecord	 *binary =
		make_record(&inputs[0], "t", "{}",
					(const char *const[]) {"ce_id", "17", "ce_source", "/shop", "outbox-replay-id",
										   replay, "outbox-replay-mode", "reprocess", NULL});
	OutboxRecord *structured =
		make_record(&inputs[1], "t", "{" REQUIRED "}",
					(const char *const[]) {"content-type", STRUCTURED, "outbox-replay-id", replay,
										   "outbox-replay-mode", "reprocess", NULL});
	OutboxRecord *again = make_record(&inputs[2], "t", "{" REQUIRED "}",
									  (const char *const[]) {"content-type", STRUCTURED,
															 "outbox-replay-id", replay, NULL});

	CHECK(structured->reprocess && strcmp(structured->claim_id, binary->claim_id) == 0 &&
			  strcmp(structured->event_id, binary->event_id) == 0,
		  "the same claim");
	CHECK(strcmp(structured->claim_id, structured->event_id) != 0 &&
			  outbox_uuid_valid(structured->claim_id),
		  "which is not the event's");
	CHECK(!again->reprocess && strcmp(again->claim_id, binary->event_id) == 0,
		  "unless it is to be processed once");
	outbox_record_clear(binary);
	outbox_record_clear(structured);
	outbox_record_clear(again);
}

static void
test_refused(void)
{
	static const struct
	{
		const char *content_type;
		const char *value;
		const char *reason;
	} cases[] = {
		{"application/cloudevents-batch+json", "[]", "a batch of CloudEvents is not read"},
		{"APPLICATION/CLOUDEVENTS-BATCH+JSON; charset=utf-8", "[]",
		 "(content-type application/cloudevents-batch+json)"},
		{"application/cloudevents+avro", "\x01", "not application/cloudevents+avro"},
		{"application/cloudevents+protobuf", "\x01", "not application/cloudevents+protobuf"},
		{"application/cloudevents", "{}", "not application/cloudevents"},
		{"application/cloudevents;charset=utf-8", "{}", "not application/cloudevents"},
		{STRUCTURED, "", "not JSON"},
		{STRUCTURED, "{", "not JSON"},
		{STRUCTURED, "{" REQUIRED "}x", "not JSON"},
		{STRUCTURED, "{" REQUIRED ",\"x\":\"\xff\"}", "not JSON"},
		{STRUCTURED, "[]", "not a JSON object"},
		{STRUCTURED, "{}", "\"specversion\" is missing"},
		{STRUCTURED, "{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\"}",
		 "of version 1.0, not 0.3"},
		{STRUCTURED, "{\"specversion\":\"1.0\",\"source\":\"s\",\"type\":\"t\"}",
		 "\"id\" is missing"},
		{STRUCTURED, "{\"specversion\":\"1.0\",\"id\":17,\"source\":\"s\",\"type\":\"t\"}",
		 "\"id\" is not a string"},
		{STRUCTURED, "{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"s\",\"type\":\"t\"}",
		 "\"id\" is empty"},
		{STRUCTURED, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":null,\"type\":\"t\"}",
		 "\"source\" is missing"},
		{STRUCTURED, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\"}",
		 "\"type\" is missing"},
		{STRUCTURED, "{" REQUIRED ",\"x\":{}}", "\"x\" is not a string"},
		{STRUCTURED, "{" REQUIRED ",\"x\":1.5}", "\"x\" is not a string"},
		{STRUCTURED, "{" REQUIRED ",\"data\":1,\"data_base64\":\"\"}", "both data and data_base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"a\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"====\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"A===\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"AQ-_\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"AQL----\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"AQ==AQ==\"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":\"AQL+ \"}", "no base64"},
		{STRUCTURED, "{" REQUIRED ",\"data_base64\":7}", "no base64"},
	};
	static Input input;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		OutboxRecord *record =
			make_record(&input, "t", cases[i].value,
						(const char *const[]) {"content-type", cases[i].content_type, "ce_id", UUID,
											   NULL});

		CHECK(record->refusal != NULL && strstr(record->refusal, cases[i].reason) != NULL,
			  cases[i].reason);
		if (record->refusal != NULL && strstr(record->refusal, cases[i].reason) == NULL)
			printf("# %s\n", record->refusal);
		CHECK(record->value == record->raw_value &&
				  record->value == (const uint8_t *) cases[i].value &&
				  record->headers == input.bytes && strcmp(record->event_id, UUID) == 0,
			  "the record is as it came");
		outbox_record_clear(record);
	}
}

static void
test_ordinary(void)
{
	static const char *const types[] = {"application/json", "application/cloudevent+json",
										"application/cloudeventsjson", "", "text/plain"};
	static Input			 input;
	OutboxRecord			*record;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
	{
		record = make_record(&input, "t", "{" REQUIRED "}",
							 (const char *const[]) {"content-type", types[i], NULL});
		CHECK(record->refusal == NULL && value_is(record, "{" REQUIRED "}") &&
				  record->event_type == NULL,
			  types[i]);
		outbox_record_clear(record);
	}
	record = make_record(&input, "t", NULL,
						 (const char *const[]) {"content-type", STRUCTURED, "ce_id", UUID, NULL});
	CHECK(record->refusal == NULL && record->value == NULL && strcmp(record->event_id, UUID) == 0,
		  "a tombstone has no envelope");
	outbox_record_clear(record);
}

/* Microseconds since 1970; OUTBOX_NO_TIME: none. */
static int64_t
read_time(const char *text)
{
	int64_t us;

	return outbox_event_time_read(text, strlen(text), &us) ? us : OUTBOX_NO_TIME;
}

static void
test_times_read(void)
{
	static const struct
	{
		const char *text;
		int64_t		us;
	} cases[] = {
		{"2026-01-31T12:34:56Z", INT64_C(1769862896000000)},
		{"2026-01-31t12:34:56.000007z", INT64_C(1769862896000007)},
		{"2026-01-31T12:34:56.1z", INT64_C(1769862896100000)},
		{"2026-01-31T12:34:56.1234567890123Z", INT64_C(1769862896123456)},
		{"2026-01-31T14:04:56.5+01:30", INT64_C(1769862896500000)},
		{"2026-01-30T12:35:56-23:59", INT64_C(1769862896000000)},
		{"2026-01-31T12:34:56-00:00", INT64_C(1769862896000000)},
		{"1970-01-01T00:00:00Z", 0},
		{"1969-12-31T23:59:59.25Z", -750000},
		{"0001-01-01T00:00:00Z", INT64_C(-62135596800000000)},
		{"9999-12-31T23:59:59.999999Z", INT64_C(253402300799999999)},
		{"2024-02-29T00:00:00Z", INT64_C(1709164800000000)},
		{"2000-02-29T00:00:00Z", INT64_C(951782400000000)},
		{"2016-12-31T23:59:60Z", INT64_C(1483228800000000)},
		{"2016-12-31T15:59:60.9-08:00", INT64_C(1483228800000000)},
		{"2015-06-30T23:59:60z", INT64_C(1435708800000000)},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(read_time(cases[i].text) == cases[i].us, cases[i].text);
}

static void
test_no_times(void)
{
	static const char *const texts[] = {
		"",
		"2026",
		"2026-01-31",
		"2026-01-31T12:34:56",
		"2026-01-31 12:34:56Z",
		"2026-01-31T12:34Z",
		"2026-02-31T00:00:00Z",
		"2026-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2026-01-32T00:00:00Z",
		"2026-00-01T00:00:00Z",
		"2026-13-01T00:00:00Z",
		"2026-01-00T00:00:00Z",
		"0000-01-01T00:00:00Z",
		"10000-01-01T00:00:00Z",
		"-026-01-01T00:00:00Z",
		"+2026-01-01T00:00:00Z",
		"2026-01-31T24:00:00Z",
		"2026-01-31T23:60:00Z",
		"2026-01-31T23:59:61Z",
		"2026-01-31T12:34:60Z",
		"2026-01-30T23:59:60Z",
		"2026-01-31T23:59:60-08:00",
		"2026-01-31T12:34:56.Z",
		"2026-01-31T12:34:56,5Z",
		"2026-01-31T12:34:56.-5Z",
		"2026-01-31T12:34:5Z",
		"2026-01-31T12:34:56+24:00",
		"2026-01-31T12:34:56+01:60",
		"2026-01-31T12:34:56+1:30",
		"2026-01-31T12:34:56+0130",
		"2026-01-31T12:34:56+01",
		"2026-01-31T12:34:56+ 1:30",
		"2026-01-31T12:34:56+01:30Z",
		" 2026-01-31T12:34:56Z",
		"2026-01-31T12:34:56Z ",
		"2026-01-31T12:34:56 Z",
		"2026- 1-31T12:34:56Z",
		"2026-1-31T12:34:56Z",
		"20260131T123456Z",
		"2026-01-31T12:34:56ZZ",
		"1769862896",
	};
	int64_t us;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(read_time(texts[i]) == OUTBOX_NO_TIME, texts[i]);
	CHECK(!outbox_event_time_read("2026-01-31T12:34:56Z\0", 21, &us), "a zero behind it");
	CHECK(!outbox_event_time_read("2026-01-31T12:34:56Z", 19, &us), "the length ends it");
}

static void
test_event_times(void)
{
	static Input  input;
	OutboxRecord *record;

	record = make_record(&input, "t", "{}",
						 (const char *const[]) {"ce_time", "2026-01-31T12:34:56Z", NULL});
	CHECK(record->event_us == INT64_C(1769862896000000), "ce_time");
	outbox_record_clear(record);
	record = make_record(&input, "t", "{}",
						 (const char *const[]) {"ce_time", "2026-02-31T12:34:56Z", NULL});
	CHECK(record->event_us == OUTBOX_NO_TIME, "of a day that is none");
	outbox_record_clear(record);
	record = make_record(&input, "t", "{" REQUIRED ",\"time\":\"2026-01-31T12:34:56Z\"}",
						 (const char *const[]) {"content-type", STRUCTURED, NULL});
	CHECK(record->event_us == INT64_C(1769862896000000), "in structured mode");
	outbox_record_clear(record);
	CHECK(outbox_event_since_ms(5000000, 7000, 9000) == 5000, "the event's time counts");
	CHECK(outbox_event_since_ms(8000000, 7000, 9000) == 8000, "also a later one than the record's");
	CHECK(outbox_event_since_ms(OUTBOX_NO_TIME, 7000, 9000) == 7000,
		  "the record's where there is none");
	CHECK(outbox_event_since_ms(INT64_C(-62135596800000000), 7000, 9000) == 7000,
		  "the zero of many a language is none");
	CHECK(outbox_event_since_ms(9001000, 7000, 9000) == 7000, "nor is a time that is yet to come");
	CHECK(outbox_event_since_ms(9001000, -1, 9000) == 9001, "unless nothing else is known");
	CHECK(outbox_event_since_ms(OUTBOX_NO_TIME, -1, 9000) == -1, "nothing");
}

int
main(void)
{
	test_times_read();
	test_no_times();
	test_event_times();
	test_spellings();
	test_any_id();
	test_envelope();
	test_data();
	test_replays();
	test_refused();
	test_ordinary();
	return finish_tests();
}
