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
#include "last.h"
#include "link.h"
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
#define MOST_TOPICS_TOLD		20			  /* of one refusal, as last_error */

/* ------------------------------------------------------------ preparing */

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
		relay->row_end = outbox_batch_log_store(row, leaf, &relay->identity); /* I2 */
	relay->hand.kept_back = flushed ? 0 : OUTBOX_WIRE_END_SIZE;
	OUTBOX_FAULT("relay-row-committed");
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

/* What is wrong with the old row in hand, or NULL: it reads as it did (I1, I7). */
static char *
read_again(OutboxRelay *relay, int64 batch_no, bool cursor_alone)
{
	const OutboxBatchRow *read = &relay->hand.chunk->row;
	OutboxBatchRow		  row;

	if (!outbox_batch_log_load(batch_no, relay->scratch, &row))
		return psprintf("batch " INT64_FORMAT " is not in outbox.batch", batch_no);
	outbox_work_reopen(relay, &row.range);
	if (cursor_alone)
		relay->window.count = 0;
	outbox_hand_read_again(&relay->hand, &relay->window, &row);
	if (!cursor_alone && (read->events != row.events || read->digest != row.digest))
		return psprintf("batch " INT64_FORMAT " reads differently now: %d events instead of %d",
						batch_no, read->events, row.events);
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

/* Reads the next chunk of the window while this one is on its way. */
OutboxTurn
outbox_deliver_sending(OutboxRelay *relay)
{
	OUTBOX_FAULT_WHEN(outbox_link_idle(), "relay-handed-over");
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

/* -------------------------------------------------------------- refused */

/* Policy stop: the batch is tried again until a person has mended the cause. */
static OutboxTurn
stop_at_refused(int64 batch_no, const char *event, const OutboxRefusedEvent *refused)
{
	return OUTBOX_FAIL(psprintf("Kafka refuses %s of batch " INT64_FORMAT ": %s (Kafka error %d); "
								"the relay waits, outbox.dead_letter_policy is stop",
								event, batch_no, refused->text, refused->kafka_error));
}

/* Says so in the log, and of a whole topic in last_error. */
static void
tell_refused(OutboxRelay *relay, const OutboxRefused *refused, const char *event)
{
	OutboxChunk *chunk = relay->hand.chunk;
	int			 told = 0;

	for (uint32 i = 0; i < refused->count && told < MOST_TOPICS_TOLD; i++)
	{
		const OutboxRefusedEvent *one = &refused->events[i];

		if (!one->whole_topic)
			continue;
		outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY,
								  psprintf("events of topic \"%s\" are refused: %s",
										   outbox_refusal_topic(chunk, &relay->window, one->index),
										   one->text));
		told++;
	}
	ereport(LOG,
			(errmsg("outbox relay: Kafka refuses %s of batch " INT64_FORMAT ": %s", event,
					chunk->row.batch_no, refused->events[0].text),
			 outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_KEY ?
				 errdetail("%u events of the batch are refused, or their topics. They become rows "
						   "of outbox.dead_letter, later events of their keys wait, the batch is "
						   "sent without them.",
						   refused->count) :
				 errdetail("%u events of the batch are refused, or their topics. They become rows "
						   "of outbox.dead_letter, the batch is sent without them.",
						   refused->count)));
}

/* Their dead letters, in one transaction (I7). */
static void
store_refused(OutboxRelay *relay, const OutboxRefused *refused)
{
	int letters;

	OUTBOX_FAULT("relay-refused");
	OUTBOX_MUTATE("late_exclusion", synchronous_commit = SYNCHRONOUS_COMMIT_OFF);
	letters =
		outbox_refusal_store(relay->hand.chunk, &relay->window, refused->events, refused->count);
	OUTBOX_FAULT("relay-refusal-committed");
	OUTBOX_MUTATE("late_exclusion", synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
				  XactLastCommitEnd = 0);
	relay->row_end = Max(relay->row_end, XactLastCommitEnd); /* I7 holds after a failover, too */
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.events_refused += letters;
	SpinLockRelease(&relay->slot->mutex);
}

/*
 * A request was refused, and which of its records is to blame is not known: the batch comes again
 * in smaller requests, or is judged by what the sender has learned of the topic.
 */
static void
tell_suspects(OutboxRelay *relay, const OutboxRefused *refused)
{
	const OutboxChunk *chunk = relay->hand.chunk;
	double			   seconds = Max(outbox_clock_now() - relay->entered_at, 1) / 1e6;
	char *text = psprintf("Kafka refuses a request of %u records of batch " INT64_FORMAT ": %s",
						  refused->suspects, chunk->row.batch_no, refused->why);
	char *sizes = refused->per_request == 0 ?
		pstrdup("") :
		psprintf(" in requests of at most %u records", refused->per_request);

	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
	ereport(LOG,
			(errmsg("outbox relay: %s", text),
			 errdetail("The batch of %d events is sent again%s, to find which one is to blame; "
					   "this round sent %.0f events a second.",
					   chunk->sent, sizes, chunk->sent / seconds)));
}

/*
 * What followed the refused record in its partition was rejected as out of sequence.  librdkafka
 * 2.0.2 may take that into the next transaction, which then fails when message.timeout.ms is over:
 * a new producer begins it (I6).
 */
static OutboxTurn
fence_after_refusal(OutboxRelay *relay)
{
	relay->peer = OUTBOX_PEER_OPENED;
	outbox_hand_drop_ahead(&relay->hand, &relay->window);
	return outbox_relay_go_on(relay, false);
}

static OutboxTurn
take_refused(OutboxRelay *relay, const OutboxRefused *refused)
{
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.refusal_rounds++;
	SpinLockRelease(&relay->slot->mutex);
	if (refused->suspects > 0)
		tell_suspects(relay, refused);
	if (refused->count > 0)
	{
		char *event =
			outbox_refusal_describe(relay->hand.chunk, &relay->window, refused->events[0].index);

		if (outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_STOP)
			return stop_at_refused(relay->hand.chunk->row.batch_no, event, &refused->events[0]);
		tell_refused(relay, refused, event);
		store_refused(relay, refused);
	}
	if (outbox_guc_delivery != OUTBOX_DELIVERY_AT_LEAST_ONCE || refused->fence)
		return fence_after_refusal(relay);
	return outbox_relay_go_on(relay, false);
}

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
			return take_refused(relay, &answer->refused);
		case OUTBOX_FRAME_FAILED:
			heed_failed(relay, &answer->failed);
			return outbox_relay_take_unasked(relay, answer);
		default:
			return outbox_relay_take_unasked(relay, answer);
	}
}
