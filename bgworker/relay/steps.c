/* SPDX-License-Identifier: PostgreSQL
 *
 * steps.c
 *	  What each state of the relay does when it has its turn.
 *
 * Runs in the relay.  I2: store_batch commits the row and the state REPLICATING waits for the
 * standbys before anything is given to the sender.  In at_least_once without standbys the events go
 * out as soon as they are flushed themselves, while the row is flushed; END, and with it the
 * cursor, waits for the row.  I3: the next row is stored only after the sender has said COMMITTED.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "attach.h"
#include "link.h"
#include "refusal.h"
#include "standby.h"
#include "relay.h"
#include "bgworker/clock.h"
#include "bgworker/events/measure.h"
#include "bgworker/events/retention.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/backlog.h"
#include "src/fault.h"
#include "src/guc.h"

#define READ_BUDGET		  2000 /* events read in one turn */
#define READ_AHEAD_BUDGET 500  /* while the pipe also wants to be filled */
#define MOST_WAYPOINTS	  3600
#define REFRESH_MS		  (3600 * 1000)
#define TIME_HOLDS_US	  (10 * USECS_PER_MINUTE) /* so long a batch keeps the time of its row */
#define LOOK_HOLDS_MS	  1000 /* an unfenced cursor older than this is read again before a fence */

/* ------------------------------------------------------ start and cursor */

void
outbox_relay_ask(OutboxRelay *relay, OutboxFrameType type)
{
	uint8_t			 bytes[OUTBOX_WIRE_HEADER_SIZE];
	OutboxWireBuffer frame = {.data = bytes, .capacity = sizeof(bytes)};
	size_t			 mark;

	if (!outbox_wire_begin(&frame, type, &mark))
		elog(ERROR, "could not write a frame");
	outbox_wire_finish(&frame, mark);
	outbox_link_give_small(&frame);
	relay->asked = true;
}

/*
 * Without a batch row the relay waits for one: a genesis row of its own would stand in the way of
 * the rows that a restore is about to bring.
 */
static bool
step_starting(OutboxRelay *relay)
{
	OutboxBatchRow newest;

	if (!relay->look_due)
		return false;
	relay->look_due = false;
	if (!outbox_batch_log_load(-1, relay->scratch, &newest))
	{
		outbox_relay_await_genesis(relay);
		return false;
	}
	outbox_identity_read(&relay->identity);
	outbox_relay_load_last(relay);
	relay->owed = outbox_measure_backlog(relay->slot, &relay->last.range);
	relay->slot->measured = true;
	outbox_session_begin();
	(void) outbox_retention_batch_leaf();
	outbox_session_end();
	relay->start_fence = outbox_standby_fence();
	OUTBOX_FAULT("relay-start-fence");
	relay->next_refresh = TimestampTzPlusMilliseconds(outbox_clock_now(), REFRESH_MS);
	outbox_start_check_lineage(&relay->last, &relay->identity, &relay->comparison);
	if (relay->comparison.verdict != OUTBOX_START_DIVERGED && relay->identity.held[0] != '\0')
	{
		outbox_start_call_copy(&relay->comparison, relay->identity.held);
		relay->comparison.last_delivered = relay->identity.held_delivered;
	}
	if (relay->identity.marker_verdict == OUTBOX_MARKER_LATER && relay->identity.held[0] == '\0')
		outbox_identity_accept_marker(&relay->identity);
	if (relay->comparison.verdict == OUTBOX_START_DIVERGED)
		outbox_relay_decide(relay);
	else
		outbox_relay_enter(relay, OUTBOX_RELAY_CONNECTING);
	return true;
}

static bool
step_connecting(OutboxRelay *relay)
{
	if (outbox_link_pid() == 0)
	{
		outbox_link_start();
		outbox_relay_open(relay);
		relay->opened = relay->asked = false;
		return true;
	}
	if (!relay->opened || relay->asked || !outbox_link_idle())
		return false;
	if (relay->looked)
	{
		if (!outbox_relay_is_alone(relay))
			return false;
		relay->looked_at = outbox_clock_now(); /* nobody was there to move the cursor */
		relay->looked = false;
		relay->look_due = true;
		outbox_relay_enter(relay, OUTBOX_RELAY_IDLE);
		return true;
	}
	outbox_relay_ask(relay, OUTBOX_FRAME_LOOK);
	return true;
}

