/* SPDX-License-Identifier: PostgreSQL
 *
 * connect.c
 *	  The way to a fence: starting, connecting, fenced.
 *
 * Runs in the relay.  I4: an unfenced cursor may only decide to hold; the fenced one says what is
 * delivered.  I6: whatever went before, this is the way back.
 */
#include "postgres.h"

#include "connect.h"
#include "hello.h"
#include "last.h"
#include "leader_watch.h"
#include "link.h"
#include "presence.h"
#include "standby.h"
#include "transition.h"
#include "bgworker/events/retention.h"
#include "bgworker/session.h"
#include "src/clock.h"
#include "src/fault.h"

#define COPIED_REASON \
	"the data directory was copied or moved: file \"" OUTBOX_MARKER_FILE \
	"\" in it was made elsewhere. A copy must not send what the original sends; where it was " \
	"moved, or restored and the original is gone, adopt('resend') goes on with what Kafka does " \
	"not have"

/* ------------------------------------------------------------- starting */

/* What the tables alone say, and a hold that was kept. */
static void
compare_tables(OutboxRelay *relay)
{
	OutboxComparison *comparison = &relay->comparison;
	OutboxIdentity	 *identity = &relay->identity;

	outbox_start_check_lineage(&relay->last, identity, comparison);
	if (comparison->verdict != OUTBOX_START_DIVERGED && identity->held[0] != '\0')
	{
		outbox_start_call_copy(comparison, identity->held);
		comparison->last_delivered = identity->held_delivered;
	}
	if (identity->marker_verdict == OUTBOX_MARKER_LATER && identity->held[0] == '\0')
		outbox_identity_accept_marker(identity);
}

/*
 * Without a batch row the relay waits for one: a genesis row of its own would stand in the way of
 * the rows that a restore is about to bring.
 */
OutboxTurn
outbox_connect_starting(OutboxRelay *relay)
{
	OutboxBatchRow newest;

	if (!relay->look_due)
		return OUTBOX_WAIT;
	relay->look_due = false;
	if (!outbox_batch_log_load(-1, relay->scratch, &newest))
	{
		outbox_relay_await_genesis(relay);
		return OUTBOX_WAIT;
	}
	outbox_last_read(relay);
	relay->slot->measured = true;
	outbox_session_begin();
	(void) outbox_retention_batch_leaf();
	outbox_session_end();
	relay->start_fence = outbox_standby_fence(); /* I2 */
	OUTBOX_FAULT("relay-start-fence");
	relay->refreshed_at = outbox_clock_now();
	compare_tables(relay);
	if (relay->comparison.verdict == OUTBOX_START_DIVERGED)
		return OUTBOX_DIVERGE;
	return OUTBOX_ENTER(OUTBOX_RELAY_CONNECTING);
}

/* ----------------------------------------------- connecting and fencing */

static OutboxTurn
start_sender(OutboxRelay *relay)
{
	const char *problem;

	outbox_link_start();
	relay->peer = OUTBOX_PEER_OPENING;
	problem = outbox_hello_open(relay);
	if (problem == NULL)
		return OUTBOX_REPEAT;
	return (OutboxTurn) {.kind = OUTBOX_TURN_FAILS, .text = problem, .drop_sender = true};
}

OutboxTurn
outbox_connect_connecting(OutboxRelay *relay)
{
	if (relay->peer == OUTBOX_PEER_NONE)
		return start_sender(relay);
	if (relay->peer != OUTBOX_PEER_OPENED || !outbox_link_idle())
		return OUTBOX_WAIT;
	if (!relay->sight.looked)
	{
		outbox_hello_ask(relay, OUTBOX_FRAME_LOOK);
		return OUTBOX_REPEAT;
	}
	if (!outbox_presence_is_alone(relay))
		return OUTBOX_WAIT;
	relay->looked_at = outbox_clock_now(); /* nobody was there to move the cursor */
	relay->sight.looked = false;
	relay->look_due = true;
	return OUTBOX_ENTER(OUTBOX_RELAY_IDLE);
}

OutboxTurn
outbox_connect_fencing(OutboxRelay *relay)
{
	/* of a batch that was given up a part may be on its way, which no frame may come into */
	if (relay->peer == OUTBOX_PEER_ASKED || !outbox_link_idle() ||
		!outbox_presence_is_alone(relay)) /* I4 */
		return OUTBOX_WAIT;
	outbox_hello_ask(relay, OUTBOX_FRAME_FENCE);
	return OUTBOX_REPEAT;
}

static OutboxTurn
take_opened(OutboxRelay *relay, const OutboxOpened *opened)
{
	OutboxRelayStatus *status = &relay->slot->status;
	char			  *text = psprintf("librdkafka %s; %s", opened->library, opened->properties);
	char			   fitting[OUTBOX_TEXT_SIZE];

	if (opened->version != OUTBOX_WIRE_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("outbox-sender speaks version %u of the protocol, the relay version %u",
						opened->version, OUTBOX_WIRE_VERSION),
				 errhint("Library and sender are of different installations: restart the server "
						 "after make install.")));
	relay->peer = OUTBOX_PEER_OPENED;
	outbox_shmem_fit(fitting, text);
	SpinLockAcquire(&relay->slot->mutex);
	memcpy(status->kafka, fitting, sizeof(fitting));
	status->sender_pid = outbox_link_pid();
	SpinLockRelease(&relay->slot->mutex);
	return OUTBOX_REPEAT;
}

