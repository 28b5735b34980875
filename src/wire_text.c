/* SPDX-License-Identifier: PostgreSQL
 *
 * wire_text.c
 *	  What a record of Kafka holds, bytes that should be UTF-8, as text of this database.
 *
 * Runs in the backends of consumers.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "common/kafka_headers.h"

PG_FUNCTION_INFO_V1(outbox_wire_text);
PG_FUNCTION_INFO_V1(outbox_consumed_headers);

static bool
is_ascii(const unsigned char *bytes, int len)
{
	for (int i = 0; i < len; i++)
	{
		if (bytes[i] == '\0' || IS_HIGHBIT_SET(bytes[i]))
			return false;
	}
	return true;
}

/* Appends UTF-8 in the database's encoding; false: it has not all of these characters, nothing is appended. */
static bool
append_converted(StringInfo out, const unsigned char *utf8, int len)
{
	int			encoding = GetDatabaseEncoding();
	unsigned char *converted;
	Oid			procedure;
	bool		good;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || is_ascii(utf8, len))
	{
		appendBinaryStringInfo(out, (const char *) utf8, len);
		return true;
	}
	procedure = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(procedure))
		return false;
	converted = palloc((Size) (len + 1) * MAX_CONVERSION_GROWTH + 1);
	good = pg_do_encoding_conversion_buf(procedure, PG_UTF8, encoding, (unsigned char *) utf8, len, converted,
										 (len + 1) * MAX_CONVERSION_GROWTH + 1, true) == len;
	if (good)
		appendStringInfoString(out, (char *) converted);
	pfree(converted);
	return good;
}

/*
 * wire_text(value bytea, most integer) returns text: what is no UTF-8, or has no character in this database,
 * as % and two hex digits a byte; at most so many bytes of UTF-8, cut between two characters
 */
Datum
outbox_wire_text(PG_FUNCTION_ARGS)
{
	bytea	   *value = PG_GETARG_BYTEA_PP(0);
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(value);
	int			len = VARSIZE_ANY_EXHDR(value);
	int			most = PG_GETARG_INT32(1);
	int			used = 0;
	StringInfoData out;

	if (len <= most && is_ascii(bytes, len))
		PG_RETURN_TEXT_P(cstring_to_text_with_len((const char *) bytes, len));
	initStringInfo(&out);
	for (int i = 0; i < len;)
	{
		int			width = pg_encoding_verifymbchar(PG_UTF8, (const char *) bytes + i, len - i);
		int			kept = out.len;
		bool		escaped = width <= 0 || !append_converted(&out, bytes + i, width);

		width = Max(width, 1);
		used += escaped ? 3 * width : width;
		if (used > most)
		{
			out.len = kept;
			break;
		}
		for (int end = i + width; escaped && i < end; i++)
			appendStringInfo(&out, "%%%02X", bytes[i]);
		i += escaped ? 0 : width;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* Appends a JSON string: the bytes as text where they are some here, else \x and hex digits. */
static void
append_json_string(StringInfo json, const void *bytes, size_t len)
{
	StringInfoData text;

	initStringInfo(&text);
	if (memchr(bytes, '\0', len) != NULL || !pg_verify_mbstr(PG_UTF8, bytes, (int) len, true) ||
		!append_converted(&text, bytes, (int) len))
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
	OutboxHeader header;
	int			count = 0;

	outbox_headers_read(&reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	while (outbox_headers_next(&reader, &header))
		count++;
	return count;
}

/*
 * consumed_headers(headers bytea) returns jsonb: an object of the first header of each name, of Kafka's
 * encoding; NULL: {}.  Of several members of one name jsonb keeps the last one, so they are written backwards
 */
Datum
outbox_consumed_headers(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_ARGISNULL(0) ? (bytea *) cstring_to_text("") : PG_GETARG_BYTEA_PP(0);
	int			count = count_headers(bytes);
	OutboxHeader *headers = palloc(sizeof(OutboxHeader) * Max(count, 1));
	OutboxHeaderReader reader;
	StringInfoData json;

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
