/* SPDX-License-Identifier: PostgreSQL
 *
 * presence.c
 *	  Who else sends for this installation, as the relay asks its sender and waits.
 *
 * Runs in the relay.  The sender joins group outbox-alive.<installation> when it gets its settings;
 * before a fence, and before an idle relay stays, the group must have shown nobody else.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "link.h"
#include "relay.h"
#include "bgworker/clock.h"

#define ALONE_HOLDS_MS 1000 /* a look at the group is good for so long */
#define ASK_AGAIN_MS   250
#define TELL_AFTER_MS  3000 /* then last_error says who is waited for */

#define WAITING "another sender of this installation is in Kafka, its session is waited for"

bool
outbox_relay_is_alone(OutboxRelay *relay)
{
	TimestampTz now = outbox_clock_now();

	if (relay->alone && !TimestampDifferenceExceeds(relay->alone_at, now, ALONE_HOLDS_MS))
		return true;
	relay->alone = false;
	if (!relay->asked && now >= relay->next_ask)
		outbox_relay_ask(relay, OUTBOX_FRAME_ALIVE);
	return false;
}

/* The first member that is another relay's, as text; NULL: there is none. */
static char *
find_other(const OutboxRelay *relay, OutboxWireReader *body)
{
	uint16 members = outbox_wire_get_u16(body);
	char   own[OUTBOX_TOKEN_SIZE];
	char  *other = NULL;

	outbox_alive_write_token(own, sizeof(own), relay->identity.timeline, relay->identity.system_id,
							 &relay->identity.directory, relay->identity.database);
	for (int i = 0; i < members; i++)
	{
		char *client = outbox_link_text(body);
		char *host = outbox_link_text(body);

		if (other == NULL && outbox_alive_is_other(own, client))
			other = psprintf("%s at %s", client, host);
	}
	return other;
}

/* For how long it holds, -1 = it does not; *since remembers when it began. */
static int64
ms_since(TimestampTz *since, bool holds, TimestampTz now)
{
	if (!holds)
		*since = 0;
	else if (*since == 0)
		*since = now;
	return holds ? TimestampDifferenceMilliseconds(*since, now) : -1;
}

static void
tell_of_other(OutboxRelay *relay, const char *other, int64 seen_ms)
{
	char *text = psprintf(WAITING ": %s", other);

	if (seen_ms == 0)
		ereport(LOG, (errmsg("outbox relay: %s", text)));
	if (seen_ms < TELL_AFTER_MS || relay->other_told)
		return;
	relay->other_told = true;
	outbox_shmem_report_error(relay->slot, OUTBOX_ERROR_OF_RELAY, text);
}

/* The wait has ended well: no error any more. */
static void
forget_other(OutboxRelay *relay)
{
	OutboxLastError *error = &relay->slot->status.errors[OUTBOX_ERROR_OF_RELAY];

	SpinLockAcquire(&relay->slot->mutex);
	if (strncmp(error->text, WAITING, strlen(WAITING)) == 0)
	{
		error->text[0] = '\0';
		error->at = error->recovered_at = 0;
	}
	SpinLockRelease(&relay->slot->mutex);
}

static void
tell_of_right(OutboxRelay *relay, const char *problem)
{
	if (relay->no_right_told)
		return;
	relay->no_right_told = true;
	ereport(WARNING,
			(errmsg("outbox relay: a copy of this server that sends at the same time would not be "
					"seen: %s",
					problem),
			 errhint("The relay must be able to join group outbox-alive.<installation> "
					 "(docs/settings.md).")));
}

static void
hold_for_other(OutboxRelay *relay, const char *other)
{
	bool delivered = relay->delivered >= relay->last.batch_no;

	outbox_start_call_copy(
		&relay->comparison,
		psprintf("another server sends for this installation, %.250s: one of the two is a copy. "
				 "Stop the wrong one; adopt() makes this one an installation of its own",
				 other));
	relay->comparison.last_delivered = delivered;
	outbox_relay_decide(relay);
}

void
outbox_relay_take_members(OutboxRelay *relay, OutboxWireReader *body)
{
	OutboxAliveView	   view = {.last_writer = relay->comparison.written_here};
	TimestampTz		   now = outbox_clock_now();
	OutboxAliveVerdict verdict;
	char			  *problem;
	char			  *other;

	view.allowed = outbox_wire_get_u8(body) != 0;
	view.joined = outbox_wire_get_u8(body) != 0;
	problem = outbox_link_text(body);
	other = find_other(relay, body);
	if (relay->state != OUTBOX_RELAY_CONNECTING && relay->state != OUTBOX_RELAY_FENCING)
		return; /* asked before a failure */
	relay->asked = false;
	relay->entered_at = now; /* the sender does answer */
	view.other = other != NULL;
	view.other_for_ms = ms_since(&relay->other_since, view.other || relay->other_since != 0, now);
	view.gone_for_ms = ms_since(&relay->gone_since, !view.other && relay->other_since != 0, now);
	view.joining_for_ms = ms_since(&relay->joining_since, !view.joined, now);
	if (view.other)
		tell_of_other(relay, other, view.other_for_ms);
	else
		relay->other_told = false;

	verdict = outbox_alive_judge(&view);
	if (!view.allowed)
		tell_of_right(relay, problem);
	else if (verdict == OUTBOX_ALIVE_ALONE && !view.joined)
		tell_of_right(relay,
					  psprintf("its sender is not in the group after %d s",
							   OUTBOX_ALIVE_JOIN_MS / 1000));
	if (verdict == OUTBOX_ALIVE_HOLD)
		hold_for_other(relay, other);
	else if (verdict == OUTBOX_ALIVE_LOOK)
		relay->next_ask = TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS);
	else
	{
		relay->alone = true;
		relay->alone_at = now;
		if (relay->other_since != 0)
			forget_other(relay);
		/* who has gone may have moved the cursor */
		relay->looked = relay->looked && relay->other_since == 0;
		relay->other_since = relay->gone_since = 0;
	}
}