static bool
step_fencing(OutboxRelay *relay)
{
	if (relay->asked || !outbox_relay_is_alone(relay))
		return false;
	outbox_relay_ask(relay, OUTBOX_FRAME_FENCE);
	return true;
}

static bool
step_hold(OutboxRelay *relay)
{
	int decision;

	if (relay->held_by_owner)
		return false;
	SpinLockAcquire(&relay->slot->mutex);
	decision = relay->slot->adopt;
	relay->slot->adopt = OUTBOX_ADOPT_NONE;
	SpinLockRelease(&relay->slot->mutex);
	if (decision == OUTBOX_ADOPT_NONE)
		return false;
	outbox_relay_load_last(relay); /* a restore may have gone on since */
	outbox_relay_adopt(relay, decision == OUTBOX_ADOPT_RESEND);
	return true;
}

/* ----------------------------------------------------- looking for work */

/* A long outage keeps its pieces, they only get larger. */
static void
thin_waypoints(OutboxRelay *relay)
{
	ListCell *cell;

	foreach(cell, relay->waypoints)
	{
		OutboxSnapshot *waypoint = lfirst(cell);

		if (foreach_current_index(cell) % 2 == 0)
		{
			relay->waypoints = foreach_delete_current(relay->waypoints, cell);
			pfree(waypoint->xip);
			pfree(waypoint);
		}
	}
}

void
outbox_relay_note_waypoint(OutboxRelay *relay)
{
	OutboxSnapshot	snapshot;
	OutboxSnapshot *newest = relay->waypoints ? llast(relay->waypoints) : &relay->last.range.upper;
	MemoryContext	previous;

	if (list_length(relay->waypoints) >= MOST_WAYPOINTS)
		thin_waypoints(relay);
	outbox_session_begin();
	outbox_snapshot_take(CurrentMemoryContext, &snapshot);
	if (snapshot.xmax != newest->xmax || snapshot.nxip != newest->nxip)
	{
		previous = MemoryContextSwitchTo(relay->waypoint_context);
		newest = palloc(sizeof(OutboxSnapshot));
		outbox_snapshot_copy(relay->waypoint_context, newest, &snapshot);
		relay->waypoints = lappend(relay->waypoints, newest);
		MemoryContextSwitchTo(previous);
	}
	outbox_session_end();
}

static OutboxReissues
reissues_of(const OutboxLetters *letters)
{
	return (OutboxReissues) {letters->reissued, letters->nreissued};
}

/* Own transaction.  Is there anything behind the last batch, up to `upper` if there is one? */
static bool
open_window(OutboxRelay *relay, const OutboxSnapshot *upper)
{
	const OutboxRange *last = &relay->last.range;
	bool			   found;

	outbox_session_begin();
	outbox_letters_refresh(&relay->letters, &last->upper);
	found = outbox_window_open(&relay->window, &last->upper, &last->upper_at, upper,
							   reissues_of(&relay->letters));
	outbox_session_end();
	return found;
}

/*
 * Opens a window on what is new; waypoints first, so that a backlog stays in ordinary pieces.
 * Dead letters are emitted again between windows only: they precede what became visible since
 * the last one, and follow what that held.
 */
static bool
find_work(OutboxRelay *relay)
{
	bool found = false;

	while (relay->waypoints != NIL && !found)
	{
		OutboxSnapshot *waypoint = linitial(relay->waypoints);

		found = open_window(relay, waypoint);
		relay->waypoints = list_delete_first(relay->waypoints);
		pfree(waypoint->xip);
		pfree(waypoint);
	}
	if (!found)
	{
		int64 bytes = 0;

		outbox_letters_reissue(&relay->letters, &bytes);
		outbox_backlog_take(relay->slot, -bytes);
		found = open_window(relay, NULL);
	}
	OUTBOX_FAULT_WHEN(found, "relay-snapshot");
	return found;
}

/* An idle cursor is committed anew before Kafka forgets it (offsets.retention.minutes). */
static bool
refresh_is_due(const OutboxRelay *relay)
{
	return outbox_clock_now() >= relay->next_refresh;
}

