/* SPDX-License-Identifier: PostgreSQL
 *
 * release.c
 *	  Releases topics that were held apart, in steps between the relay's own work.
 *
 * Runs in the relay.  A step is one short transaction (I5) with copies and their row of
 * outbox.topic_hold_copy: each copy exists exactly once, whatever crashes.  What was kept in memory
 * between two steps is given up after an error, and when the rows say something else.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "copy.h"
#include "held_events.h"
#include "release.h"
#include "release_plan.h"
#include "release_rows.h"
#include "bgworker/session.h"
#include "src/backlog.h"
#include "src/clock.h"
#include "src/fault.h"
#include "src/guc.h"
#include "src/leaf.h"

#define STEP_EVENTS	   1000
#define STEP_BYTES	   (1024 * 1024)
#define STEP_ENTRIES   5000 /* looked at in one transaction, of all topics */
#define UNSENT_STEPS   5	/* copies in no batch, while the pace is not known */
#define LAST_EVENTS	   5000
#define LAST_BYTES	   (4 * 1024 * 1024)
#define BACKLOG_EVENTS 10000 /* of the window that is being sent; with more, a release waits */
#define LOCKED_MS	   200	 /* until a lock somebody holds is tried again */
#define ERROR_MS	   2000	 /* until a step is tried again after an error */
#define DELETED_ROWS   5000	 /* of one transaction */
#define CURSOR_LAG_MS  2000	 /* at_least_once: twice of what the sender lets its cursor be behind */

/* The release that is under way; hold 0: none is known. */
typedef struct Release
{
	OutboxReleaseRow row;
	OutboxHeldEvents events;
	OutboxCopiesList copies;	/* those that may be in no batch */
	int64			 rested_at; /* batch at which few events were left: they wait for its end */
	int64			 left;		/* events, when they were counted last, less what was copied */
} Release;

/* What one transaction has copied. */
typedef struct StepDone
{
	OutboxCopiesRow row;
	int64			first_batch;
	bool			stale; /* a leaf was emptied or rewritten */
} StepDone;

static Release			 release;
static bool				 made = false;
static bool				 failing = false; /* the last step ended with an error */
static OutboxReleasePace pace;
static int64			 due_us; /* next look or step, by outbox_clock_now() */

/* A hold that has ended, whose rows are to go; hold 0: none is known. */
typedef struct EndedHold
{
	int64  hold;
	uint64 txid;	   /* of its end */
	int64  settled_us; /* at_least_once: a batch stored later proves the cursor; 0: not known yet */
	int64  proof_batch; /* that one; 0: not known yet */
} EndedHold;

static EndedHold over;
static bool		 look_for_ended = true;
static int64	 failed_hold; /* the last step of this one ended with an error; 0: none */

static void
put_off(int ms)
{
	due_us = outbox_clock_now() + ms * INT64CONST(1000);
}

static void
forget(void)
{
	if (made)
		outbox_held_events_stop(&release.events);
	release.row.hold = 0;
	release.copies.count = 0;
	release.rested_at = release.left = 0;
}

void
outbox_release_forget(void)
{
	forget();
	over.settled_us = over.proof_batch = 0;
}

/* Begins a transaction; false: none, somebody has locked what it writes. */
static bool
begin_step(void)
{
	outbox_session_begin();
	if (ConditionalLockRelationOid(outbox_leaf_named_relation("topic_hold"), RowExclusiveLock) &&
		ConditionalLockRelationOid(outbox_leaf_named_relation("topic_hold_copy"), RowExclusiveLock))
		return true;
	outbox_session_end();
	put_off(LOCKED_MS);
	return false;
}

/* ----------------------------------------------------------------- facts */

static OutboxReleaseLimits
read_limits(const OutboxReplayTurn *turn)
{
	OutboxReleaseLimits limits = {
		.step_events = Min(STEP_EVENTS, outbox_guc_batch_max_events),
		.step_bytes = Min(STEP_BYTES, outbox_guc_batch_max_bytes * INT64CONST(1024)),
		.last_events = LAST_EVENTS,
		.last_bytes = LAST_BYTES,
	};

	if (turn->most_bytes > 0)
	{
		limits.step_bytes = Min(limits.step_bytes, turn->most_bytes);
		limits.last_bytes = Min(limits.last_bytes, turn->most_bytes);
	}
	limits.unsent_events =
		outbox_release_pace_events(&pace, limits.step_events, UNSENT_STEPS * limits.step_events);
	return limits;
}

