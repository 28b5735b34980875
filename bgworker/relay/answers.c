/* SPDX-License-Identifier: PostgreSQL
 *
 * answers.c
 *	  What the relay does with the sender's frames, and the decision after a cursor.
 *
 * Runs in the relay.  I4: an unfenced cursor may only decide to hold; the
 * fenced one says what is delivered.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "attach.h"
#include "link.h"
#include "refusal.h"
#include "relay.h"
#include "bgworker/clock.h"
#include "src/common/error_class.h"
#include "src/common/rate_plan.h"
#include "src/fault.h"
#include "src/guc.h"

#define FENCED_WAIT_MS			1000
#define KAFKA_INVALID_TIMESTAMP 32 /* Kafka's protocol */
#define MOST_TOPICS_TOLD		20 /* of one refusal, as last_error */

#define COPIED_REASON \
	"the data directory was copied or moved: file \"" OUTBOX_MARKER_FILE \
	"\" in it was made elsewhere. " \
	"A copy must not send what the original sends; where it was moved, or restored and the " \
	"original is gone, " \
	"adopt('resend') goes on with what Kafka does not have"

static void
take_opened(OutboxRelay *relay, OutboxWireReader *body)
{
	uint16 version = outbox_wire_get_u16(body);
	char  *library = outbox_link_text(body);
	char  *properties = outbox_link_text(body);
	char  *text = psprintf("librdkafka %s; %s", library, properties);
	char   fitting[OUTBOX_TEXT_SIZE];

	if (version != OUTBOX_WIRE_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("outbox-sender speaks version %u of the protocol, the relay version %u",
						version, OUTBOX_WIRE_VERSION),
				 errhint("Library and sender are of different installations: restart the server "
						 "after make install.")));
	relay->opened = true;
	outbox_shmem_fit(fitting, text);
	SpinLockAcquire(&relay->slot->mutex);
	memcpy(relay->slot->status.kafka, fitting, sizeof(fitting));
	relay->slot->status.sender_pid = outbox_link_pid();
	SpinLockRelease(&relay->slot->mutex);
}

void
outbox_relay_decide(OutboxRelay *relay)
{
	const OutboxComparison *comparison = &relay->comparison;

	if (comparison->verdict != OUTBOX_START_DIVERGED)
		return;
	outbox_start_mend_reason(&relay->comparison, GetDatabaseEncoding());
	/* no setting may have two servers send, nor end a restore that may still be bringing events */
	if (comparison->kind == OUTBOX_COPY)
		outbox_identity_keep_hold(comparison->reason, comparison->last_delivered);
	if (outbox_guc_on_divergence == OUTBOX_DIVERGENCE_HOLD ||
		comparison->kind != OUTBOX_LOST_HISTORY)
	{
		outbox_relay_hold(relay, comparison->reason);
		return;
	}
	ereport(LOG,
			(errmsg("outbox relay: %s", comparison->reason),
			 errdetail("outbox.on_divergence decides: %s.",
					   outbox_guc_on_divergence == OUTBOX_DIVERGENCE_RESEND ? "resend" : "skip")));
	outbox_relay_adopt(relay, outbox_guc_on_divergence == OUTBOX_DIVERGENCE_RESEND);
}

void
outbox_relay_count_doubled(OutboxRelay *relay, int64 events)
{
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.possibly_doubled += events;
	SpinLockRelease(&relay->slot->mutex);
}

static void
take_stable_cursor(OutboxRelay *relay)
{
	relay->fenced = true;
	relay->delivered = relay->comparison.delivered;
	outbox_relay_settle_backlog(relay);
	if (relay->comparison.verdict == OUTBOX_START_CURSOR_LOST && relay->last.batch_no > 0 &&
		!relay->cursor_lost)
	{
		ereport(LOG,
				(errmsg("outbox relay: Kafka has no cursor, batch " INT64_FORMAT
						" is sent again and may be doubled",
						relay->last.batch_no),
				 errdetail("The offset has expired, was deleted, or Kafka was replaced.")));
		relay->cursor_lost = true;
		outbox_relay_count_doubled(relay, relay->last.events);
	}
	outbox_relay_declare_topics(relay);
	relay->refreshing = relay->comparison.takes_over && relay->delivered >= 0;
	if (relay->refreshing || relay->delivered < relay->last.batch_no)
		outbox_relay_send_again(relay);
	else if (relay->ahead || relay->window.next < relay->window.count)
		outbox_relay_enter(relay, OUTBOX_RELAY_PREPARING);
	else
		outbox_relay_enter(relay, OUTBOX_RELAY_IDLE);
}