/*
 * A sender that has had nothing to do for long goes, and with it its connections
 * and wake-ups; the next work begins with a new one.
 */
static void
rest_sender(OutboxRelay *relay)
{
	if (outbox_guc_sender_idle_timeout == 0 || outbox_link_pid() == 0 || !outbox_link_idle() ||
		!TimestampDifferenceExceeds(relay->entered_at, outbox_clock_now(),
									outbox_guc_sender_idle_timeout * 1000))
		return;
	outbox_link_stop(true);
	relay->opened = relay->fenced = relay->asked = relay->alone = false;
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.sender_pid = 0;
	SpinLockRelease(&relay->slot->mutex);
}

static bool
step_idle(OutboxRelay *relay)
{
	bool  work = relay->delivered < relay->last.batch_no;
	int64 backlog;

	if (!work && relay->look_due)
	{
		relay->look_due = false;
		/* the last batch stays: it is sent again when Kafka has lost the cursor */
		outbox_retention_step(relay->slot, &relay->last.range.lower);
		backlog = (int64) pg_atomic_read_u64(&relay->slot->backlog);
		work = find_work(relay);
		if (!work)
		{
			outbox_backlog_take(relay->slot, backlog); /* whatever it says, all is delivered */
			relay->owed = 0;
			outbox_relay_progressed(relay->slot);
			rest_sender(relay);
			if (outbox_link_pid() == 0 && outbox_relay_topics_changed())
			{
				outbox_relay_enter(relay, OUTBOX_RELAY_CONNECTING);
				return true;
			}
			outbox_relay_declare_topics(relay); /* the sender creates them without an event too */
		}
	}
	relay->refreshing = !work && refresh_is_due(relay);
	if (!work && !relay->refreshing)
		return false;
	if (!relay->fenced &&
		TimestampDifferenceExceeds(relay->looked_at, outbox_clock_now(), LOOK_HOLDS_MS))
		outbox_relay_enter(relay, OUTBOX_RELAY_CONNECTING); /* the cursor may have moved since */
	else if (!relay->fenced)
		outbox_relay_enter(relay, OUTBOX_RELAY_FENCING);
	else if (relay->window.next < relay->window.count && relay->delivered == relay->last.batch_no)
		outbox_relay_enter(relay, OUTBOX_RELAY_PREPARING);
	else
		outbox_relay_send_again(relay);
	return true;
}

/* -------------------------------------------------------------- batches */

/* The batch row and what it holds back in one transaction (I7). */
static XLogRecPtr
store_with_held(OutboxRelay *relay, OutboxChunk *chunk, int leaf)
{
	outbox_session_begin();
	outbox_refusal_store_held(chunk, &relay->window);
	outbox_batch_log_insert(&chunk->row, leaf, &relay->identity);
	outbox_session_end();
	return XactLastCommitEnd;
}

static void
store_batch(OutboxRelay *relay, OutboxChunk *chunk)
{
	OutboxBatchRow *row = &chunk->row;
	int				leaf = outbox_retention_batch_leaf();
	bool			flushed = true;

	row->batch_no = relay->last.batch_no + 1;
	row->left_out = chunk->nheld;
	OUTBOX_FAULT("relay-before-row");
	if (chunk->nheld > 0)
		relay->row_end = store_with_held(relay, chunk, leaf);
	else if (outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE && !outbox_standby_exists())
		relay->row_end = outbox_batch_log_store_early(row, leaf, &relay->identity, &flushed);
	else
		relay->row_end = outbox_batch_log_store(row, leaf, &relay->identity);
	relay->end_due = !flushed;
	relay->owed = chunk->bytes;
	OUTBOX_FAULT("relay-row-committed");

	MemoryContextReset(relay->last_context);
	relay->last = *row;
	outbox_snapshot_copy(relay->last_context, &relay->last.range.lower, &row->range.lower);
	outbox_snapshot_copy(relay->last_context, &relay->last.range.upper, &row->range.upper);
}

