/* SPDX-License-Identifier: PostgreSQL
 *
 * dead_letter.c
 *	  What outbox.dead_letter_edit needs of C: the switch, the copy's id, size and headers.
 *
 * Runs in application backends, as the extension's owner.  The switch is read here and
 * not in SQL: without the library loaded, anybody could set a setting of that name.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "emit.h"
#include "event_headers.h"
#include "guc.h"
#include "uuidv7.h"

PG_FUNCTION_INFO_V1(outbox_dead_letter_copy_id);
PG_FUNCTION_INFO_V1(outbox_dead_letter_check_size);
PG_FUNCTION_INFO_V1(outbox_dead_letter_check_topic);
PG_FUNCTION_INFO_V1(outbox_headers_encode);

/* dead_letter_copy_id() returns uuid: a new event id; an error when editing is switched off */
Datum
outbox_dead_letter_copy_id(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	if (!outbox_guc_allow_dead_letter_edit)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("dead letters may not be edited"),
				 errdetail("\"%s\" is off.", "outbox.allow_dead_letter_edit"),
				 errhint("A superuser can switch it on for the server, a database or a role.")));
	outbox_uuidv7_make(id, GetCurrentTimestamp());
	PG_RETURN_UUID_P(id);
}

/*
 * dead_letter_check_size(bytes bigint, known bigint) returns void, STRICT: as emit() refuses an
 * event
 */
Datum
outbox_dead_letter_check_size(PG_FUNCTION_ARGS)
{
	outbox_emit_check_size(PG_GETARG_INT64(0), PG_GETARG_INT64(1));
	PG_RETURN_VOID();
}

/*
 * dead_letter_check_topic(topic text, key bytea, type text, payload bytea, content_type text,
 * headers bytea) returns void: an error if the topic does not take the event
 */
Datum
outbox_dead_letter_check_topic(PG_FUNCTION_ARGS)
{
	OutboxEvent event = {0};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		PG_RETURN_VOID(); /* of a consumer's topic nothing is declared */
	event.topic = PG_GETARG_TEXT_PP(0);
	event.key = PG_ARGISNULL(1) ? NULL : PG_GETARG_BYTEA_PP(1);
	event.type = PG_GETARG_TEXT_PP(2);
	event.payload = PG_ARGISNULL(3) ? NULL : PG_GETARG_BYTEA_PP(3);
	event.content_type = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	event.headers = PG_ARGISNULL(5) ? NULL : PG_GETARG_BYTEA_PP(5);
	outbox_emit_check_topic(&event);
	PG_RETURN_VOID();
}

/*
 * headers_encode(headers outbox.header[], own boolean) returns bytea: Kafka's encoding, NULL for
 * none.  own: refuses the names that the relay writes itself
 */
Datum
outbox_headers_encode(PG_FUNCTION_ARGS)
{
	bytea *encoded = outbox_event_headers_encode(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_BOOL(1));

	if (encoded == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(encoded);
}
