/* SPDX-License-Identifier: PostgreSQL
 *
 * fingerprint.c
 *	  Which dead letters are of one kind.
 *
 * Runs in any backend, for each row of outbox.dead_letter that is written.  The rows of one refusal
 * have the same message, so the last answer is kept.
 */
#include "postgres.h"

#include "catalog/pg_collation_d.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "encoding.h"

#define FINGERPRINT_BYTES 8

PG_FUNCTION_INFO_V1(outbox_dead_letter_fingerprint);

/* The one given last: what it was made of, and its text. */
static char *last_source = NULL;
static char	 last_text[2 * FINGERPRINT_BYTES + 1];

static text *
replace_all(text *message, const char *pattern, const char *flags)
{
	return DatumGetTextPP(DirectFunctionCall4Coll(textregexreplace, C_COLLATION_OID,
												  PointerGetDatum(message),
												  CStringGetTextDatum(pattern),
												  CStringGetTextDatum("#"),
												  CStringGetTextDatum(flags)));
}

/* The message without quoted text, values of keys, uuids, hex, words with digits, and numbers. */
static char *
strip_message(const char *message)
{
	text *stripped = replace_all(cstring_to_text(message),
								 "\"[^\"]*\"|`[^`']*[`']|(?<!\\w)'[^']*'|=\\([^)]*\\)", "g");

	stripped = replace_all(stripped,
						   "\\m[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\M|\\m[0-9a-f]{8,}\\M|[-+]"
						   "?\\w*\\d\\w*([.,:]\\w*\\d\\w*)*",
						   "gi");
	return text_to_cstring(stripped);
}

static void
digest(const char *kind, char *dst)
{
	int				   len = (int) strlen(kind);
	/* alike in databases of all encodings */
	const char		  *bytes = outbox_encoding_utf8_shown(kind, &len);
	uint8			   hash[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) bytes, len) < 0 ||
		pg_cryptohash_final(context, hash, sizeof(hash)) < 0)
		elog(ERROR, "could not compute a fingerprint");
	pg_cryptohash_free(context);
	hex_encode((const char *) hash, FINGERPRINT_BYTES, dst);
	dst[2 * FINGERPRINT_BYTES] = '\0';
}

static const char *
get_argument(FunctionCallInfo fcinfo, int number, const char *missing)
{
	return PG_ARGISNULL(number) ? missing : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/*
 * dead_letter_fingerprint(consumer text, error_class text, sqlstate text, error_message text)
 * returns text
 */
Datum
outbox_dead_letter_fingerprint(PG_FUNCTION_ARGS)
{
	const char	  *message = get_argument(fcinfo, 3, NULL);
	StringInfoData kind;
	char		  *source;
	char		   made[sizeof(last_text)];

	initStringInfo(&kind);
	appendStringInfoString(&kind, get_argument(fcinfo, 0, "relay"));
	if (!PG_ARGISNULL(1))
		appendStringInfo(&kind, "\n%s", get_argument(fcinfo, 1, ""));
	appendStringInfo(&kind, "\n%s", get_argument(fcinfo, 2, ""));
	if (message == NULL)
	{
		digest(kind.data, made);
		PG_RETURN_TEXT_P(cstring_to_text(made));
	}
	source = psprintf("%s\n%s", kind.data, message);
	if (last_source == NULL || strcmp(source, last_source) != 0)
	{
		appendStringInfo(&kind, "\n%s", strip_message(message));
		digest(kind.data, made);
		if (last_source != NULL)
			pfree(last_source);
		last_source = NULL;
		last_source = MemoryContextStrdup(TopMemoryContext, source);
		strlcpy(last_text, made, sizeof(last_text));
	}
	PG_RETURN_TEXT_P(cstring_to_text(last_text));
}
