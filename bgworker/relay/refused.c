/* SPDX-License-Identifier: PostgreSQL
 *
 * refused.c
 *	  Kafka refuses events of the batch in hand: what becomes of them by
 *	  outbox.dead_letter_policy, and of topics that are held from the batch on.
 *
 * Runs in the relay.  I7: all of it is committed before the batch is sent again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"

#include "refused.h"
#include "transition.h"
#include "bgworker/session.h"
#include "src/backlog.h"
#include "src/clock.h"
#include "src/common/topic_names.h"
#include "src/fault.h"
#include "src/guc.h"

#define MOST_TOPICS_TOLD 20 /* of one refusal, as last_error */

/* Policy stop: the batch is tried again until a person has mended the cause. */
static OutboxTurn
stop_at_refused(int64 batch_no, const char *event, const OutboxRefusedEvent *refused)
{
	return OUTBOX_FAIL(psprintf("Kafka refuses %s of batch " INT64_FORMAT ": %s (Kafka error %d); "
								"the relay waits, outbox.dead_letter_policy is stop",
								event, batch_no, refused->text, refused->kafka_error));
}

/* What else becomes of refused events. */
static const char *
describe_policy(void)
{
	if (outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_TOPIC)
		return "or their topics are held, later events of their keys wait, ";
	return outbox_guc_keys_wait() ? "later events of their keys wait, " : "";
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
			 errdetail("%u events of the batch are refused, or their topics. They become rows of "
					   "outbox.dead_letter, %sthe batch is sent without them.",
					   refused->count, describe_policy())));
}

/* ------------------------------------------------- a topic that is held */

static void
tell_held(OutboxRelay *relay, const OutboxHoldWanted *wanted, const OutboxHoldTaken *taken)
{
	ereport(LOG,
			(errmsg("outbox relay: topic \"%s\" is held from batch " INT64_FORMAT " on: %s",
					wanted->topic, relay->hand.chunk->row.batch_no, wanted->reason),
			 errdetail("%d events of the batch wait in hold " INT64_FORMAT
					   ", and %d copies that were on their way.",
					   taken->share.events, taken->share.hold, taken->copies)));
}

bool
outbox_refused_hold_topic(OutboxRelay *relay, const OutboxHoldWanted *wanted)
{
	OutboxHoldTaken taken = {0};
	bool			locked;

	outbox_session_begin();
	locked = outbox_hold_lock(wanted->topic);
	if (locked)
		outbox_hold_chunk_topic(relay->hand.chunk, &relay->window, wanted, &taken);
	OUTBOX_FAULT_WHEN(locked, "hold-uncommitted");
	OUTBOX_MUTATE("late_hold", synchronous_commit = SYNCHRONOUS_COMMIT_OFF);
	outbox_session_end();
	if (!locked)
		return false;
	OUTBOX_FAULT("hold-committed");
	OUTBOX_MUTATE("late_hold", synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
				  XactLastCommitEnd = 0);
	relay->row_end = Max(relay->row_end, XactLastCommitEnd);
	outbox_backlog_hold(relay->slot, wanted->topic, strlen(wanted->topic),
						taken.share.bytes + taken.copied_bytes);
	relay->holds.loaded = false;
	outbox_hand_drop_ahead(&relay->hand, &relay->window);
	if (outbox_guc_delivery == OUTBOX_DELIVERY_AT_LEAST_ONCE)
		outbox_relay_count_doubled(relay, taken.share.events + taken.copies);
	tell_held(relay, wanted, &taken);
	return true;
}

static bool
is_among(const List *topics, const char *topic)
{
	ListCell *cell;

	foreach(cell, topics)
	{
		if (strcmp(lfirst(cell), topic) == 0)
			return true;
	}
	return false;
}

/*
 * Policy hold_topic: topics that are refused as a whole are held, but for names that Kafka can
 * never have.  The first topic that is locked, which is then refused once more; NULL: none.
 */
static const char *
hold_refused_topics(OutboxRelay *relay, const OutboxRefused *refused)
{
	List *topics = NIL;

	for (uint32 i = 0; i < refused->count; i++)
	{
		const OutboxRefusedEvent *one = &refused->events[i];
		OutboxHoldWanted		  wanted = {.cause = OUTBOX_HOLD_REFUSED, .partition = -1};

		if (!one->whole_topic)
			continue;
		wanted.topic = outbox_refusal_topic(relay->hand.chunk, &relay->window, one->index);
		if (strlen(wanted.topic) > OUTBOX_TOPIC_NAME_MAX || is_among(topics, wanted.topic))
			continue;
		topics = lappend(topics, unconstify(char *, wanted.topic));
		wanted.reason = psprintf("%s (Kafka error %d)", one->text, one->kafka_error);
		if (!outbox_refused_hold_topic(relay, &wanted))
			return wanted.topic;
	}
	return NULL;
}

/* -------------------------------------------------------- dead letters */

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
OutboxTurn
outbox_refused_fence(OutboxRelay *relay)
{
	relay->peer = OUTBOX_PEER_OPENED;
	outbox_hand_drop_ahead(&relay->hand, &relay->window);
	return outbox_relay_go_on(relay, false);
}

OutboxTurn
outbox_refused_take(OutboxRelay *relay, const OutboxRefused *refused)
{
	const char *locked = NULL;

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
		if (outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_TOPIC)
			locked = hold_refused_topics(relay, refused);
		store_refused(relay, refused);
		if (locked != NULL)
			return OUTBOX_FAIL(psprintf("topic \"%s\" cannot be held yet: somebody has locked its "
										"row of outbox.topic",
										locked));
	}
	if (outbox_guc_delivery != OUTBOX_DELIVERY_AT_LEAST_ONCE || refused->fence)
		return outbox_refused_fence(relay);
	return outbox_relay_go_on(relay, false);
}