/* All but what is left, which only the tables know. */
static OutboxReleaseFacts
read_facts(const OutboxReplayTurn *turn)
{
	return (OutboxReleaseFacts) {
		.between = turn->between,
		.refused = release.row.refused,
		.steps = release.row.steps,
		.delivered = outbox_txid_delivered(release.row.newest, turn),
		.unsent = outbox_copies_unsent(&release.copies, turn),
		.left_events = PG_INT64_MAX,
		.left_bytes = PG_INT64_MAX,
	};
}

/* Could there be something to be done, whatever is left? */
static bool
may_go_on(const OutboxReplayTurn *turn)
{
	OutboxReleaseLimits limits = read_limits(turn);
	OutboxReleaseFacts	facts = read_facts(turn);

	if (turn->between && facts.unsent == 0)
		return true;
	if (release.copies.count == OUTBOX_MOST_UNSENT_COPIES)
		return false;
	if (release.rested_at == turn->last_batch)
		return false;
	return turn->waiting <= BACKLOG_EVENTS &&
		outbox_release_choose(&facts, &limits) != OUTBOX_RELEASE_WAITS;
}

/* Inside a transaction.  The hold is releasing still, and what is known of its copies holds. */
static bool
lock_release(void)
{
	uint64 newest;

	if (!outbox_release_lock(release.row.hold, &newest))
	{
		forget();
		put_off(LOCKED_MS);
		return false;
	}
	if (release.events.hold == release.row.hold && newest == release.row.newest)
		return true;
	outbox_release_read(&release.row, &release.copies);
	outbox_held_events_start(&release.events, release.row.hold, release.row.topic);
	return true;
}

/* ----------------------------------------------------------------- steps */

static void
copy_one(StepDone *done, OutboxCopier *copier, TupleTableSlot *slot, const OutboxPosition *at)
{
	done->row.bytes += outbox_copy_event(copier, slot);
	done->row.copies++;
	done->row.last_batch = release.events.batch_no;
	done->row.last = *at;
}

/* Is the next range open, and part of this transaction, which may look at so many entries more? */
static bool
enter_range(StepDone *done, const OutboxReleaseLimits *limits, int *entries)
{
	int64 events;
	int64 bytes;

	if (release.events.open)
		return true;
	if (*entries <= 0 || !outbox_held_events_peek(&release.events, &events, &bytes) ||
		(limits != NULL &&
		 !outbox_release_joins(done->row.copies, done->row.bytes, events, bytes, limits)))
		return false;
	outbox_held_events_open(&release.events);
	if (done->row.copies == 0)
		done->first_batch = release.events.batch_no;
	else
		*entries = Max(*entries, (int) release.events.window.count); /* it joins as a whole */
	return true;
}

/* A transaction ends inside a range only if it holds nothing else. */
static bool
is_full(const StepDone *done, const OutboxReleaseLimits *limits)
{
	return limits != NULL && done->first_batch == release.events.batch_no &&
		(done->row.copies >= limits->step_events || done->row.bytes >= limits->step_bytes);
}

/* Copies a step; limits NULL: all that is left. */
static void
copy_events(StepDone *done, OutboxCopier *copier, const OutboxReleaseLimits *limits)
{
	OutboxLeafReader reader = {0};
	int				 entries = limits != NULL ? STEP_ENTRIES : INT_MAX;
	OutboxPosition	 at;

	if (release.events.open)
		done->first_batch = release.events.batch_no;
	while (!is_full(done, limits) && enter_range(done, limits, &entries))
	{
		TupleTableSlot *slot =
			outbox_held_events_next(&release.events, &reader, &at, &entries, &done->stale);

		CHECK_FOR_INTERRUPTS();
		if (slot != NULL)
			copy_one(done, copier, slot, &at);
		else if (done->stale || release.events.open)
			break;
	}
	outbox_leaf_reader_close(&reader);
}

