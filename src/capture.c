/* SPDX-License-Identifier: PostgreSQL
 *
 * capture.c
 *	  Trigger of the view outbox.outgoing: a plain INSERT is emit().
 *
 * Runs in application backends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "emit.h"
#include "event_headers.h"

/* Columns of the view, in its order. */
enum
{
	OUTGOING_TOPIC = 1,
	OUTGOING_KEY,
	OUTGOING_TYPE,
	OUTGOING_PAYLOAD,
	OUTGOING_HEADERS,
};

PG_FUNCTION_INFO_V1(outbox_capture);

/* INSTEAD OF INSERT ON outbox.outgoing FOR EACH ROW */
Datum
outbox_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	row;
	TupleDesc	desc;
	Datum		value;
	bool		isnull;
	OutboxEvent event = {0};
	pg_uuid_t	id;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_INSTEAD(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("outbox.capture() must be called by the trigger of view outbox.outgoing")));
	outbox_emit_check_context();

	row = trigger->tg_trigtuple;
	desc = trigger->tg_relation->rd_att;
	value = heap_getattr(row, OUTGOING_TOPIC, desc, &isnull);
	event.topic = isnull ? NULL : DatumGetTextPP(value);
	value = heap_getattr(row, OUTGOING_KEY, desc, &isnull);
	event.key = isnull ? NULL : outbox_emit_key(DatumGetTextPP(value));
	value = heap_getattr(row, OUTGOING_TYPE, desc, &isnull);
	event.type = isnull ? NULL : DatumGetTextPP(value);
	value = heap_getattr(row, OUTGOING_PAYLOAD, desc, &isnull);
	event.payload = isnull ? NULL : outbox_emit_jsonb(DatumGetJsonbP(value));
	value = heap_getattr(row, OUTGOING_HEADERS, desc, &isnull);
	event.headers = outbox_event_headers_from_jsonb(isnull ? NULL : DatumGetJsonbP(value));
	event.content_type = outbox_emit_json_type(event.payload);
	outbox_emit_store(&event, &id);
	return PointerGetDatum(row);
}