/* The unfenced cursor has nothing against us; have the marker and the living? */
static void
take_looked_cursor(OutboxRelay *relay)
{
	relay->delivered = relay->comparison.delivered;
	if (!relay->overruled && relay->identity.marker_verdict == OUTBOX_MARKER_UNKNOWN)
		outbox_identity_accept_marker(&relay->identity);
	relay->looked = true;
}

static void
take_cursor(OutboxRelay *relay, OutboxWireReader *body)
{
	OutboxKafkaCursor cursor = {0};
	const char		 *note;
	uint32_t		  len;

	if (relay->state != OUTBOX_RELAY_CONNECTING && relay->state != OUTBOX_RELAY_FENCING)
		return; /* asked before a failure */
	cursor.present = outbox_wire_get_u8(body) != 0;
	cursor.batch_no = (int64) outbox_wire_get_u64(body);
	if (outbox_wire_get_string(body, &note, &len) && note != NULL)
		outbox_cursor_read_note(note, len, &cursor);
	relay->longest_ms = outbox_wire_get_u32(body);
	relay->usual_ms = outbox_wire_get_u32(body);
	relay->asked = false;

	if (relay->overruled)
	{
		relay->comparison.verdict = OUTBOX_START_SEND_AGAIN;
		relay->comparison.delivered = relay->last.batch_no - 1;
	}
	else
	{
		/* an unfenced cursor that is behind may be about to move (I4) */
		bool may_lag = relay->state == OUTBOX_RELAY_CONNECTING || cursor.lags;

		outbox_start_compare(&cursor, &relay->last, &relay->identity, may_lag, &relay->comparison);
		if (relay->identity.marker_verdict == OUTBOX_MARKER_COPIED &&
			!(relay->comparison.verdict == OUTBOX_START_DIVERGED &&
			  relay->comparison.kind == OUTBOX_SUPERSEDED))
			outbox_start_call_copy(&relay->comparison, COPIED_REASON);
	}
	if (relay->comparison.verdict == OUTBOX_START_DIVERGED)
		outbox_relay_decide(relay);
	else if (relay->state == OUTBOX_RELAY_FENCING)
		take_stable_cursor(relay);
	else
		take_looked_cursor(relay);
}

/*
 * Later batches are such that the rate at which this one came so far (done of bytes, as the sender
 * counts) lets them pass well in time.
 */
static void
heed_rate(OutboxRelay *relay, int64 bytes, int64 done, int64 took_ms)
{
	OutboxProgress progress = {.bytes = (int64) relay->chunks[relay->sending].frames.len,
							   .took_ms = took_ms};
	OutboxWindow  *window = &relay->window;
	int64		   before = window->most_bytes;

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
					relay->chunks[relay->sending].row.batch_no, outbox_rate_of(&progress),
					window->most_bytes)));
	if (!relay->ahead)
		return;
	/* what was read ahead is no row yet: the window is opened anew */
	relay->ahead = false;
	window->next = window->count = 0;
}

static void
take_committed(OutboxRelay *relay, OutboxWireReader *body)
{
	int64			   batch_no = (int64) outbox_wire_get_u64(body);
	uint32			   events = outbox_wire_get_u32(body);
	uint64			   bytes = outbox_wire_get_u64(body);
	OutboxRelayStatus *status = &relay->slot->status;
	bool			   suspect;
	bool			   doubled;
	int64			   took_ms;
	TimestampTz		   now = GetCurrentTimestamp();

	took_ms = (int64) outbox_wire_get_u64(body) / 1000;
	suspect = outbox_wire_get_u8(body) != 0;
	if (relay->state != OUTBOX_RELAY_SENDING ||
		batch_no != relay->chunks[relay->sending].row.batch_no)
		elog(ERROR, "the sender committed batch " INT64_FORMAT ", which was not asked for",
			 batch_no);

	OUTBOX_FAULT("relay-committed-received");
	/*
	 * what was sent in at_least_once stays, whatever became of its cursor, and whatever is set
	 * since
	 */
	doubled = relay->resending && !relay->refreshing && !relay->cursor_lost &&
		(outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE || relay->comparison.lagged);
	relay->delivered = batch_no;
	relay->overruled = relay->cursor_lost = relay->time_refused = false;
	relay->failures = 0;
	relay->fenced = !suspect;
	heed_rate(relay, (int64) bytes, (int64) bytes, took_ms);
	SpinLockAcquire(&relay->slot->mutex);
	status->delivered_batch = batch_no;
	status->delivered_at = now;
	status->batches_sent++;
	status->events_sent += events;
	status->bytes_sent += bytes;
	status->suspect_transactions += suspect;
	status->possibly_doubled += doubled ? events : 0;
	SpinLockRelease(&relay->slot->mutex);
	outbox_relay_settle_backlog(relay);
	outbox_relay_progressed(relay->slot);
	outbox_relay_after_commit(relay);
}

