/* SPDX-License-Identifier: PostgreSQL
 *
 * status.c
 *	  Functions under start_relay(), stop_relay(), adopt() and the views
 *	  relay_status, databases and backlog.
 *
 * Runs in application backends.
 */
#include "postgres.h"

#include "access/commit_ts.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "backlog.h"
#include "encoding.h"
#include "guc.h"
#include "kafka_settings.h"
#include "shmem.h"
#include "wake.h"

#define HIDDEN "<insufficient privilege>" /* as pg_stat_activity says it */

PG_FUNCTION_INFO_V1(outbox_check_start);
PG_FUNCTION_INFO_V1(outbox_ask_relay);
PG_FUNCTION_INFO_V1(outbox_server_identity);
PG_FUNCTION_INFO_V1(outbox_adopt);
PG_FUNCTION_INFO_V1(outbox_relay_slot);
PG_FUNCTION_INFO_V1(outbox_database_slots);

static void
require_preload(void)
{
	const char *libraries;

	if (outbox_shared != NULL)
		return;
	libraries = GetConfigOption("shared_preload_libraries", true, false);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("outbox is not loaded at server start"),
			 errdetail("The relay needs shared_preload_libraries to name outbox."),
			 errhint("Set shared_preload_libraries = '%s%soutbox' in postgresql.conf and restart "
					 "the server.",
					 libraries, libraries[0] != '\0' ? ", " : "")));
}

/*
 * check_start(): may start_relay() go on?  The genesis row must be written by the
 * top-level transaction, because its xmin proves where it was written.
 */
Datum
outbox_check_start(PG_FUNCTION_ARGS)
{
	OutboxKafkaSettings *settings;

	PreventCommandDuringRecovery("outbox.start_relay()");
	PreventCommandIfReadOnly("outbox.start_relay()");
	require_preload();
	if (SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.start_relay() cannot run in replica role"),
				 errdetail("Rows of outbox.batch written in this role are taken for another "
						   "server's, and dropped."),
				 errhint("RESET session_replication_role.")));
	if (GetCurrentTransactionNestLevel() != 1)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("outbox.start_relay() cannot run inside a subtransaction"),
				 errhint("Call it outside of savepoints and blocks with an EXCEPTION clause.")));
	settings = outbox_kafka_settings_read();
	if (!outbox_kafka_settings_complete(settings))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no Kafka brokers are set"),
				 errhint("Set outbox.kafka_properties = 'bootstrap.servers=host:9092' in "
						 "postgresql.conf and reload the server.")));
	outbox_kafka_settings_free(settings);
	if (outbox_shmem_slot() == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("outbox serves at most %d databases of a server", OUTBOX_MAX_DATABASES)));
	PG_RETURN_VOID();
}

/* ask_relay(): at commit the relay looks for replays to carry out, and for topics to hold. */
Datum
outbox_ask_relay(PG_FUNCTION_ARGS)
{
	outbox_wake_replay_at_commit();
	PG_RETURN_VOID();
}

/* server_identity(OUT timeline int, OUT system_id bigint, OUT database oid) */
Datum
outbox_server_identity(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Datum	  values[3];
	bool	  nulls[3] = {false, false, false};

	PreventCommandDuringRecovery("outbox.server_identity()");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	values[1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[2] = ObjectIdGetDatum(MyDatabaseId);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* adopt(decision text): ends a hold; the relay acts on it at once. */
Datum
outbox_adopt(PG_FUNCTION_ARGS)
{
	char		  *decision;
	OutboxAdoption adoption;
	OutboxSlot	  *slot;
	bool		   held = false;
	bool		   by_owner = false;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("decision of outbox.adopt must not be null"),
				 errhint("Decisions are \"resend\" and \"skip\".")));
	decision = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strcmp(decision, "resend") == 0)
		adoption = OUTBOX_ADOPT_RESEND;
	else if (strcmp(decision, "skip") == 0)
		adoption = OUTBOX_ADOPT_SKIP;
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown decision \"%s\"", decision),
				 errhint("Decisions are \"resend\" and \"skip\".")));

	slot = outbox_shmem_slot_of(MyDatabaseId, false);
	if (slot != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		by_owner = slot->status.held_by_owner;
		held = slot->status.state == OUTBOX_RELAY_HOLD && !by_owner;
		if (held)
			slot->adopt = adoption;
		SpinLockRelease(&slot->mutex);
	}
	if (by_owner)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("objects of the extension do not belong to its owner"),
				 errhint("See hold_reason in outbox.relay_status; the relay goes on when they "
						 "do.")));
	if (!held)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the relay of this database is not on hold"),
				 errhint("See state in outbox.relay_status.")));
	outbox_shmem_wake(&slot->relay_proc);
	PG_RETURN_VOID();
}