/* The transaction is over. */
static void
take_step(const OutboxReplayTurn *turn, const StepDone *done, bool ended)
{
	const OutboxReleaseRow *row = &release.row;

	if (done->row.copies > 0)
	{
		release.row.newest = done->row.txid;
		release.row.steps++;
		release.left -= done->row.copies;
		outbox_copies_add(&release.copies, &done->row);
		outbox_backlog_take(turn->slot, -done->row.bytes);
		outbox_backlog_hold(turn->slot, row->topic, strlen(row->topic), -done->row.bytes);
	}
	if (ended)
	{
		outbox_backlog_unhold(turn->slot, row->topic, strlen(row->topic));
		ereport(LOG, (errmsg("outbox relay: topic \"%s\" is no longer held", row->topic)));
	}
	if (ended || done->stale)
		forget();
	look_for_ended |= ended;
	outbox_shmem_recovered(turn->slot, OUTBOX_ERROR_OF_RELEASE);
	failing = false;
	failed_hold = 0;
}

/*
 * Inside a transaction, which it ends: copies, and the end of the hold if it comes.  True: it has
 * changed what batches hold.
 */
static bool
run_step(const OutboxReplayTurn *turn, const OutboxReleaseLimits *limits, OutboxReleaseStep step)
{
	static const OutboxCopyChanges none = {0};
	OutboxCopier				   copier;
	StepDone					   done = {0};
	bool						   ends = step == OUTBOX_RELEASE_ENDS;
	bool						   locked = !outbox_copy_begin(&copier, &none) ||
		(ends && !outbox_release_lock_topic(release.row.topic));

	if (!locked)
	{
		copy_events(&done, &copier, ends ? NULL : limits);
		outbox_copy_end(&copier);
	}
	if (done.row.copies > 0)
		outbox_release_store(release.row.hold, &done.row);
	ends = ends && !locked && !done.stale;
	if (ends)
		outbox_release_store_end(release.row.hold);
	OUTBOX_FAULT_WHEN(done.row.copies > 0, "hold-copy-uncommitted");
	OUTBOX_FAULT_WHEN(ends, "hold-ended-uncommitted");
	outbox_session_end();
	OUTBOX_FAULT_WHEN(done.row.copies > 0, "hold-copy-committed");
	OUTBOX_FAULT_WHEN(ends, "hold-ended-committed");
	if (locked)
		put_off(LOCKED_MS);
	take_step(turn, &done, ends);
	return ends || done.row.copies > 0;
}

/* Takes the hold that was released first, if there is one. */
static void
look_for_release(void)
{
	OutboxReleaseRow found;

	forget();
	if (!begin_step())
		return;
	if (outbox_release_find(&found, failed_hold))
		release.row = found;
	else
		put_off(LOCKED_MS);
	outbox_session_end();
}

/* Own transaction.  Chooses a step and makes it; ending: only the last one. */
static bool
go_on(const OutboxReplayTurn *turn, bool ending)
{
	OutboxReleaseLimits limits = read_limits(turn);
	OutboxReleaseFacts	facts;
	OutboxReleaseStep	step;

	if (!begin_step())
		return false;
	if (!lock_release())
	{
		outbox_session_end();
		return false;
	}
	facts = read_facts(turn);
	outbox_held_events_left(&release.events, &facts.left_events, &facts.left_bytes);
	release.left = facts.left_events;
	step = outbox_release_choose(&facts, &limits);
	if (ending && step != OUTBOX_RELEASE_ENDS)
		step = OUTBOX_RELEASE_WAITS;
	else if (step == OUTBOX_RELEASE_WAITS)
		release.rested_at = turn->last_batch;
	if (step == OUTBOX_RELEASE_PROBES)
		limits.step_events = Min(limits.step_events, OUTBOX_RELEASE_PROBE);
	if (step != OUTBOX_RELEASE_WAITS)
		return run_step(turn, &limits, step);
	outbox_session_end();
	return false;
}

/* ---------------------------------------------------------- rows that go */

/*
 * In at_least_once the cursor in Kafka follows behind, and after a crash says how many events its
 * batch left out.  A sender lets no batch pass while the cursor is a second behind
 * (bgworker/sender/batch_end.c).
 */
static bool
cursor_has_passed(const OutboxReplayTurn *turn)
{
	int64 now_us = outbox_clock_now();

	if (over.settled_us == 0)
		over.settled_us = now_us + CURSOR_LAG_MS * INT64CONST(1000);
	if (over.proof_batch == 0 && now_us >= over.settled_us)
		over.proof_batch = turn->last_batch + 1;
	return over.proof_batch > 0 &&
		(turn->last_batch > over.proof_batch ||
		 (turn->last_batch == over.proof_batch && turn->all_delivered));
}