/* --------------------------------------------------------------- cursor */

static void
compare_cursor(OutboxRelay *relay, const OutboxKafkaCursor *kafka)
{
	OutboxComparison *comparison = &relay->comparison;
	/* an unfenced cursor that is behind may be about to move (I4) */
	bool			  may_lag = relay->state == OUTBOX_RELAY_CONNECTING || kafka->lags;

	if (relay->until_commit.overruled)
	{
		comparison->verdict = OUTBOX_START_SEND_AGAIN;
		comparison->delivered = relay->last.batch_no - 1;
		return;
	}
	outbox_start_compare(kafka, &relay->last, &relay->identity, may_lag, comparison);
	if (relay->identity.marker_verdict == OUTBOX_MARKER_COPIED &&
		!(comparison->verdict == OUTBOX_START_DIVERGED && comparison->kind == OUTBOX_SUPERSEDED))
		outbox_start_call_copy(comparison, COPIED_REASON);
}

/* Kafka has no cursor: the last batch is sent again, and nobody can tell whether it was there. */
static void
tell_lost_cursor(OutboxRelay *relay)
{
	ereport(LOG,
			(errmsg("outbox relay: Kafka has no cursor, batch " INT64_FORMAT
					" is sent again and may be doubled",
					relay->last.batch_no),
			 errdetail("The offset has expired, was deleted, or Kafka was replaced.")));
	relay->until_commit.cursor_lost = true;
	outbox_relay_count_doubled(relay, relay->last.events);
}

static OutboxTurn
take_fenced_cursor(OutboxRelay *relay)
{
	const OutboxComparison *comparison = &relay->comparison;

	relay->peer = OUTBOX_PEER_FENCED;
	relay->delivered = comparison->delivered;
	outbox_last_take_off(relay);
	if (comparison->verdict == OUTBOX_START_CURSOR_LOST && relay->last.batch_no > 0 &&
		!relay->until_commit.cursor_lost)
		tell_lost_cursor(relay);
	outbox_hello_declare_topics(relay);
	outbox_leader_watch_tell(relay);
	/* a cursor alone tells a server that was superseded who has taken over */
	return outbox_relay_go_on(relay, comparison->takes_over && relay->delivered >= 0);
}

/* The unfenced cursor has nothing against us; have the marker and the living? */
static OutboxTurn
take_looked_cursor(OutboxRelay *relay)
{
	relay->delivered = relay->comparison.delivered;
	if (!relay->until_commit.overruled && relay->identity.marker_verdict == OUTBOX_MARKER_UNKNOWN)
		outbox_identity_accept_marker(&relay->identity);
	relay->sight.looked = true;
	return OUTBOX_REPEAT;
}

/* Who had the id that the fence has left out may go on with it. */
static OutboxTurn
fail_passed_over(const OutboxCursorRead *cursor)
{
	return OUTBOX_FAIL(psprintf("%s, and %.100s:%.100s has committed the newest batch with that "
								"id: "
								"nothing is sent before the leader is back",
								cursor->why, cursor->kafka.host, cursor->kafka.data_directory));
}

static OutboxTurn
take_cursor(OutboxRelay *relay, const OutboxCursorRead *cursor)
{
	relay->longest_ms = cursor->longest_ms;
	relay->usual_ms = cursor->usual_ms;
	relay->peer = OUTBOX_PEER_OPENED;
	compare_cursor(relay, &cursor->kafka);
	if (relay->comparison.verdict == OUTBOX_START_DIVERGED)
		return OUTBOX_DIVERGE;
	if (relay->state != OUTBOX_RELAY_FENCING)
		return take_looked_cursor(relay);
	relay->spare = cursor->spare;
	if (cursor->passed_over &&
		!outbox_start_may_pass_over(&cursor->kafka, &relay->identity, cursor->spare))
		return fail_passed_over(cursor);
	return take_fenced_cursor(relay);
}

/* Where the directory is a copy's, no cursor is needed to know it, and none may come (I4). */
static OutboxTurn
take_failed(OutboxRelay *relay, const OutboxAnswer *answer)
{
	if (relay->state != OUTBOX_RELAY_CONNECTING || relay->until_commit.overruled ||
		relay->identity.marker_verdict != OUTBOX_MARKER_COPIED)
		return outbox_relay_take_unasked(relay, answer);
	/* the cursor would only have told how adopt() goes on */
	memset(&relay->comparison, 0, sizeof(relay->comparison));
	relay->comparison.verdict = OUTBOX_START_CURSOR_LOST;
	outbox_start_call_copy(&relay->comparison, COPIED_REASON);
	return OUTBOX_DIVERGE;
}

OutboxTurn
outbox_connect_take(OutboxRelay *relay, const OutboxAnswer *answer)
{
	switch (answer->type)
	{
		case OUTBOX_FRAME_OPENED:
			return take_opened(relay, &answer->opened);
		case OUTBOX_FRAME_CURSOR:
			return take_cursor(relay, &answer->cursor);
		case OUTBOX_FRAME_MEMBERS:
			return outbox_presence_take(relay, &answer->members);
		case OUTBOX_FRAME_FAILED:
			return take_failed(relay, answer);
		default:
			return outbox_relay_take_unasked(relay, answer);
	}
}