/* A text of shared memory, in this database's encoding. */
static void
put_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text[0] == '\0';
	if (!*isnull)
		*value = CStringGetTextDatum(outbox_encoding_shown(text, (int) strlen(text)));
}

static void
put_time(Datum *value, bool *isnull, TimestampTz time)
{
	*isnull = time == 0;
	*value = TimestampTzGetDatum(time);
}

static void
put_pid(Datum *value, bool *isnull, int pid)
{
	*isnull = pid == 0;
	*value = Int32GetDatum(pid);
}

/*
 * Copies the slot's status; returns the state to be shown.  A relay that a command keeps away
 * is "suspended", and hold_reason names the command.  Caller does not hold the lock.
 */
static const char *
copy_status(OutboxSlot *slot, OutboxRelayStatus *status, Oid *database, bool *wanted)
{
	const OutboxWorker *worker = &slot->workers[OUTBOX_KIND_RELAY][0];
	bool				suspended;

	LWLockAcquire(outbox_shared->lock, LW_SHARED);
	*database = slot->database;
	*wanted = worker->wanted;
	SpinLockAcquire(&slot->mutex);
	memcpy(status, &slot->status, sizeof(*status));
	SpinLockRelease(&slot->mutex);
	suspended = worker->state == OUTBOX_WORKER_SUSPENDED && worker->wanted && worker->pid == 0;
	if (suspended && slot->suspender_pid != 0)
		snprintf(status->hold_reason, OUTBOX_TEXT_SIZE,
				 "suspended by %s of process %d until its transaction ends", slot->suspender,
				 slot->suspender_pid);
	else if (suspended)
		strlcpy(status->hold_reason, "suspended by a command until its transaction ends",
				OUTBOX_TEXT_SIZE);
	LWLockRelease(outbox_shared->lock);
	return suspended ? "suspended" : outbox_relay_state_name(status->state);
}

#define RELAY_SLOT_COLUMNS 25

/* Columns in the order of relay_slot()'s OUT arguments. */
static void
fill_relay_slot(OutboxRelayStatus *status, const char *state, Datum *values, bool *nulls)
{
	const OutboxLastError *error = outbox_shmem_last_error(status);
	bool				   runs = status->pid != 0;

	values[0] = CStringGetTextDatum(state);
	put_text(&values[1], &nulls[1], status->hold_reason);
	put_pid(&values[2], &nulls[2], status->pid);
	put_pid(&values[3], &nulls[3], status->sender_pid);
	nulls[4] = status->delivered_batch < 0;
	values[4] = Int64GetDatum(status->delivered_batch);
	values[5] = Int64GetDatum(status->events_sent);
	values[6] = Int64GetDatum(status->bytes_sent);
	values[7] = Int64GetDatum(status->batches_sent);
	values[8] = Int64GetDatum(status->events_refused);
	values[9] = Int64GetDatum(status->recoveries);
	values[10] = Int64GetDatum(status->suspect_transactions);
	values[11] = Int64GetDatum(status->possibly_doubled);
	values[12] = Int64GetDatum(status->refusal_rounds);
	values[13] = Int64GetDatum(status->rotations);
	values[14] = Int64GetDatum(status->rotations_refused);
	put_time(&values[15], &nulls[15], status->started_at);
	put_time(&values[16], &nulls[16], status->delivered_at);
	put_text(&values[17], &nulls[17], error->text);
	put_time(&values[18], &nulls[18], error->at);
	values[19] = CStringGetTextDatum(outbox_guc_delivery_name(runs ? status->delivery :
																	 outbox_guc_delivery));
	values[20] =
		CStringGetTextDatum((runs ? status->commit_order : track_commit_timestamp) ? "commit" :
																					 "seq");
	put_text(&values[21], &nulls[21], status->kafka);
	values[22] = BoolGetDatum(outbox_guc_relay);
	put_time(&values[24], &nulls[24], error->recovered_at);
}