/* Is a hold's end delivered, and can no cursor name a batch from before it? */
static bool
may_delete(const OutboxReplayTurn *turn)
{
	if (look_for_ended)
		return true;
	return over.hold != 0 && outbox_txid_delivered(over.txid, turn) &&
		(outbox_guc_delivery == OUTBOX_DELIVERY_EXACTLY_ONCE || cursor_has_passed(turn));
}

/* Own transaction. */
static void
delete_rows(const OutboxReplayTurn *turn)
{
	if (!begin_step())
		return;
	if (look_for_ended)
	{
		if (failing)
			outbox_release_sum_held(turn->slot);
		over = (EndedHold) {0};
		over.hold = outbox_release_find_ended(&over.txid);
		look_for_ended = false;
	}
	else if (!outbox_release_delete(over.hold, DELETED_ROWS))
	{
		over.hold = 0;
		look_for_ended = true;
	}
	outbox_session_end();
}

/* ------------------------------------------------------------- interface */

static bool
may_work(const OutboxReplayTurn *turn)
{
	if (!turn->delivering)
		return false;
	if (may_delete(turn))
		return true;
	return release.row.hold == 0 ? turn->releasing : may_go_on(turn);
}

/* After an error of a step: the transaction is over, done or not, and the relay goes on. */
static void
recover(OutboxSlot *slot, MemoryContext scratch)
{
	ErrorData *error = outbox_session_recover(scratch);
	char	  *text;

	text = psprintf("a held topic is not released: %s", error->message);
	if (!failing)
		ereport(LOG, (errmsg("outbox relay: %s", text)));
	outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_RELEASE, text);
	failing = look_for_ended = true;
	failed_hold = release.row.hold;
	forget();
	put_off(ERROR_MS);
}

static bool
run_turn(const OutboxReplayTurn *turn)
{
	if (may_delete(turn))
		delete_rows(turn);
	else if (release.row.hold == 0)
		look_for_release();
	else
		return go_on(turn, false);
	return false;
}

static bool
run_last(const OutboxReplayTurn *turn)
{
	return go_on(turn, true);
}

static bool
try_turn(const OutboxReplayTurn *turn, bool (*run)(const OutboxReplayTurn *))
{
	volatile bool changed = false;

	if (!made)
		outbox_held_events_make(&release.events);
	made = true;
	PG_TRY();
	{
		changed = run(turn);
	}
	PG_CATCH();
	{
		recover(turn->slot, turn->scratch);
		changed = true; /* its transaction may have been over */
	}
	PG_END_TRY();
	return changed;
}

/* What batches take, whether a release is under way or not. */
static void
note_pace(const OutboxReplayTurn *turn)
{
	static int64 noted = 0;

	if (turn->timed_batch == noted || turn->timed_events == 0)
		return;
	noted = turn->timed_batch;
	outbox_release_pace_note(&pace, turn->timed_events, turn->timed_ms * 1000);
}

OutboxReplayOutcome
outbox_release_step(const OutboxReplayTurn *turn)
{
	note_pace(turn);
	if (!may_work(turn) || outbox_clock_now() < due_us)
		return OUTBOX_REPLAY_NOTHING;
	return try_turn(turn, run_turn) ? OUTBOX_REPLAY_COPIED : OUTBOX_REPLAY_WORKED;
}

bool
outbox_release_end(const OutboxReplayTurn *turn)
{
	if (release.row.hold == 0 || !turn->between || release.left > LAST_EVENTS ||
		outbox_copies_unsent(&release.copies, turn) > 0 || outbox_clock_now() < due_us)
		return false;
	return try_turn(turn, run_last);
}

long
outbox_release_wait(const OutboxReplayTurn *turn)
{
	int64 left_us;

	if (!may_work(turn))
		return LONG_MAX;
	left_us = due_us - outbox_clock_now();
	return left_us > 0 ? (long) (left_us / 1000 + 1) : 1;
}

void
outbox_release_measure(OutboxSlot *slot)
{
	outbox_session_begin();
	outbox_release_sum_held(slot);
	outbox_session_end();
}