/* Policy stop: the batch is tried again until a person has mended the cause. */
static void
stop_at_refused(OutboxRelay *relay, const char *event, const OutboxRefusedEvent *refused)
{
	outbox_relay_fail(relay, false,
					  psprintf("Kafka refuses %s of batch " INT64_FORMAT
							   ": %s (Kafka error %d); the relay waits, outbox.dead_letter_policy "
							   "is stop",
							   event, relay->chunks[relay->sending].row.batch_no, refused->text,
							   refused->kafka_error));
}

/*
 * What followed the refused record in its partition was rejected as out of sequence.  librdkafka
 * 2.0.2 may take that into the next transaction, which then fails when message.timeout.ms is over:
 * a new producer begins it (I6).
 */
static void
fence_after_refusal(OutboxRelay *relay)
{
	relay->fenced = relay->asked = relay->ahead = false;
	relay->window.next = relay->window.count = 0;
	outbox_relay_enter(relay, OUTBOX_RELAY_FENCING);
}

/* The events of REFUSED, texts and all; *count of them. */
static OutboxRefusedEvent *
read_refused_events(OutboxWireReader *body, uint32 *count)
{
	uint16				ntexts = outbox_wire_get_u16(body);
	char			  **texts = palloc((ntexts + 1) * sizeof(char *));
	OutboxRefusedEvent *events;

	for (int i = 0; i < ntexts; i++)
		texts[i] = outbox_link_text(body);
	*count = outbox_wire_get_u32(body);
	if (body->bad || *count > (size_t) (body->end - body->pos))
		elog(ERROR, "the sender wrote a refusal that cannot be read");
	events = MemoryContextAllocHuge(CurrentMemoryContext,
									(*count + (Size) 1) * sizeof(OutboxRefusedEvent));
	for (uint32 i = 0; i < *count; i++)
	{
		uint16 text;

		events[i].index = outbox_wire_get_u32(body);
		events[i].kafka_error = (int32) outbox_wire_get_u32(body);
		events[i].whole_topic = outbox_wire_get_u8(body) != 0;
		text = outbox_wire_get_u16(body);
		if (body->bad || text >= ntexts)
			elog(ERROR, "the sender wrote a refusal that cannot be read");
		events[i].text = texts[text];
	}
	return events;
}

/* Says so in the log, and of a whole topic in last_error. */
static void
tell_refused(OutboxRelay *relay, const OutboxRefusedEvent *refused, uint32 count, const char *event)
{
	OutboxChunk *chunk = &relay->chunks[relay->sending];
	int			 told = 0;

	for (uint32 i = 0; i < count && told < MOST_TOPICS_TOLD; i++)
	{
		if (!refused[i].whole_topic)
			continue;
		outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY,
								  psprintf("events of topic \"%s\" are refused: %s",
										   outbox_refusal_topic(chunk, &relay->window,
																refused[i].index),
										   refused[i].text));
		told++;
	}
	ereport(LOG,
			(errmsg("outbox relay: Kafka refuses %s of batch " INT64_FORMAT ": %s", event,
					chunk->row.batch_no, refused[0].text),
			 outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_KEY ?
				 errdetail("%u events of the batch are refused, or their topics. They become rows "
						   "of outbox.dead_letter, later events of their keys wait, the batch is "
						   "sent without them.",
						   count) :
				 errdetail("%u events of the batch are refused, or their topics. They become rows "
						   "of outbox.dead_letter, the batch is sent without them.",
						   count)));
}

