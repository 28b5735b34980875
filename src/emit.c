/* SPDX-License-Identifier: PostgreSQL
 *
 * emit.c
 *	  outbox.emit, emit_json and emit_bytes.
 *
 * Runs in application backends, as the caller: EXECUTE and outbox.topic_grant are the gates, not
 * the tables' privileges.  No name is looked up through search_path, so the functions carry no SET
 * clause.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "backlog.h"
#include "clock_step.h"
#include "emit.h"
#include "encoding.h"
#include "event_headers.h"
#include "event_store.h"
#include "guc.h"
#include "source.h"
#include "topic.h"
#include "uuidv7.h"
#include "wake.h"
#include "src/common/record_size.h"
#include "src/common/utf8.h"

#define COMMAND_NAME	  "outbox.emit()"
#define JSON_CONTENT_TYPE "application/json"
#define TEXT_MAX		  255 /* bytes of type and of content_type in UTF-8 */

PG_FUNCTION_INFO_V1(outbox_emit);
PG_FUNCTION_INFO_V1(outbox_emit_json);
PG_FUNCTION_INFO_V1(outbox_emit_bytes);

void
outbox_emit_check_context(void)
{
	PreventCommandDuringRecovery(COMMAND_NAME);
	PreventCommandIfReadOnly(COMMAND_NAME);
	PreventCommandIfParallelMode(COMMAND_NAME);
}

static void
refuse_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s of an event must not be null", argument)));
}

/*
 * What is stored stays in the database's encoding; what the relay makes of it is an attribute of
 * the CloudEvent.
 */
static void
check_text(const char *argument, const text *value)
{
	int			len = VARSIZE_ANY_EXHDR(value);
	const char *bytes = outbox_encoding_utf8(argument, VARDATA_ANY(value), &len);
	int32		excluded;

	if (len == 0 || len > TEXT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an event must have 1 to %d bytes", argument, TEXT_MAX),
				 errdetail("It has %d%s.", len,
						   len == (int) VARSIZE_ANY_EXHDR(value) ? "" : " in UTF-8")));
	excluded = outbox_utf8_excluded(bytes, len);
	if (excluded >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of an event must not have control characters", argument),
				 errdetail("It has U+%04X.", (unsigned int) excluded)));
}

void
outbox_emit_check_size(int64 bytes, int64 known)
{
	if (bytes > outbox_guc_max_event_bytes && bytes > known)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("event is too large"),
				 errdetail("Key, payload and headers have %lld bytes; outbox.max_event_bytes is "
						   "%d.",
						   (long long) bytes, outbox_guc_max_event_bytes),
				 errhint("Send a reference to the data, or raise outbox.max_event_bytes together "
						 "with the topic's max.message.bytes and the relay's Kafka property "
						 "message.max.bytes.")));
}

/* Bytes in UTF-8. */
static size_t
utf8_length(const text *value)
{
	int len = value == NULL ? 0 : VARSIZE_ANY_EXHDR(value);

	if (len > 0)
		(void) outbox_encoding_utf8_shown(VARDATA_ANY(value), &len);
	return (size_t) len;
}

/* What Kafka compares with max.message.bytes, with the envelope as it is set now. */
static size_t
record_size(const OutboxEvent *event)
{
	OutboxRecordParts parts = {
		.key_len = event->key == NULL ? -1 : (int64) VARSIZE_ANY_EXHDR(event->key),
		.payload_len = event->payload == NULL ? -1 : (int64) VARSIZE_ANY_EXHDR(event->payload),
		.headers = event->headers == NULL ? NULL : (const uint8 *) VARDATA_ANY(event->headers),
		.headers_len = event->headers == NULL ? 0 : VARSIZE_ANY_EXHDR(event->headers),
		.type_len = utf8_length(event->type),
		.content_type_len = utf8_length(event->content_type),
		.source_len = -1,
	};

	if (outbox_guc_envelope == OUTBOX_ENVELOPE_CLOUDEVENTS)
		parts.source_len =
			(int64) Max(strlen(outbox_source()), strlen(OUTBOX_SOURCE_PREFIX) + NAMEDATALEN);
	return outbox_record_batch_size(&parts);
}

void
outbox_emit_check_topic(const OutboxEvent *event)
{
	const char		*name = VARDATA_ANY(event->topic);
	int				 len = VARSIZE_ANY_EXHDR(event->topic);
	OutboxTopicRules rules = outbox_topic_rules(name, len);
	size_t			 size = rules.max_message_bytes > 0 ? record_size(event) : 0;

	if (rules.compacted && event->key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key of an event of topic \"%.*s\" must not be null", len, name),
				 errdetail("The topic is declared with a cleanup policy that has compact; Kafka "
						   "refuses records without a key there."),
				 errhint("Give the event a key, or use a topic that is not compacted.")));
	if (size > (size_t) rules.max_message_bytes)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("event is too large for topic \"%.*s\"", len, name),
				 errdetail("Its record has %zu bytes with all headers, uncompressed; the topic is "
						   "declared with max_message_bytes %d.",
						   size, rules.max_message_bytes),
				 errhint("Send a reference to the data, or raise max.message.bytes of the topic in "
						 "Kafka, then max_message_bytes of its row in outbox.topic.")));
}

