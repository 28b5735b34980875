/* SPDX-License-Identifier: PostgreSQL
 *
 * wire_text.c
 *	  What a record of Kafka holds, bytes that should be UTF-8, as text of this database.
 *
 * Runs in application backends, those of consumers above all.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "encoding.h"
#include "src/common/kafka_headers.h"
#include "src/common/utf8.h"

/* bytes of a header that header_value shows, as consumers read a correlation id */
#define FLOW_MAX 256

PG_FUNCTION_INFO_V1(outbox_wire_text);
PG_FUNCTION_INFO_V1(outbox_header_value);
PG_FUNCTION_INFO_V1(outbox_consumed_headers);

/*
 * Appends UTF-8 in the database's encoding; false: it is none, or the database has not all of these
 * characters.
 */
static bool
append_text(StringInfo out, const char *utf8, int len)
{
	char *text = outbox_encoding_try_text(utf8, len);

	if (text == NULL)
		return false;
	appendStringInfoString(out, text);
	pfree(text);
	return true;
}

/*
 * See outbox.wire_text; `plain`: control characters and noncharacters are encoded as well, as a
 * service does it where it reads a header.
 */
static text *
make_wire_text(const char *bytes, int len, int most, bool plain)
{
	StringInfoData out;
	int			   used = 0;
	char		  *whole = NULL;

	/* once or twice a record, and hardly ever anything else */
	if (len <= most && !(plain && outbox_utf8_excluded(bytes, (size_t) len) >= 0))
		whole = outbox_encoding_try_text(bytes, len);
	if (whole != NULL && strlen(whole) <= (size_t) most)
		return cstring_to_text(whole);
	initStringInfo(&out);
	for (int i = 0; i < len;)
	{
		int	 width = Max((int) outbox_utf8_char(bytes + i, (size_t) (len - i)), 1);
		int	 kept = out.len;
		bool escaped = (plain && outbox_utf8_excluded(bytes + i, (size_t) width) >= 0) ||
			!append_text(&out, bytes + i, width);

		/*
		 * some encodings have characters that are longer than in UTF-8; neither form may be too
		 * long
		 */
		used += escaped ? 3 * width : Max(width, out.len - kept);
		if (used > most)
		{
			out.len = kept;
			break;
		}
		for (int end = i + width; escaped && i < end; i++)
			appendStringInfo(&out, "%%%02X", (unsigned char) bytes[i]);
		i += escaped ? 0 : width;
	}
	return cstring_to_text_with_len(out.data, out.len);
}

/*
 * wire_text(value bytea, most integer) returns text: what is no UTF-8, or has no character in this
 * database, as % and two hex digits a byte; at most so many bytes, cut between two characters
 */
Datum
outbox_wire_text(PG_FUNCTION_ARGS)
{
	bytea *value = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(make_wire_text(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value),
									PG_GETARG_INT32(1), false));
}

/*
 * header_value(headers bytea, name text) returns text: value of the first header of that name,
 * which is ASCII, in any case of letters, as a service reads it; NULL: there is none, it has no
 * value, or the bytes are no headers up to it
 */
Datum
outbox_header_value(PG_FUNCTION_ARGS)
{
	bytea			  *bytes = PG_GETARG_BYTEA_PP(0);
	char			  *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	outbox_headers_read(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	while (outbox_headers_next(&reader, &header))
	{
		if (!outbox_header_is(&header, name))
			continue;
		if (header.value == NULL)
			PG_RETURN_NULL();
		PG_RETURN_TEXT_P(make_wire_text((const char *) header.value, (int) header.value_len,
										FLOW_MAX, true));
	}
	PG_RETURN_NULL();
}

/* Appends a JSON string: the bytes as text where they are some here, else \x and hex digits. */
static void
append_json_string(StringInfo json, const void *bytes, size_t len)
{
	StringInfoData text;

	initStringInfo(&text);
	if (!append_text(&text, bytes, (int) len))
	{
		resetStringInfo(&text);
		appendStringInfoString(&text, "\\x");
		enlargeStringInfo(&text, (int) len * 2);
		text.len += (int) hex_encode(bytes, len, text.data + text.len);
		text.data[text.len] = '\0';
	}
	escape_json(json, text.data);
	pfree(text.data);
}

/* How many headers there are; of bytes that are none, those up to the fault. */
static int
count_headers(const bytea *bytes)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;
	int				   count = 0;

	outbox_headers_read(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	while (outbox_headers_next(&reader, &header))
		count++;
	return count;
}

/*
 * consumed_headers(headers bytea) returns jsonb: an object of the first header of each name, of
 * Kafka's encoding; NULL: {}.  Of several members of one name jsonb keeps the last one, so they are
 * written backwards
 */
Datum
outbox_consumed_headers(PG_FUNCTION_ARGS)
{
	bytea		 *bytes = PG_ARGISNULL(0) ? (bytea *) cstring_to_text("") : PG_GETARG_BYTEA_PP(0);
	int			  count = count_headers(bytes);
	OutboxHeader *headers = palloc(sizeof(OutboxHeader) * Max(count, 1));
	OutboxHeaderReader reader;
	StringInfoData	   json;

	outbox_headers_read(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	for (int i = 0; i < count; i++)
		outbox_headers_next(&reader, &headers[i]);
	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	while (count-- > 0)
	{
		append_json_string(&json, headers[count].name, headers[count].name_len);
		appendStringInfoChar(&json, ':');
		if (headers[count].value == NULL)
			appendStringInfoString(&json, "null");
		else
			append_json_string(&json, headers[count].value, headers[count].value_len);
		if (count > 0)
			appendStringInfoChar(&json, ',');
	}
	appendStringInfoChar(&json, '}');
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}