/* relay_slot(): the relay's shared status, one row. */
Datum
outbox_relay_slot(PG_FUNCTION_ARGS)
{
	OutboxSlot		  *slot = outbox_shmem_slot_of(MyDatabaseId, false);
	OutboxRelayStatus *status = palloc0(sizeof(OutboxRelayStatus));
	TupleDesc		   desc;
	Datum			   values[RELAY_SLOT_COLUMNS] = {0};
	bool			   nulls[RELAY_SLOT_COLUMNS] = {0};
	const char		  *state = outbox_relay_state_name(OUTBOX_RELAY_STOPPED);
	Oid				   database;
	bool			   wanted;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != RELAY_SLOT_COLUMNS)
		elog(ERROR, "return type must be a row of %d columns", RELAY_SLOT_COLUMNS);
	status->delivered_batch = -1;
	if (slot != NULL)
		state = copy_status(slot, status, &database, &wanted);
	if (RecoveryInProgress())
		state = "standby";
	else if (outbox_shared == NULL)
		state = "not preloaded";
	fill_relay_slot(status, state, values, nulls);
	/* what the primary has delivered, or nobody counts, is not known */
	nulls[23] = outbox_shared == NULL || RecoveryInProgress();
	values[23] = Int64GetDatum(slot == NULL ? 0 : outbox_backlog_bytes(slot));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

#define DATABASE_SLOTS_COLUMNS 11

/*
 * What another database's relay said may hold its keys: it is for who may see all of the
 * server.  That there is something is for everybody.
 */
static void
hide_texts(Oid database, OutboxRelayStatus *status)
{
	OutboxLastError *error = outbox_shmem_last_error(status);

	if (database == MyDatabaseId || has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS))
		return;
	if (error->text[0] != '\0')
		strlcpy(error->text, HIDDEN, OUTBOX_TEXT_SIZE);
	if (status->hold_reason[0] != '\0')
		strlcpy(status->hold_reason, HIDDEN, OUTBOX_TEXT_SIZE);
}

/* The row of one slot; false when no database has it. */
static bool
fill_database_slot(OutboxSlot *slot, OutboxRelayStatus *status, Datum *values, bool *nulls)
{
	Oid					   database;
	bool				   wanted;
	const char			  *state = copy_status(slot, status, &database, &wanted);
	const OutboxLastError *error = outbox_shmem_last_error(status);

	if (!OidIsValid(database))
		return false;

	hide_texts(database, status);
	values[0] = ObjectIdGetDatum(database);
	values[1] = BoolGetDatum(wanted);
	values[2] = CStringGetTextDatum(state);
	put_text(&values[3], &nulls[3], status->hold_reason);
	put_pid(&values[4], &nulls[4], status->pid);
	put_pid(&values[5], &nulls[5], status->sender_pid);
	put_time(&values[6], &nulls[6], (TimestampTz) pg_atomic_read_u64(&slot->waiting_since));
	put_time(&values[7], &nulls[7], status->delivered_at);
	put_text(&values[8], &nulls[8], error->text);
	put_time(&values[9], &nulls[9], error->at);
	put_time(&values[10], &nulls[10], error->recovered_at);
	return true;
}

/* database_slots(): what shared memory knows of the server's databases. */
Datum
outbox_database_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo	  *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OutboxRelayStatus *status = palloc(sizeof(OutboxRelayStatus));

	InitMaterializedSRF(fcinfo, 0);
	if (outbox_shared == NULL)
		PG_RETURN_NULL();
	if (result->setDesc->natts != DATABASE_SLOTS_COLUMNS)
		elog(ERROR, "return type must be rows of %d columns", DATABASE_SLOTS_COLUMNS);
	for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
	{
		Datum values[DATABASE_SLOTS_COLUMNS] = {0};
		bool  nulls[DATABASE_SLOTS_COLUMNS] = {0};

		if (fill_database_slot(&outbox_shared->slots[i], status, values, nulls))
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}
