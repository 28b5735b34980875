/* SPDX-License-Identifier: PostgreSQL
 *
 * letter_event.c
 *	  A consumer's dead letter as an event of <topic>.DLT, and the headers of an edited copy.
 *
 * Runs in application backends, as the extension's owner.  A record's headers stay bytes: Kafka
 * knows no encoding, and an SQL text could not hold any name.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/uuid.h"

#include "emit.h"
#include "encoding.h"
#include "event_headers.h"
#include "src/common/kafka_headers.h"
#include "src/common/utf8.h"

#define ORIGINAL	"dlt-original-"
#define CLOUDEVENTS "application/cloudevents"
#define TEXT_MAX	255 /* bytes of type and of content_type in UTF-8, as emit() takes them */

PG_FUNCTION_INFO_V1(outbox_dead_letter_event);
PG_FUNCTION_INFO_V1(outbox_dead_letter_copy_own);

typedef struct HeaderList
{
	OutboxHeader *items;
	int			  count;
} HeaderList;

/* What the letter's event says in the place of headers of the record. */
typedef struct Envelope
{
	text		*content_type; /* NULL: none */
	OutboxHeader trace;		   /* the record's traceparent; value NULL: none that is one */
	OutboxHeader correlation;  /* of the letter, UTF-8; value NULL: none */
} Envelope;

static bool
is_same_value(const OutboxHeader *header, const void *value, size_t len)
{
	return header->value != NULL && value != NULL && header->value_len == len &&
		memcmp(header->value, value, len) == 0;
}

/* How many there are in Kafka's encoding; an error when the bytes are no headers. */
static int
count_headers(const bytea *bytes)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;
	int				   count = 0;

	if (bytes == NULL)
		return 0;
	outbox_headers_read(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	while (outbox_headers_next(&reader, &header))
		count++;
	if (reader.bad)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the bytes are not headers in Kafka's encoding")));
	return count;
}

/* Starts reading what count_headers has accepted. */
static void
start_reading(OutboxHeaderReader *reader, const bytea *bytes)
{
	outbox_headers_read(reader, bytes == NULL ? NULL : (const uint8_t *) VARDATA_ANY(bytes),
						bytes == NULL ? 0 : VARSIZE_ANY_EXHDR(bytes));
}

/* As dlt-original-..., in the spelling `known` when that is not NULL. */
static void
add_renamed(HeaderList *list, const OutboxHeader *header, const char *known)
{
	OutboxHeader *renamed = &list->items[list->count++];
	char		 *name = palloc(strlen(ORIGINAL) + header->name_len);

	memcpy(name, ORIGINAL, strlen(ORIGINAL));
	memcpy(name + strlen(ORIGINAL), known != NULL ? known : header->name, header->name_len);
	*renamed = *header;
	renamed->name = name;
	renamed->name_len = strlen(ORIGINAL) + header->name_len;
}

/* ------------------------------------------------------------- envelope */

/* 55 characters, of a version that ends there. */
static bool
is_traceparent(const OutboxHeader *header)
{
	if (header->value_len != 55 || memcmp(header->value, "ff", 2) == 0)
		return false;
	for (int i = 0; i < 55; i++)
	{
		char letter = (char) header->value[i];

		if (i == 2 || i == 35 || i == 52 ?
				letter != '-' :
				letter == '\0' || strchr("0123456789abcdef", letter) == NULL)
			return false;
	}
	return true;
}

/*
 * The event's content type after the record's: NULL where emit() would not take it.  The letter is
 * an event of its own, in CloudEvents' binary mode: a record's in structured mode would say
 * otherwise.
 */
static text *
choose_content_type(const OutboxHeader *header)
{
	char *type;

	if (header->value_len == 0 || header->value_len > TEXT_MAX)
		return NULL;
	for (size_t i = 0; i < header->value_len; i++)
	{
		if (header->value[i] < ' ' || header->value[i] > '~')
			return NULL;
	}
	type = pnstrdup((const char *) header->value, header->value_len);
	if (pg_strncasecmp(type + strspn(type, " "), CLOUDEVENTS, strlen(CLOUDEVENTS)) != 0)
		return cstring_to_text(type);
	type = asc_tolower(type, strlen(type));
	return cstring_to_text(strstr(type, "+json") != NULL ? "application/json" :
														   "application/octet-stream");
}

static void
fill_envelope(Envelope *envelope, const bytea *own, const text *correlation)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;
	OutboxHeader	   content_type = {0};

	memset(envelope, 0, sizeof(*envelope));
	start_reading(&reader, own);
	while (outbox_headers_next(&reader, &header))
	{
		if (header.value != NULL && content_type.value == NULL &&
			outbox_header_is(&header, "content-type"))
			content_type = header;
		if (header.value != NULL && envelope->trace.value == NULL &&
			outbox_header_is(&header, "traceparent") && is_traceparent(&header))
			envelope->trace = (OutboxHeader) {"traceparent", strlen("traceparent"), header.value,
											  header.value_len};
	}
	if (content_type.value != NULL)
		envelope->content_type = choose_content_type(&content_type);
	if (correlation != NULL && VARSIZE_ANY_EXHDR(correlation) > 0)
	{
		int			len = VARSIZE_ANY_EXHDR(correlation);
		const char *value = outbox_encoding_utf8_shown(VARDATA_ANY(correlation), &len);

		envelope->correlation = (OutboxHeader) {"correlationid", strlen("correlationid"),
												(const uint8_t *) value, (size_t) len};
	}
}