/* Their dead letters, in one transaction (I7). */
static void
store_refused(OutboxRelay *relay, const OutboxRefusedEvent *refused, uint32 count)
{
	int letters;

	OUTBOX_FAULT("relay-refused");
	OUTBOX_MUTATE("late_exclusion", synchronous_commit = SYNCHRONOUS_COMMIT_OFF);
	letters = outbox_refusal_store(&relay->chunks[relay->sending], &relay->window, refused, count);
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
tell_suspects(OutboxRelay *relay, uint32 suspects, uint32 per_request, const char *why)
{
	const OutboxChunk *chunk = &relay->chunks[relay->sending];
	double			   seconds = Max(outbox_clock_now() - relay->entered_at, 1) / 1e6;
	char *text = psprintf("Kafka refuses a request of %u records of batch " INT64_FORMAT ": %s",
						  suspects, chunk->row.batch_no, why);
	char *sizes = per_request == 0 ? pstrdup("") :
									 psprintf(" in requests of at most %u records", per_request);

	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
	ereport(LOG,
			(errmsg("outbox relay: %s", text),
			 errdetail("The batch of %d events is sent again%s, to find which one is to blame; "
					   "this round sent %.0f events a second.",
					   chunk->sent, sizes, chunk->sent / seconds)));
}

static void
take_refused(OutboxRelay *relay, OutboxWireReader *body)
{
	bool				fence = outbox_wire_get_u8(body) != 0;
	uint32				suspects = outbox_wire_get_u32(body);
	uint32				per_request = outbox_wire_get_u32(body);
	char			   *why = outbox_link_text(body);
	uint32				count;
	OutboxRefusedEvent *refused = read_refused_events(body, &count);

	if (relay->state != OUTBOX_RELAY_SENDING)
		return;
	SpinLockAcquire(&relay->slot->mutex);
	relay->slot->status.refusal_rounds++;
	SpinLockRelease(&relay->slot->mutex);
	if (suspects > 0)
		tell_suspects(relay, suspects, per_request, why);
	if (count > 0)
	{
		char *event = outbox_refusal_describe(&relay->chunks[relay->sending], &relay->window,
											  refused[0].index);

		if (outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_STOP)
		{
			stop_at_refused(relay, event, &refused[0]);
			return;
		}
		tell_refused(relay, refused, count, event);
		store_refused(relay, refused, count);
	}
	if (outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE && !fence)
		outbox_relay_send_again(relay);
	else
		fence_after_refusal(relay);
}

static void
take_failed(OutboxRelay *relay, OutboxWireReader *body)
{
	OutboxErrorClass class = outbox_wire_get_u8(body);
	int32 error = (int32) outbox_wire_get_u32(body);
	char *tried = outbox_link_text(body);
	char *text = outbox_link_text(body);
	int64 bytes = (int64) outbox_wire_get_u64(body);
	int64 done = (int64) outbox_wire_get_u64(body);
	int64 took_ms = (int64) outbox_wire_get_u64(body);

	if (relay->state == OUTBOX_RELAY_HOLD)
		return;
	/* the cursor would only have told how adopt() goes on */
	if (relay->state == OUTBOX_RELAY_CONNECTING && !relay->overruled &&
		relay->identity.marker_verdict == OUTBOX_MARKER_COPIED)
	{
		memset(&relay->comparison, 0, sizeof(relay->comparison));
		relay->comparison.verdict = OUTBOX_START_CURSOR_LOST;
		outbox_start_call_copy(&relay->comparison, COPIED_REASON);
		outbox_relay_decide(relay);
		return;
	}
	if (relay->state == OUTBOX_RELAY_SENDING)
	{
		relay->time_refused |= error == KAFKA_INVALID_TIMESTAMP;
		if (done > 0)
			heed_rate(relay, bytes, done, took_ms);
	}
	outbox_relay_fail(relay, !relay->opened,
					  psprintf("%s failed (%s, Kafka error %d): %s", tried,
							   outbox_error_class_name(class), error, text));
	/* the other one shows who it is in the cursor; until then it is left alone */
	if (class == OUTBOX_ERROR_FENCED)
		relay->next_try =
			Max(relay->next_try, TimestampTzPlusMilliseconds(outbox_clock_now(), FENCED_WAIT_MS));
}

void
outbox_relay_read_answers(OutboxRelay *relay)
{
	OutboxFrameType	 type;
	OutboxWireReader body;

	if (outbox_link_pid() == 0)
		return;
	if (!outbox_link_pump())
	{
		outbox_relay_fail(relay, true, "the sender has ended");
		return;
	}
	while (outbox_link_pid() != 0 && outbox_link_next(&type, &body))
	{
		switch (type)
		{
			case OUTBOX_FRAME_OPENED:
				take_opened(relay, &body);
				break;
			case OUTBOX_FRAME_CURSOR:
				take_cursor(relay, &body);
				break;
			case OUTBOX_FRAME_MEMBERS:
				outbox_relay_take_members(relay, &body);
				break;
			case OUTBOX_FRAME_COMMITTED:
				take_committed(relay, &body);
				break;
			case OUTBOX_FRAME_REFUSED:
				take_refused(relay, &body);
				break;
			case OUTBOX_FRAME_FAILED:
				take_failed(relay, &body);
				break;
			default:
				elog(ERROR, "the sender wrote a frame of unknown type %d", (int) type);
		}
	}
}
