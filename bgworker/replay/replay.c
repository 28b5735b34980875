/* SPDX-License-Identifier: PostgreSQL
 *
 * replay.c
 *	  Carries out outbox.replay(): one job at a time, in steps between the
 *	  relay's own work.
 *
 * Runs in the relay.  A step is one short transaction (I5) that writes copies into outbox.event and
 * the job's position into outbox.replay_job: each copy exists exactly once, whatever crashes.
 * Copies are ordinary events, so I1 to I4 carry them to Kafka.  The next step waits until the
 * copies of the last one are in a batch and the backlog is small: live events never wait for more
 * than a step.  An error ends the job, not the relay.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

#include "replay.h"
#include "replay_copy.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/backlog.h"
#include "src/clock.h"
#include "src/fault.h"
#include "src/leaf.h"

#define STEP_EVENTS	   1000	  /* copies of one transaction, at most */
#define PLAN_EVENTS	   131072 /* places kept in memory: 8 MB while scanning */
#define BACKLOG_EVENTS 10000  /* of the window that is being sent; with more, a replay waits */
#define LOCKED_MS	   200	  /* until a lock somebody holds is tried again */
#define ERROR_MS	   5000	  /* until a step is tried again after an error that may pass */

typedef enum ReplayPhase
{
	PHASE_NONE, /* no job */
	PHASE_SCAN, /* the plan is being made */
	PHASE_COPY,
} ReplayPhase;

static ReplayPhase		phase = PHASE_NONE;
static bool				looked = false; /* at outbox.replay_job, since this process started */
static uint32			seen_replays;	/* OutboxSlot.replays at that look */
static MemoryContext	job_context;	/* job and plan */
static OutboxReplayJob	job;
static OutboxReplayPlan plan;
static OutboxReplayScan scan;
static int64			due_us;		 /* next step, by outbox_clock_now() */
static uint64			copies_txid; /* of the last step, 0 = none */

static void
wait_for_lock(void)
{
	due_us = outbox_clock_now() + LOCKED_MS * 1000;
}

/* Begins a transaction; false: none, somebody has locked the jobs, try again later. */
static bool
begin_step(void)
{
	outbox_session_begin();
	if (ConditionalLockRelationOid(outbox_leaf_named_relation("replay_job"), RowExclusiveLock))
		return true;
	outbox_session_end();
	wait_for_lock();
	return false;
}

/* ------------------------------------------------------------------ job */

#define JOB_QUERY \
	"SELECT j.id, j.id::text, j.created_from, j.created_to, j.topic, j.type, " \
	"j.key, j.target_topic, convert_to(j.consumer, 'UTF8'), j.reprocess, j.rate, " \
	"j.snapshot::text, j.txid, j.timed_from, " \
	"j.done_rank, j.done_order, j.done_txid, j.done_seq " \
	"FROM outbox.replay_job j JOIN outbox.installation i ON i.id = j.installation " \
	"WHERE j.state = 'running' ORDER BY j.created_at, j.id LIMIT 1"