static bool
step_preparing(OutboxRelay *relay)
{
	OutboxChunk *chunk = &relay->chunks[relay->sending];

	if (relay->ahead)
	{
		relay->sending = 1 - relay->sending;
		chunk = &relay->chunks[relay->sending];
		relay->ahead = false;
	}
	else if (!relay->started)
		outbox_chunk_start(chunk, &relay->window, false);
	relay->started = true;

	if (!chunk->complete && !outbox_chunk_read(chunk, &relay->window, READ_BUDGET, false))
	{
		/* a leaf was rewritten (VACUUM FULL): the places no longer hold */
		outbox_relay_fail(relay, false, "an event table was rewritten, its events are read again");
		return true;
	}
	if (!chunk->complete)
		return true;
	relay->started = false;
	store_batch(relay, chunk);
	outbox_relay_enter(relay, OUTBOX_RELAY_REPLICATING);
	return true;
}

/*
 * The time stamp of the batch's records, us since 1970: its row's, so that what is sent again is
 * equal.  One that is far from the clock would be refused, or deleted as soon as it has arrived
 * (retention.ms).
 */
static uint64
choose_time(const OutboxRelay *relay, const OutboxBatchRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		far = relay->time_refused || TIMESTAMP_NOT_FINITE(row->prepared_at) ||
		row->prepared_at < now - TIME_HOLDS_US || row->prepared_at > now + TIME_HOLDS_US;

	return (uint64) ((far ? now : row->prepared_at) + OUTBOX_UNIX_EPOCH_US);
}

static void
send_batch(OutboxRelay *relay)
{
	OutboxChunk		*chunk = &relay->chunks[relay->sending];
	uint8_t			 bytes[OUTBOX_NOTE_SIZE + 64];
	char			 note[OUTBOX_NOTE_SIZE];
	OutboxWireBuffer frame = {.data = bytes, .capacity = sizeof(bytes)};
	size_t			 mark;

	OUTBOX_FAULT("relay-before-hand-over");
	outbox_cursor_write_note(note, sizeof(note), &chunk->row, &relay->identity,
							 outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE);
	outbox_relay_declare_topics(relay);
	if (!outbox_wire_begin(&frame, OUTBOX_FRAME_BATCH, &mark) ||
		!outbox_wire_put_u64(&frame, (uint64) chunk->row.batch_no) ||
		!outbox_wire_put_u64(&frame, choose_time(relay, &chunk->row)) ||
		!outbox_wire_put_cstring(&frame, note))
		elog(ERROR, "could not write a batch frame");
	outbox_wire_finish(&frame, mark);
	outbox_link_give_small(&frame);
	if (relay->end_due)
	{
		outbox_link_give(chunk->frames.data, chunk->frames.len - OUTBOX_WIRE_END_SIZE);
		(void) outbox_link_pump();
		XLogFlush(relay->row_end);
	}
	else
		outbox_link_give(chunk->frames.data, chunk->frames.len);
	relay->next_refresh = TimestampTzPlusMilliseconds(outbox_clock_now(), REFRESH_MS);
	outbox_relay_enter(relay, OUTBOX_RELAY_SENDING);
}

static bool
step_replicating(OutboxRelay *relay)
{
	/* a cursor alone shows nothing that a failover could undo */
	if (!relay->refreshing && !outbox_standby_has(relay->row_end))
		return false;
	send_batch(relay);
	return true;
}

/* Reads the next chunk of the window while this one is on its way. */
static bool
step_sending(OutboxRelay *relay)
{
	OutboxChunk *other = &relay->chunks[1 - relay->sending];

	OUTBOX_FAULT_WHEN(outbox_link_idle(), "relay-handed-over");
	if (relay->end_due && outbox_link_idle())
	{
		const OutboxWireBuffer *frames = &relay->chunks[relay->sending].frames;

		outbox_link_give(frames->data + frames->len - OUTBOX_WIRE_END_SIZE, OUTBOX_WIRE_END_SIZE);
		relay->end_due = false;
		return true;
	}
	if (relay->resending)
		return false;
	if (!relay->ahead)
	{
		if (relay->window.next >= relay->window.count)
			return false;
		outbox_chunk_start(other, &relay->window, false);
		relay->ahead = true;
	}
	if (other->complete)
		return false;
	if (!outbox_chunk_read(other, &relay->window, READ_AHEAD_BUDGET, false))
	{
		/* what is on its way is not touched by this; its window ends here */
		relay->ahead = false;
		relay->window.count = relay->window.next;
	}
	return true;
}

