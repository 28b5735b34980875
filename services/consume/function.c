/* SPDX-License-Identifier: PostgreSQL
 *
 * function.c
 *	  The setting function: read as SQL reads a name, quoted in the statement,
 *	  looked up in the database before anything starts.
 *
 * Runs in outbox-consume at start, main thread.
 */
#define _GNU_SOURCE
#include "function.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define NAME_SIZE		 64 /* PostgreSQL's NAMEDATALEN */
#define START_TIMEOUT_MS 5000

static const char call_form[] =
	"SELECT %s(ROW($1::uuid, $2::text, $3::text, $4::integer, $5::bigint, $6::%s, $7::%s,"
	" outbox.consumed_headers($8::bytea), outbox.wire_text($9::bytea, 256), "
	"pg_catalog.to_timestamp($10::float8), $11::uuid)::%s)";

/* Why the function cannot be called, or NULL: $1 schema, $2 function, $3 type of its argument. */
static const char look_up_sql[] =
	"WITH named AS (SELECT p.*,"
	" p.pronargs = 1 AND p.proargtypes[0] = pg_catalog.to_regtype($3)::pg_catalog.oid AS fits"
	" FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
	" WHERE n.nspname = $1 AND p.proname = $2)"
	" SELECT CASE"
	" WHEN pg_catalog.to_regtype($3) IS NULL THEN"
	"  pg_catalog.format('the database has no type %s: it needs this version of the extension "
	"outbox', $3)"
	" WHEN NOT EXISTS (SELECT FROM named) THEN"
	"  pg_catalog.format('function %I.%I(%s) does not exist', $1, $2, $3)"
	" WHEN NOT EXISTS (SELECT FROM named f WHERE f.fits) THEN"
	"  pg_catalog.format('function %I.%I takes (%s), not (%s)', $1, $2,"
	"   (SELECT pg_catalog.pg_get_function_identity_arguments(f.oid) FROM named f ORDER BY f.oid "
	"LIMIT 1), $3)"
	" WHEN NOT EXISTS (SELECT FROM named f WHERE f.fits AND f.prokind = 'f' AND NOT f.proretset"
	"   AND f.prorettype = 'pg_catalog.text'::pg_catalog.regtype) THEN"
	"  pg_catalog.format('%I.%I(%s) is not a function that returns one text', $1, $2, $3)"
	" WHEN NOT pg_catalog.has_schema_privilege($1, 'USAGE') THEN"
	"  pg_catalog.format('role %I has no USAGE on schema %I', current_user, $1)"
	" WHEN NOT EXISTS (SELECT FROM named f WHERE f.fits AND "
	"pg_catalog.has_function_privilege(f.oid, 'EXECUTE')) THEN"
	"  pg_catalog.format('role %I has no EXECUTE on function %I.%I(%s)', current_user, $1, $2, $3)"
	" END";

/* Is the byte fit for an identifier without quotes? */
static bool
is_word(char letter, bool first)
{
	unsigned char byte = (unsigned char) letter;

	return byte >= 0x80 || byte == '_' || isalpha(byte) ||
		(!first && (isdigit(byte) || byte == '$'));
}

/*
 * Reads one identifier as SQL does: ASCII letters to lower case, or as written between
 * double quotes.  Returns what follows it, or NULL: there is none, or it is too long.
 */
static const char *
read_identifier(const char *text, char name[NAME_SIZE])
{
	bool   quoted = *text == '"';
	size_t used = 0;

	if (quoted)
		text++;
	else if (!is_word(*text, true))
		return NULL;
	while (quoted ? (*text != '\0' && (*text != '"' || text[1] == '"')) : is_word(*text, false))
	{
		if (used == NAME_SIZE - 1)
			return NULL;
		text += quoted && *text == '"'; /* two of them are one */
		name[used++] =
			quoted || (unsigned char) *text >= 0x80 ? *text : (char) tolower((unsigned char) *text);
		text++;
	}
	name[used] = '\0';
	if (quoted)
		return *text == '"' && used > 0 ? text + 1 : NULL;
	return text;
}

static bool
read_name(const char *text, char schema[NAME_SIZE], char function[NAME_SIZE])
{
	text = read_identifier(text, schema);
	if (text == NULL || *text != '.')
		return false;
	text = read_identifier(text + 1, function);
	return text != NULL && *text == '\0';
}

bool
consume_check_function(const char *value, char *error, size_t size)
{
	char schema[NAME_SIZE];
	char function[NAME_SIZE];

	if (read_name(value, schema, function))
		return true;
	snprintf(error, size, "not of the form schema.function");
	return false;
}

/* Writes name between double quotes; returns the end. */
static char *
put_quoted(char *end, const char *name)
{
	*end++ = '"';
	for (; *name != '\0'; name++)
	{
		if (*name == '"')
			*end++ = '"';
		*end++ = *name;
	}
	*end++ = '"';
	return end;
}

static const char *
type_of_argument(bool bytes)
{
	return bytes ? "outbox.consumed_bytes" : "outbox.consumed_event";
}

const char *
consume_make_sql(const char *function, bool bytes)
{
	char  names[2][NAME_SIZE];
	char  quoted[4 * NAME_SIZE + 8];
	char *end;
	char *sql;

	if (!read_name(function, names[0], names[1]))
		abort(); /* the setting was checked */
	end = put_quoted(quoted, names[0]);
	*end++ = '.';
	*put_quoted(end, names[1]) = '\0';
	if (asprintf(&sql, call_form, quoted, bytes ? "bytea" : "text", bytes ? "bytea" : "jsonb",
				 type_of_argument(bytes)) < 0)
		abort();
	return sql;
}

bool
consume_check_database(const char *conninfo, const char *function, bool bytes)
{
	char		names[2][NAME_SIZE];
	const char *values[3] = {names[0], names[1], type_of_argument(bytes)};
	OutboxDb	db;
	PGresult   *result = NULL;
	bool		good = true;

	if (!read_name(function, names[0], names[1]) ||
		!outbox_db_open(&db, conninfo, START_TIMEOUT_MS))
		abort();
	if (outbox_db_connect(&db))
		result = outbox_db_query(&db, look_up_sql, 3, values);
	if (result == NULL)
	{
		good = db.error.failure == OUTBOX_FAILURE_INFRASTRUCTURE;
		outbox_log(good ? OUTBOX_LOG_WARNING : OUTBOX_LOG_ERROR, "function_not_checked", "%s",
				   db.error.message);
	}
	else if (!PQgetisnull(result, 0, 0))
	{
		good = false;
		outbox_log(OUTBOX_LOG_ERROR, "function_refused", "%s", PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	outbox_db_close(&db);
	return good;
}