static Datum
get_field(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

static uint64
get_txid(int column)
{
	return outbox_session_txid(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/* A copy of a varlena field in the current context; NULL for NULL. */
static void *
copy_varlena(int column)
{
	bool  isnull;
	Datum value = get_field(column, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

static void
add_header(const char *name, const char *value, size_t len)
{
	OutboxHeader *header = &job.headers[job.header_count++];

	header->name = name;
	header->name_len = strlen(name);
	header->value = (const uint8_t *) value;
	header->value_len = len;
}

static void
read_position(void)
{
	bool isnull;

	memset(&plan, 0, sizeof(plan));
	plan.limit = PLAN_EVENTS;
	plan.entries = palloc(sizeof(OutboxEntry) * 2 * PLAN_EVENTS);
	plan.after.rank = (uint8) DatumGetInt16(get_field(15, &isnull));
	plan.begun = !isnull;
	if (!plan.begun)
		return;
	plan.after.order = DatumGetInt64(get_field(16, &isnull));
	plan.after.txid = get_txid(17);
	plan.after.seq = DatumGetInt64(get_field(18, &isnull));
}

/* From the row of JOB_QUERY; the current context is the job's. */
static void
read_job(void)
{
	bool   isnull;
	bytea *consumer;

	memset(&job, 0, sizeof(job));
	job.id =
		UUIDPGetDatum(memcpy(palloc(UUID_LEN), DatumGetUUIDP(get_field(1, &isnull)), UUID_LEN));
	job.id_text = pstrdup(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2));
	job.created_from = DatumGetTimestampTz(get_field(3, &isnull));
	job.created_to = DatumGetTimestampTz(get_field(4, &isnull));
	job.topic = copy_varlena(5);
	job.type = copy_varlena(6);
	job.key = copy_varlena(7);
	job.target_topic = copy_varlena(8);
	consumer = copy_varlena(9);
	add_header(OUTBOX_REPLAY_ID_HEADER, job.id_text, strlen(job.id_text));
	if (consumer != NULL)
		add_header(OUTBOX_REPLAY_GROUP_HEADER, VARDATA_ANY(consumer), VARSIZE_ANY_EXHDR(consumer));
	if (DatumGetBool(get_field(10, &isnull)))
		add_header(OUTBOX_REPLAY_MODE_HEADER, OUTBOX_REPLAY_REPROCESS,
				   strlen(OUTBOX_REPLAY_REPROCESS));
	job.rate = DatumGetInt32(get_field(11, &isnull));
	outbox_snapshot_parse(SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 12),
						  CurrentMemoryContext, &job.snapshot);
	job.txid = get_txid(13);
	job.timed_from = get_txid(14);
	read_position();
}

static void
forget_job(void)
{
	phase = PHASE_NONE;
	looked = false; /* there may be another one */
	MemoryContextReset(job_context);
}

/* Takes the oldest running job, if any. */
static void
look_for_job(OutboxSlot *slot)
{
	MemoryContext previous;

	if (job_context == NULL)
		job_context =
			AllocSetContextCreate(TopMemoryContext, "outbox replay", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(job_context);
	seen_replays = pg_atomic_read_u32(&slot->replays);
	if (!begin_step())
		return;
	looked = true;
	if (SPI_execute(JOB_QUERY, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.replay_job");
	if (SPI_processed > 0)
	{
		previous = MemoryContextSwitchTo(job_context);
		read_job();
		MemoryContextSwitchTo(previous);
		outbox_replay_scan_start(&scan, &plan);
		if (!plan.begun)
			job.timed_from = scan.timed_from;
		due_us = outbox_clock_now();
		phase = PHASE_SCAN;
	}
	outbox_session_end();
	if (phase != PHASE_NONE)
		ereport(LOG,
				(errmsg("outbox replay %s: %s", job.id_text, plan.begun ? "goes on" : "begins")));
}

/* Inside a transaction.  Has nobody stopped the job?  *locked: somebody is about to. */
static bool
lock_job(bool *locked)
{
	Oid	  types[1] = {UUIDOID};
	Datum values[1] = {job.id};

	*locked = false;
	if (SPI_execute_with_args("SELECT FROM outbox.replay_job j JOIN outbox.installation i ON i.id "
							  "= j.installation "
							  "WHERE j.id = $1 AND j.state = 'running' FOR UPDATE OF j SKIP LOCKED",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not lock a row of outbox.replay_job");
	if (SPI_processed > 0)
		return true;
	if (SPI_execute_with_args("SELECT FROM outbox.replay_job j JOIN outbox.installation i ON i.id "
							  "= j.installation "
							  "WHERE j.id = $1 AND j.state = 'running'",
							  1, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.replay_job");
	*locked = SPI_processed > 0;
	return false;
}

/* Inside a transaction.  Writes down what it has done of the plan. */
static void
store_position(const OutboxReplayDone *done)
{
	const OutboxEntry *entry = &plan.entries[plan.next + done->taken - 1];
	Oid				   types[9] = {UUIDOID, INT8OID, INT2OID, INT8OID, XID8OID,
								   INT8OID, XID8OID, INT8OID, TEXTOID};
	Datum			   values[9] = {
		job.id,
		Int64GetDatum(done->taken - done->held),
		Int16GetDatum(entry->rank),
		Int64GetDatum(entry->order),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(entry->txid)),
		Int64GetDatum(entry->seq),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(job.timed_from)),
		Int64GetDatum(done->held),
		PointerGetDatum(done->held_topic),
	};
	char nulls[10] = "        n";

	if (done->held > 0)
		nulls[8] = ' ';
	if (SPI_execute_with_args("UPDATE outbox.replay_job SET replayed = replayed + $2, done_rank = "
							  "$3, "
							  "done_order = $4, done_txid = $5, done_seq = $6, timed_from = $7, "
							  "held = held + $8, held_topics = CASE WHEN $9 IS NULL "
							  "OR $9 = ANY (held_topics) THEN held_topics "
							  "ELSE held_topics || $9 END, "
							  "started_at = coalesce(started_at, clock_timestamp()) WHERE id = $1",
							  9, types, values, nulls, false, 0) != SPI_OK_UPDATE ||
		SPI_processed != 1)
		elog(ERROR, "could not update outbox.replay_job");
}

/* Inside a transaction.  state: done or failed; error NULL: what is missing, if anything. */
static void
store_end(const char *state, const char *error)
{
	Oid	  types[3] = {UUIDOID, TEXTOID, TEXTOID};
	Datum values[3] = {job.id, CStringGetTextDatum(state),
					   error != NULL ? CStringGetTextDatum(error) : (Datum) 0};
	char  nulls[4] = {' ', ' ', error != NULL ? ' ' : 'n', '\0'};

	if (SPI_execute_with_args("UPDATE outbox.replay_job SET state = $2, finished_at = "
							  "clock_timestamp(), "
							  "last_error = coalesce($3, nullif(concat_ws('; ', "
							  "CASE WHEN held > 0 THEN format('%s events are held with topic %s', "
							  "held, array_to_string(held_topics, ', ')) END, "
							  "CASE WHEN replayed + held < total THEN "
							  "format('%s events were no longer retained', "
							  "total - replayed - held) END), '')) "
							  "WHERE id = $1 AND state = 'running'",
							  3, types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update outbox.replay_job");
}

/* ---------------------------------------------------------------- steps */

static void
run_scan(void)
{
	bool finished;

	outbox_session_begin();
	finished = outbox_replay_scan(&job, &scan, &plan);
	outbox_session_end();
	if (finished)
		phase = PHASE_COPY;
}

/* Everything planned is copied: plan the rest, or end. */
static void
run_end(void)
{
	bool locked;

	if (plan.truncated)
	{
		outbox_replay_scan_start(&scan, &plan);
		phase = PHASE_SCAN;
		return;
	}
	if (!begin_step())
		return;
	if (lock_job(&locked))
		store_end("done", NULL);
	outbox_session_end();
	if (locked)
	{
		wait_for_lock();
		return;
	}
	ereport(LOG, (errmsg("outbox replay %s: ended", job.id_text)));
	forget_job();
}

/* Inside a transaction.  A step of the plan; the transaction of its copies, 0: there are none. */
static uint64
copy_step(const OutboxReplayTurn *turn, OutboxReplayDone *done)
{
	OutboxReplayHolds holds;

	outbox_replay_holds_load(&holds, turn->last);
	outbox_replay_copy(&job, &scan, &plan, &holds, outbox_replay_slice(job.rate, STEP_EVENTS),
					   done);
	if (done->taken == 0)
		return 0;
	store_position(done);
	return done->taken > done->held ? U64FromFullTransactionId(GetTopFullTransactionId()) : 0;
}

/* true: there are new events. */
static bool
run_copy(const OutboxReplayTurn *turn)
{
	int64			 now_us = outbox_clock_now();
	OutboxReplayDone done = {0};
	uint64			 txid = 0;
	bool			 locked;
	bool			 mine;

	if (!begin_step())
		return false;
	mine = lock_job(&locked);
	if (mine)
		txid = copy_step(turn, &done);
	OUTBOX_FAULT_WHEN(txid != 0, "replay-uncommitted");
	outbox_session_end();
	OUTBOX_FAULT_WHEN(txid != 0, "replay-committed");

	if (locked || done.locked)
		wait_for_lock();
	else if (!mine)
		forget_job();
	if (txid != 0)
	{
		copies_txid = txid;
		outbox_backlog_take(turn->slot, -done.bytes);
		due_us = outbox_replay_next_due(due_us, now_us, done.taken - done.held, job.rate);
	}
	outbox_replay_plan_advance(&plan, done.taken);
	if (done.stale)
	{
		outbox_replay_scan_start(&scan, &plan);
		phase = PHASE_SCAN;
	}
	return txid != 0;
}

static OutboxReplayOutcome
run_phase(const OutboxReplayTurn *turn)
{
	if (phase == PHASE_NONE)
		look_for_job(turn->slot);
	else if (phase == PHASE_SCAN)
		run_scan();
	else if (plan.next >= plan.count)
		run_end();
	else if (run_copy(turn))
		return OUTBOX_REPLAY_COPIED;
	return OUTBOX_REPLAY_WORKED;
}

/* Errors that may be gone at the next try, as services/runtime tells them apart. */
static bool
may_pass(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_INSUFFICIENT_RESOURCES ||
		category == ERRCODE_OPERATOR_INTERVENTION || category == ERRCODE_TRANSACTION_ROLLBACK ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

static void
end_after_error(const char *message)
{
	bool locked;

	due_us = outbox_clock_now() + ERROR_MS * INT64CONST(1000);
	if (!begin_step())
		return;
	if (lock_job(&locked))
	{
		ereport(LOG, (errmsg("outbox replay %s failed: %s", job.id_text, message)));
		store_end("failed", message);
	}
	outbox_session_end();
	if (!locked)
		forget_job();
}

/* After an error of a step: the transaction is over, the relay goes on. */
static void
recover(MemoryContext scratch)
{
	ErrorData *error = outbox_session_recover(scratch);

	if (phase != PHASE_NONE && !may_pass(error->sqlerrcode))
	{
		end_after_error(error->message);
		return;
	}
	ereport(LOG, (errmsg("outbox replay is put off: %s", error->message)));
	looked = phase != PHASE_NONE;
	due_us = outbox_clock_now() + ERROR_MS * INT64CONST(1000);
}

/* ------------------------------------------------------------ interface */

/* Are the copies of the last step in a batch? */
static bool
is_batched(const OutboxRange *last)
{
	return copies_txid == 0 || copies_txid == last->upper_at.txid ||
		outbox_snapshot_sees(&last->upper, copies_txid);
}

static bool
may_work(const OutboxReplayTurn *turn)
{
	if (!turn->delivering)
		return false;
	if (phase == PHASE_NONE)
		return !looked || seen_replays != pg_atomic_read_u32(&turn->slot->replays);
	return is_batched(turn->last) && turn->waiting <= BACKLOG_EVENTS;
}

OutboxReplayOutcome
outbox_replay_step(const OutboxReplayTurn *turn)
{
	volatile OutboxReplayOutcome outcome = OUTBOX_REPLAY_WORKED;

	if (!may_work(turn) || outbox_clock_now() < due_us)
		return OUTBOX_REPLAY_NOTHING;
	PG_TRY();
	{
		outcome = run_phase(turn);
	}
	PG_CATCH();
	{
		recover(turn->scratch);
	}
	PG_END_TRY();
	return outcome;
}

long
outbox_replay_wait(const OutboxReplayTurn *turn)
{
	int64 left_us;

	if (!may_work(turn))
		return LONG_MAX;
	left_us = due_us - outbox_clock_now();
	return left_us > 0 ? (long) (left_us / 1000 + 1) : 1;
}