void
outbox_relay_after_commit(OutboxRelay *relay)
{
	relay->resending = relay->refreshing = false;
	relay->look_due = true;
	OUTBOX_FAULT("relay-before-next");
	if (!relay->fenced)
		outbox_relay_enter(relay, OUTBOX_RELAY_FENCING);
	else if (relay->delivered < relay->last.batch_no)
		outbox_relay_send_again(relay);
	else if (relay->ahead || relay->window.next < relay->window.count)
		outbox_relay_enter(relay, OUTBOX_RELAY_PREPARING);
	else
		outbox_relay_enter(relay, OUTBOX_RELAY_IDLE);
}

/* ---------------------------------------------------------- send again */

static void
read_whole(OutboxRelay *relay, OutboxChunk *chunk)
{
	while (!chunk->complete)
	{
		CHECK_FOR_INTERRUPTS();
		if (!outbox_chunk_read(chunk, &relay->window, READ_BUDGET, true))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("an event table was rewritten while batch " INT64_FORMAT
							" was read again",
							relay->delivered + 1)));
	}
}

/*
 * Sends the oldest batch that is not known delivered, from its row and the events alone (I1, I7);
 * with a refresh, the last delivered one without its events, which renews the cursor and tells a
 * server that was superseded who has taken over.
 */
void
outbox_relay_send_again(OutboxRelay *relay)
{
	OutboxChunk	  *chunk = &relay->chunks[relay->sending];
	OutboxBatchRow row;
	int64		   batch_no = relay->refreshing ? relay->delivered : relay->delivered + 1;

	if (!outbox_batch_log_load(batch_no, relay->scratch, &row))
	{
		outbox_relay_hold(relay,
						  psprintf("batch " INT64_FORMAT " is not in outbox.batch", batch_no));
		return;
	}
	relay->ahead = false;
	relay->resending = true;
	outbox_session_begin();
	outbox_letters_load(&relay->letters, &row.range.lower, false);
	outbox_window_reopen(&relay->window, &row.range, reissues_of(&relay->letters));
	outbox_session_end();
	if (relay->refreshing)
		relay->window.count = 0;
	outbox_chunk_start(chunk, &relay->window, true);
	read_whole(relay, chunk);
	if (!relay->refreshing && (chunk->row.events != row.events || chunk->row.digest != row.digest))
	{
		outbox_relay_hold(relay,
						  psprintf("batch " INT64_FORMAT
								   " reads differently now: %d events instead of %d",
								   batch_no, chunk->row.events, row.events));
		return;
	}
	chunk->row.batch_no = batch_no;
	chunk->row.nonce = row.nonce;
	chunk->row.left_out = row.left_out;
	chunk->row.prepared_at = row.prepared_at;
	OUTBOX_FAULT("relay-read-again");
	/* the row may be of this start, and neither flushed nor replicated yet */
	relay->row_end = Max(relay->row_end, relay->start_fence);
	XLogFlush(relay->row_end);
	if (relay->state != OUTBOX_RELAY_PREPARING)
		outbox_relay_enter(relay, OUTBOX_RELAY_PREPARING);
	outbox_relay_enter(relay, OUTBOX_RELAY_REPLICATING);
}

bool
outbox_relay_step(OutboxRelay *relay)
{
	switch (relay->state)
	{
		case OUTBOX_RELAY_STARTING:
			return step_starting(relay);
		case OUTBOX_RELAY_CONNECTING:
			return step_connecting(relay);
		case OUTBOX_RELAY_FENCING:
			return step_fencing(relay);
		case OUTBOX_RELAY_IDLE:
			return step_idle(relay);
		case OUTBOX_RELAY_PREPARING:
			return step_preparing(relay);
		case OUTBOX_RELAY_REPLICATING:
			return step_replicating(relay);
		case OUTBOX_RELAY_SENDING:
			return step_sending(relay);
		case OUTBOX_RELAY_HOLD:
			return step_hold(relay);
		case OUTBOX_RELAY_BACKOFF:
			if (outbox_clock_now() < relay->next_try)
				return false;
			outbox_relay_enter(relay, OUTBOX_RELAY_CONNECTING);
			return true;
		case OUTBOX_RELAY_STOPPED:
			break;
	}
	return false;
}
