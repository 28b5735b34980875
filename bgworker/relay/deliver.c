/* SPDX-License-Identifier: PostgreSQL
 *
 * deliver.c
 *	  A batch on its way: preparing, replicating, sending.
 *
 * Runs in the relay.  I2: store_batch commits the row and the state REPLICATING
 * waits for the standbys before anything is given to the sender.  In at_least_once
 * without standbys the events go out as soon as they are flushed themselves, while the row is
 * flushed; END, and with it the cursor, waits for the row.  I3: the next row is
 * stored only after the sender has said COMMITTED.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"

#include "attach.h"
#include "deliver.h"
#include "hello.h"
#include "hold_rows.h"
#include "last.h"
#include "leader_watch.h"
#include "link.h"
#include "refused.h"
#include "standby.h"
#include "transition.h"
#include "work.h"
#include "bgworker/events/retention.h"
#include "bgworker/session.h"
#include "src/clock.h"
#include "src/common/rate_plan.h"
#include "src/fault.h"
#include "src/guc.h"

#define TIME_HOLDS_US (10 * USECS_PER_MINUTE) /* so long a batch keeps the time of its row */
#define KAFKA_INVALID_TIMESTAMP 32			  /* Kafka's protocol */

/* ------------------------------------------------------------ preparing */

/* The batch row and what it leaves out in one transaction (I7). */
static XLogRecPtr
store_with_left_out(OutboxRelay *relay, OutboxChunk *chunk, int leaf)
{
	outbox_session_begin();
	outbox_refusal_store_held(chunk, &relay->window);
	outbox_hold_store_chunk(chunk);
	OUTBOX_FAULT_WHEN(outbox_chunk_holds_events(&chunk->holds) > 0, "hold-batch");
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
	row->left_out = chunk->nheld + outbox_chunk_holds_events(&chunk->holds);
	OUTBOX_FAULT("relay-before-row");
	if (row->left_out > 0)
		relay->row_end = store_with_left_out(relay, chunk, leaf);
	else if (outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE && !outbox_standby_exists())
		relay->row_end = outbox_batch_log_store_early(row, leaf, &relay->identity, &flushed);
	else
		relay->row_end = outbox_batch_log_store(row, leaf, &relay->identity); /* I2 */
	relay->hand.kept_back = flushed ? 0 : OUTBOX_WIRE_END_SIZE;
	OUTBOX_FAULT("relay-row-committed");
	outbox_chunk_holds_count(&chunk->holds, relay->slot);
	outbox_last_keep(relay, row, chunk->bytes);
}

static OutboxTurn
prepare_next(OutboxRelay *relay)
{
	switch (outbox_hand_read(&relay->hand, &relay->window))
	{
		case OUTBOX_HAND_MORE:
			return OUTBOX_REPEAT;
		case OUTBOX_HAND_REWRITTEN:
			/* VACUUM FULL: the places no longer hold */
			return OUTBOX_FAIL("an event table was rewritten, its events are read again");
		case OUTBOX_HAND_WHOLE:
			break;
	}
	store_batch(relay, relay->hand.chunk);
	return OUTBOX_ENTER(OUTBOX_RELAY_REPLICATING);
}

/*
 * A hold that began with an earlier batch than this old one, which at_least_once sends again with
 * it, leaves its topic out of this one, too (I7).
 */
static void
store_old_holds(OutboxRelay *relay)
{
	OutboxChunk	  *chunk = relay->hand.chunk;
	OutboxBatchRow row;
	bool		   stored;

	if (outbox_chunk_holds_events(&chunk->holds) == 0)
		return;
	outbox_session_begin();
	stored = outbox_hold_store_old(chunk);
	outbox_session_end();
	if (!stored)
		return;
	relay->row_end = Max(relay->row_end, XactLastCommitEnd);
	outbox_chunk_holds_count(&chunk->holds, relay->slot);
	if (outbox_batch_log_load(chunk->row.batch_no, relay->scratch, &row))
		chunk->row.left_out = row.left_out;
}

/* What is wrong with the old row in hand, or NULL: it reads as it did (I1, I7). */
static char *
read_again(OutboxRelay *relay, int64 batch_no, bool cursor_alone)
{
	const OutboxBatchRow *read = &relay->hand.chunk->row;
	OutboxBatchRow		  row;

	if (!outbox_batch_log_load(batch_no, relay->scratch, &row))
		return psprintf("batch " INT64_FORMAT " is not in outbox.batch", batch_no);
	outbox_work_reopen(relay, batch_no, &row.range);
	if (cursor_alone)
		relay->window.count = 0;
	outbox_hand_read_again(&relay->hand, &relay->window, &row);
	if (!cursor_alone && (read->events != row.events || read->digest != row.digest))
		return psprintf("batch " INT64_FORMAT " reads differently now: %d events instead of %d",
						batch_no, read->events, row.events);
	if (!cursor_alone)
		store_old_holds(relay);
	return NULL;
}