static void
check_id(const pg_uuid_t *id)
{
	static const pg_uuid_t nil = {{0}};

	if (memcmp(id, &nil, UUID_LEN) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("id of an event must not be the nil UUID"),
				 errdetail("Consumers take it for no id at all."),
				 errhint("Give an id of its own, or NULL: then one is made.")));
}

/* Returns the event's bytes. */
static int64
check_event(const OutboxEvent *event)
{
	int64 size;

	if (event->topic == NULL)
		refuse_null("topic");
	if (event->type == NULL)
		refuse_null("type");
	check_text("type", event->type);
	if (event->content_type != NULL)
		check_text("content_type", event->content_type);
	if (event->id != NULL)
		check_id(event->id);

	size = outbox_event_size(event);
	outbox_emit_check_size(size, 0);
	outbox_topic_check_emit(VARDATA_ANY(event->topic), VARSIZE_ANY_EXHDR(event->topic),
							GetUserId());
	outbox_emit_check_topic(event);
	return size;
}

void
outbox_emit_store(const OutboxEvent *event, pg_uuid_t *id)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		bytes;

	outbox_clock_step_watch(now);
	bytes = check_event(event);
	outbox_wake_at_commit();
	outbox_backlog_admit(event->topic, bytes);
	if (event->id != NULL)
		*id = *event->id;
	else
		outbox_uuidv7_make(id, now);
	outbox_event_store_insert(event, id, now);
}

/* A text as bytes in UTF-8; NULL stays NULL. */
static bytea *
make_bytes(const char *argument, text *value)
{
	const char *bytes;
	int			len;

	if (value == NULL)
		return NULL;
	len = VARSIZE_ANY_EXHDR(value);
	bytes = outbox_encoding_utf8(argument, VARDATA_ANY(value), &len);
	return bytes == VARDATA_ANY(value) ? value : cstring_to_text_with_len(bytes, len);
}

bytea *
outbox_emit_key(text *key)
{
	return make_bytes("key", key);
}

bytea *
outbox_emit_jsonb(Jsonb *payload)
{
	StringInfoData buffer;

	if (payload == NULL)
		return NULL;

	/* The text is written behind room for the length word: no second copy. */
	initStringInfo(&buffer);
	appendStringInfoSpaces(&buffer, VARHDRSZ);
	JsonbToCString(&buffer, &payload->root, VARSIZE(payload));
	SET_VARSIZE(buffer.data, buffer.len);
	return make_bytes("payload", (text *) buffer.data);
}

text *
outbox_emit_json_type(const bytea *payload)
{
	static union
	{
		int32 align;
		char  data[VARHDRSZ + sizeof(JSON_CONTENT_TYPE)];
	} constant;

	if (payload == NULL)
		return NULL;
	memcpy(VARDATA(&constant), JSON_CONTENT_TYPE, strlen(JSON_CONTENT_TYPE));
	SET_VARSIZE(&constant, VARHDRSZ + strlen(JSON_CONTENT_TYPE));
	return (text *) &constant;
}

/* The two that take a JSON document; jsonb: payload is one, else it is json text. */
static Datum
emit_document(FunctionCallInfo fcinfo, bool jsonb)
{
	OutboxEvent event = {0};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	outbox_emit_check_context();
	event.topic = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	event.key = PG_ARGISNULL(1) ? NULL : outbox_emit_key(PG_GETARG_TEXT_PP(1));
	event.type = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	if (!PG_ARGISNULL(3))
		event.payload = jsonb ? outbox_emit_jsonb(PG_GETARG_JSONB_P(3)) :
								make_bytes("payload", PG_GETARG_TEXT_PP(3));
	event.content_type = outbox_emit_json_type(event.payload);
	event.headers = outbox_event_headers_from_jsonb(PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4));
	outbox_emit_store(&event, id);
	PG_RETURN_UUID_P(id);
}

/* emit(topic text, key text, type text, payload jsonb, headers jsonb) returns uuid */
Datum
outbox_emit(PG_FUNCTION_ARGS)
{
	return emit_document(fcinfo, true);
}

/* emit_json(topic text, key text, type text, payload json, headers jsonb) returns uuid */
Datum
outbox_emit_json(PG_FUNCTION_ARGS)
{
	return emit_document(fcinfo, false);
}

/*
 * emit_bytes(topic text, key bytea, type text, payload bytea, content_type text,
 *			  headers outbox.header[]) returns uuid
 */
Datum
outbox_emit_bytes(PG_FUNCTION_ARGS)
{
	OutboxEvent event = {0};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	outbox_emit_check_context();
	event.topic = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	event.key = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
	event.type = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	event.payload = PG_ARGISNULL(3) ? NULL : PG_GETARG_BYTEA_PP(3);
	event.content_type = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	event.headers =
		outbox_event_headers_from_array(PG_ARGISNULL(5) ? NULL : PG_GETARG_ARRAYTYPE_P(5));
	outbox_emit_store(&event, id);
	PG_RETURN_UUID_P(id);
}
