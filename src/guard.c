/* SPDX-License-Identifier: PostgreSQL
 *
 * guard.c
 *	  Triggers that keep outbox.event, outbox.batch and outbox.audit insert-only and local.
 *
 * Runs in application backends and in apply workers of logical replication.
 * emit() and the relay's rotation work below triggers.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/logicalworker.h"
#include "replication/origin.h"
#include "utils/rel.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(outbox_refuse_change);
PG_FUNCTION_INFO_V1(outbox_drop_replicated);

static TriggerData *
take_trigger(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function was not called by the trigger manager")));
	return (TriggerData *) fcinfo->context;
}

/* Statement trigger: the relay would lose or double what is changed, an audit would lie. */
Datum
outbox_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = take_trigger(fcinfo);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is insert-only", RelationGetRelationName(trigger->tg_relation)),
			 errdetail("Its rows say what was emitted, sent or decided; they stay as they were "
					   "written."),
			 errhint("The relay frees the space of events older than outbox.retention.")));
	PG_RETURN_NULL();
}

/* What a session in replica role does with dead letters and replays is of this server. */
static bool
is_audit_of_a_session(const TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_INSERT(trigger->tg_event) &&
		strcmp(RelationGetRelationName(trigger->tg_relation), "audit") == 0 && !IsLogicalWorker() &&
		!outbox_compat_applies();
}

/* What a row trigger returns so that the command goes on. */
static HeapTuple
get_row(const TriggerData *trigger)
{
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple :
														trigger->tg_trigtuple;
}

/*
 * Row trigger, ENABLE REPLICA: rows of another server carry its transaction numbers, which mean
 * something else here; that server relays them.  ENABLE TRIGGER ALL makes it fire for rows of this
 * server, which are kept.
 */
Datum
outbox_drop_replicated(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = take_trigger(fcinfo);
	bool		 keeps = SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA ||
		is_audit_of_a_session(trigger);

	return PointerGetDatum(keeps ? get_row(trigger) : NULL);
}