/*
 * The oldest batch that is not known delivered, from its row and the events alone (I1, I7); or the
 * last delivered one without its events, which renews the cursor.
 */
static OutboxTurn
prepare_again(OutboxRelay *relay)
{
	bool  cursor_alone = relay->hand.errand == OUTBOX_ERRAND_REFRESH;
	int64 batch_no = cursor_alone ? relay->delivered : relay->delivered + 1;
	char *wrong = read_again(relay, batch_no, cursor_alone);

	if (wrong != NULL)
		return OUTBOX_HOLD(wrong);
	OUTBOX_FAULT("relay-read-again");
	/* I2: the row may be of this start, and neither flushed nor replicated yet */
	relay->row_end = Max(relay->row_end, relay->start_fence);
	XLogFlush(relay->row_end);
	return OUTBOX_ENTER(OUTBOX_RELAY_REPLICATING);
}

OutboxTurn
outbox_deliver_preparing(OutboxRelay *relay)
{
	return relay->hand.errand == OUTBOX_ERRAND_NEXT ? prepare_next(relay) : prepare_again(relay);
}

/* -------------------------------------------------------------- sending */

/*
 * The time stamp of the batch's records, us since 1970: its row's, so that what is sent again is
 * equal.  One that is far from the clock would be refused, or deleted as soon as it has arrived
 * (retention.ms).
 */
static uint64
choose_time(const OutboxBatchRow *row, bool refused)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		far = refused || TIMESTAMP_NOT_FINITE(row->prepared_at) ||
		row->prepared_at < now - TIME_HOLDS_US || row->prepared_at > now + TIME_HOLDS_US;

	return (uint64) ((far ? now : row->prepared_at) + OUTBOX_UNIX_EPOCH_US);
}

static void
give_header(const OutboxBatchRow *row, const OutboxIdentity *identity, uint64 time, bool spare)
{
	uint8_t			 bytes[OUTBOX_NOTE_SIZE + 64];
	char			 note[OUTBOX_NOTE_SIZE];
	OutboxWireBuffer frame = {.data = bytes, .capacity = sizeof(bytes)};
	size_t			 mark;

	outbox_cursor_write_note(note, sizeof(note), row, identity,
							 outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE, spare);
	if (!outbox_wire_begin(&frame, OUTBOX_FRAME_BATCH, &mark) ||
		!outbox_wire_put_u64(&frame, (uint64) row->batch_no) ||
		!outbox_wire_put_u64(&frame, time) || !outbox_wire_put_cstring(&frame, note))
		elog(ERROR, "could not write a batch frame");
	outbox_wire_finish(&frame, mark);
	outbox_link_give_small(&frame);
}

OutboxTurn
outbox_deliver_replicating(OutboxRelay *relay)
{
	const OutboxBatchRow *row = &relay->hand.chunk->row;

	/* I2; a cursor alone shows nothing that a failover could undo */
	if (relay->hand.errand != OUTBOX_ERRAND_REFRESH && !outbox_standby_has(relay->row_end))
		return OUTBOX_WAIT;
	OUTBOX_FAULT("relay-before-hand-over");
	outbox_hello_declare_topics(relay);
	outbox_leader_watch_tell(relay);
	give_header(row, &relay->identity, choose_time(row, relay->until_commit.time_refused),
				relay->spare);
	outbox_hand_give(&relay->hand);
	if (relay->hand.kept_back > 0)
	{
		(void) outbox_link_pump();
		XLogFlush(relay->row_end);
	}
	relay->refreshed_at = outbox_clock_now();
	return OUTBOX_ENTER(OUTBOX_RELAY_SENDING);
}

/*
 * Reads the next chunk of the window while this one is on its way; anew, when a person has held a
 * topic since the window was opened, which may be large.
 */
OutboxTurn
outbox_deliver_sending(OutboxRelay *relay)
{
	OUTBOX_FAULT_WHEN(outbox_link_idle(), "relay-handed-over");
	if (relay->hand.errand == OUTBOX_ERRAND_NEXT &&
		outbox_holds_outdated(&relay->holds, relay->slot))
		outbox_hand_drop_ahead(&relay->hand, &relay->window);
	if (outbox_hand_give_rest(&relay->hand) || outbox_hand_read_ahead(&relay->hand, &relay->window))
		return OUTBOX_REPEAT;
	return OUTBOX_WAIT;
}