/* Does the letter's event say what the header does? */
static bool
is_said(const Envelope *envelope, const OutboxHeader *header)
{
	if (outbox_header_is(header, "content-type"))
		return envelope->content_type != NULL &&
			is_same_value(header, VARDATA_ANY(envelope->content_type),
						  VARSIZE_ANY_EXHDR(envelope->content_type));
	if (outbox_header_is(header, "traceparent"))
		return is_same_value(header, envelope->trace.value, envelope->trace.value_len);
	return outbox_header_is(header, "correlationid") &&
		is_same_value(header, envelope->correlation.value, envelope->correlation.value_len);
}

/* A name that the event's own headers have, or NULL. */
static const char *
find_taken(const OutboxHeader *header)
{
	static const char *const names[] = {"content-type", "traceparent", "correlationid"};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (outbox_header_is(header, names[i]))
			return names[i];
	}
	return NULL;
}

/* The record's headers, byte for byte, but for those of an earlier letter; then `added`. */
static bytea *
make_headers(const Envelope *envelope, const bytea *own, const bytea *added)
{
	HeaderList		   list = {palloc(sizeof(OutboxHeader) *
									  (count_headers(own) + count_headers(added) + 2)),
							   0};
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	if (envelope->trace.value != NULL)
		list.items[list.count++] = envelope->trace;
	if (envelope->correlation.value != NULL)
		list.items[list.count++] = envelope->correlation;
	start_reading(&reader, own);
	while (outbox_headers_next(&reader, &header))
	{
		const char *taken = find_taken(&header);

		if (outbox_header_begins(&header, "dlt-") || outbox_header_begins(&header, "kafka_dlt-") ||
			is_said(envelope, &header))
			continue;
		if (taken != NULL || outbox_header_begins(&header, "ce_") ||
			outbox_header_begins(&header, "outbox-replay-"))
			add_renamed(&list, &header, taken);
		else
			list.items[list.count++] = header;
	}
	start_reading(&reader, added);
	while (outbox_headers_next(&reader, &header))
		list.items[list.count++] = header;
	return outbox_event_headers_write(list.items, list.count);
}

/* ------------------------------------------------------------ functions */

/*
 * The record's type as emit() takes one: cut where its UTF-8 is too long, characters that emit()
 * refuses become '?'; NULL or empty: DeadLetter.
 */
static text *
choose_type(const text *type)
{
	const char	  *at;
	const char	  *end;
	StringInfoData chosen;
	int			   used = 0;

	if (type == NULL || VARSIZE_ANY_EXHDR(type) == 0)
		return cstring_to_text("DeadLetter");
	at = VARDATA_ANY(type);
	end = at + VARSIZE_ANY_EXHDR(type);
	initStringInfo(&chosen);
	while (at < end)
	{
		int			size = outbox_encoding_clip(at, (int) (end - at), 1);
		int			len = size;
		const char *utf8 = outbox_encoding_try_utf8(at, &len);
		bool		taken = utf8 != NULL && outbox_utf8_excluded(utf8, (size_t) len) < 0;

		used += taken ? len : 1;
		if (used > TEXT_MAX)
			break;
		appendBinaryStringInfo(&chosen, taken ? at : "?", taken ? size : 1);
		at += size;
	}
	return cstring_to_text_with_len(chosen.data, chosen.len);
}

/*
 * dead_letter_event(topic text, key bytea, type text, payload bytea, own bytea, correlation_id
 * text, added outbox.header[]) returns uuid: emits a letter; own are the record's headers in
 * Kafka's encoding.  All but topic may be NULL
 */
Datum
outbox_dead_letter_event(PG_FUNCTION_ARGS)
{
	OutboxEvent event = {0};
	Envelope	envelope;
	bytea	   *own = PG_ARGISNULL(4) ? NULL : PG_GETARG_BYTEA_PP(4);
	bytea	   *added =
		PG_ARGISNULL(6) ? NULL : outbox_event_headers_encode(PG_GETARG_ARRAYTYPE_P(6), false);
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	outbox_emit_check_context();
	fill_envelope(&envelope, own, PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5));
	event.topic = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	event.key = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
	event.type = choose_type(PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2));
	event.payload = PG_ARGISNULL(3) ? NULL : PG_GETARG_BYTEA_PP(3);
	event.content_type = envelope.content_type;
	event.headers = make_headers(&envelope, own, added);
	outbox_emit_store(&event, id);
	PG_RETURN_UUID_P(id);
}

/*
 * dead_letter_copy_own(headers bytea, copy_id text) returns bytea: a consumer's record's headers,
 * byte for byte, with the copy's id as ce_id and without a replay's; headers NULL: none
 */
Datum
outbox_dead_letter_copy_own(PG_FUNCTION_ARGS)
{
	bytea			  *own = PG_ARGISNULL(0) ? NULL : PG_GETARG_BYTEA_PP(0);
	char			  *id = text_to_cstring(PG_GETARG_TEXT_PP(1));
	HeaderList		   list = {palloc(sizeof(OutboxHeader) * (count_headers(own) + 1)), 0};
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	list.items[list.count++] =
		(OutboxHeader) {"ce_id", strlen("ce_id"), (const uint8_t *) id, strlen(id)};
	start_reading(&reader, own);
	while (outbox_headers_next(&reader, &header))
	{
		if (!outbox_header_is(&header, "ce_id") && !outbox_header_begins(&header, "outbox-replay-"))
			list.items[list.count++] = header;
	}
	PG_RETURN_BYTEA_P(outbox_event_headers_write(list.items, list.count));
}
