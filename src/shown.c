/* SPDX-License-Identifier: PostgreSQL
 *
 * shown.c
 *	  Bytes of records as people of this database see them, in views and functions.
 *
 * Runs in application backends, and in the relay where it words a message.  What lies in a record
 * is UTF-8 or anything else; whatever the bytes are, a view shows them and does not fail.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "encoding.h"
#include "shown.h"
#include "src/common/kafka_headers.h"
#include "src/common/utf8.h"

PG_FUNCTION_INFO_V1(outbox_bytes_text);
PG_FUNCTION_INFO_V1(outbox_headers_decode);
PG_FUNCTION_INFO_V1(outbox_headers_readable);
PG_FUNCTION_INFO_V1(outbox_name_text);
PG_FUNCTION_INFO_V1(outbox_cut_text);
PG_FUNCTION_INFO_V1(outbox_text_bytes);

text *
outbox_shown_bytes(const char *bytes, int length)
{
	StringInfoData hex;

	if (memchr(bytes, '\0', (size_t) length) == NULL && outbox_utf8_valid(bytes, (size_t) length))
		return cstring_to_text(outbox_encoding_shown(bytes, length));
	initStringInfo(&hex);
	appendStringInfoString(&hex, "\\x");
	enlargeStringInfo(&hex, length * 2); /* an error above 512 MB; below 2^31 for any bytea */
	hex.len += hex_encode(bytes, length, hex.data + hex.len);
	return cstring_to_text_with_len(hex.data, hex.len);
}

/* bytes_text(bytea): as text when it is UTF-8, else as \x and hex digits. */
Datum
outbox_bytes_text(PG_FUNCTION_ARGS)
{
	bytea *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(outbox_shown_bytes(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

static void
start_reading(OutboxHeaderReader *reader, const bytea *bytes)
{
	outbox_headers_read(reader, (const uint8_t *) VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/* headers_decode(bytea): the headers in Kafka's encoding as rows, in order. */
Datum
outbox_headers_decode(PG_FUNCTION_ARGS)
{
	ReturnSetInfo	  *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	InitMaterializedSRF(fcinfo, 0);
	start_reading(&reader, PG_GETARG_BYTEA_PP(0));
	while (outbox_headers_next(&reader, &header))
	{
		Datum  values[2];
		bool   nulls[2] = {false, header.value == NULL};
		bytea *value = palloc(VARHDRSZ + header.value_len);

		SET_VARSIZE(value, VARHDRSZ + header.value_len);
		if (header.value != NULL)
			memcpy(VARDATA(value), header.value, header.value_len);
		values[0] =
			CStringGetTextDatum(outbox_encoding_escaped(header.name, (int) header.name_len));
		values[1] = PointerGetDatum(value);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (reader.bad)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the bytes are not headers in Kafka's encoding")));
	PG_RETURN_NULL();
}

/* headers_readable(bytea) returns boolean: would headers_decode take them? */
Datum
outbox_headers_readable(PG_FUNCTION_ARGS)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	start_reading(&reader, PG_GETARG_BYTEA_PP(0));
	while (outbox_headers_next(&reader, &header))
		;
	PG_RETURN_BOOL(!reader.bad);
}

/*
 * name_text(name) returns text: a name of a shared catalog, which may be in another database's
 * encoding.
 */
Datum
outbox_name_text(PG_FUNCTION_ARGS)
{
	const char *name = NameStr(*PG_GETARG_NAME(0));

	PG_RETURN_TEXT_P(cstring_to_text(outbox_encoding_shown_here(name, (int) strlen(name))));
}

/*
 * cut_text(text, characters integer) returns text: left(), which in SQL_ASCII cuts inside a
 * character of UTF-8.
 */
Datum
outbox_cut_text(PG_FUNCTION_ARGS)
{
	text *given = PG_GETARG_TEXT_PP(0);
	int	  characters = Max(PG_GETARG_INT32(1), 0);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(VARDATA_ANY(given),
											  outbox_encoding_clip(VARDATA_ANY(given),
																   VARSIZE_ANY_EXHDR(given),
																   characters)));
}

/*
 * text_bytes(text) returns bytea: its UTF-8; what cannot become any is shown as \x and hex digits.
 */
Datum
outbox_text_bytes(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	int			len = VARSIZE_ANY_EXHDR(given);
	const char *bytes = outbox_encoding_utf8_shown(VARDATA_ANY(given), &len);

	PG_RETURN_BYTEA_P(cstring_to_text_with_len(bytes, len));
}