/* ------------------------------------------------------------ committed */

/*
 * Later batches are such that the rate at which this one came so far (done of bytes, as the sender
 * counts) lets them pass well in time.
 */
static void
heed_rate(OutboxRelay *relay, int64 bytes, int64 done, int64 took_ms)
{
	const OutboxChunk *chunk = relay->hand.chunk;
	OutboxProgress	   progress = {.bytes = (int64) chunk->frames.len, .took_ms = took_ms};
	OutboxWindow	  *window = &relay->window;
	int64			   before = window->most_bytes;

	if (relay->usual_ms == 0)
		return;
	progress.done = done >= bytes ?
		progress.bytes :
		(int64) ((double) progress.bytes * (double) done / (double) bytes);
	window->most_bytes = outbox_rate_cut(before, (int64) outbox_guc_batch_max_bytes * 1024,
										 &progress, relay->usual_ms);
	if (window->most_bytes == 0 || (before > 0 && window->most_bytes >= before))
		return;
	ereport(before == 0 ? LOG : DEBUG1,
			(errmsg("outbox relay: batch " INT64_FORMAT " was sent at " INT64_FORMAT
					" bytes a second, later ones have " INT64_FORMAT " bytes at most",
					chunk->row.batch_no, outbox_rate_of(&progress), window->most_bytes)));
	/* what was read ahead is no row yet: the window is opened anew */
	if (relay->hand.reading == OUTBOX_READING_AHEAD)
		outbox_hand_drop_ahead(&relay->hand, window);
}

/* Publishes a commit; doubled: Kafka may have had the events before. */
static void
count_commit(OutboxRelay *relay, const OutboxCommitted *committed, bool doubled)
{
	OutboxRelayStatus *status = &relay->slot->status;
	TimestampTz		   now = GetCurrentTimestamp();

	SpinLockAcquire(&relay->slot->mutex);
	status->delivered_batch = committed->batch_no;
	status->delivered_at = now;
	status->batches_sent++;
	status->events_sent += committed->events;
	status->bytes_sent += committed->bytes;
	status->suspect_transactions += committed->suspect;
	status->possibly_doubled += doubled ? committed->events : 0;
	SpinLockRelease(&relay->slot->mutex);
}

static OutboxTurn
take_committed(OutboxRelay *relay, const OutboxCommitted *committed)
{
	bool doubled;

	OUTBOX_FAULT("relay-committed-received");
	/* what at_least_once sent stays, whatever became of its cursor or is set since */
	doubled = relay->hand.errand == OUTBOX_ERRAND_AGAIN && !relay->until_commit.cursor_lost &&
		(outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE || relay->comparison.lagged);
	relay->delivered = committed->batch_no;
	relay->timed_batch = committed->batch_no;
	relay->timed_events = committed->events;
	relay->timed_ms = committed->took_ms;
	relay->until_commit = (OutboxUntilCommit) {0};
	relay->failures = 0;
	if (committed->suspect)
		relay->peer = OUTBOX_PEER_OPENED; /* I6 */
	heed_rate(relay, committed->bytes, committed->bytes, committed->took_ms);
	count_commit(relay, committed, doubled);
	outbox_last_take_off(relay);
	outbox_relay_progressed(relay->slot);
	relay->look_due = true;
	OUTBOX_FAULT("relay-before-next");
	return outbox_relay_go_on(relay, false);
}

/* What a failure says of the batch's time and rate. */
static void
heed_failed(OutboxRelay *relay, const OutboxFailed *failed)
{
	relay->until_commit.time_refused |= failed->error == KAFKA_INVALID_TIMESTAMP;
	if (failed->done > 0)
		heed_rate(relay, failed->bytes, failed->done, failed->took_ms);
}

/* -------------------------------------------------------------- answers */

OutboxTurn
outbox_deliver_take(OutboxRelay *relay, const OutboxAnswer *answer)
{
	switch (answer->type)
	{
		case OUTBOX_FRAME_COMMITTED:
			if (answer->committed.batch_no != relay->hand.chunk->row.batch_no)
				return outbox_relay_take_unasked(relay, answer);
			return take_committed(relay, &answer->committed);
		case OUTBOX_FRAME_REFUSED:
			return outbox_refused_take(relay, &answer->refused);
		case OUTBOX_FRAME_LEADERS:
			return outbox_leader_watch_give_up(relay, &answer->leaders);
		case OUTBOX_FRAME_FAILED:
			heed_failed(relay, &answer->failed);
			return outbox_relay_take_unasked(relay, answer);
		default:
			return outbox_relay_take_unasked(relay, answer);
	}
}
