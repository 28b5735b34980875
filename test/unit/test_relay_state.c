/* SPDX-License-Identifier: PostgreSQL
 *
 * test_relay_state.c
 *	  What comes after a known cursor, a commit or found work, and which state may follow which.
 */
#include "postgres.h"

#include "unit.h"
#include "bgworker/relay/state.h"

/* Batch 7 is the newest row and delivered, nothing else is there. */
static OutboxStanding
rest(void)
{
	return (OutboxStanding) {.peer = OUTBOX_PEER_FENCED, .delivered = 7, .last = 7};
}

static bool
leads_to(OutboxStanding standing, OutboxRelayState state, OutboxErrand errand)
{
	OutboxNext next = outbox_relay_next(&standing);

	return next.state == state && next.errand == errand;
}

static void
test_order(void)
{
	OutboxStanding standing = rest();

	CHECK(leads_to(standing, OUTBOX_RELAY_IDLE, OUTBOX_ERRAND_NEXT), "nothing is left: idle");
	standing.unsent = true;
	CHECK(leads_to(standing, OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_NEXT), "the window goes on");
	standing.delivered = 5;
	CHECK(leads_to(standing, OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_AGAIN),
		  "I3: old rows come before new ones");
	standing.unsent = false;
	CHECK(leads_to(standing, OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_AGAIN), "an old row alone");
	standing.refresh = true;
	CHECK(leads_to(standing, OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_REFRESH),
		  "the cursor alone comes before old rows");
	standing.delivered = -1;
	standing.refresh = false;
	CHECK(leads_to(standing, OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_AGAIN),
		  "nothing is known delivered: the first row");
}

/* I4, I6: whatever there is to be done, a producer without a fence does none of it. */
static void
test_fence_first(void)
{
	static const OutboxPeer unfenced[] = {OUTBOX_PEER_NONE, OUTBOX_PEER_OPENING, OUTBOX_PEER_OPENED,
										  OUTBOX_PEER_ASKED};
	bool					first = true;

	for (int i = 0; i < (int) lengthof(unfenced) * 8; i++)
	{
		OutboxStanding standing = rest();

		standing.peer = unfenced[i / 8];
		standing.delivered = (i & 1) != 0 ? 6 : 7;
		standing.unsent = (i & 2) != 0;
		standing.refresh = (i & 4) != 0;
		first = first && leads_to(standing, OUTBOX_RELAY_FENCING, OUTBOX_ERRAND_NEXT);
	}
	CHECK(first, "I4, I6: a fence before all else");
}

static void
test_ways(void)
{
	bool falls = true;

	CHECK(outbox_relay_state_follows(OUTBOX_RELAY_FENCING, OUTBOX_RELAY_PREPARING) &&
			  outbox_relay_state_follows(OUTBOX_RELAY_IDLE, OUTBOX_RELAY_PREPARING) &&
			  outbox_relay_state_follows(OUTBOX_RELAY_SENDING, OUTBOX_RELAY_PREPARING),
		  "who knows the cursor may prepare a batch");
	CHECK(outbox_relay_state_follows(OUTBOX_RELAY_IDLE, OUTBOX_RELAY_FENCING) &&
			  outbox_relay_state_follows(OUTBOX_RELAY_SENDING, OUTBOX_RELAY_FENCING),
		  "who has no fence may ask for one");
	CHECK(!outbox_relay_state_follows(OUTBOX_RELAY_CONNECTING, OUTBOX_RELAY_PREPARING),
		  "I4: no batch after an unfenced cursor");
	CHECK(!outbox_relay_state_follows(OUTBOX_RELAY_PREPARING, OUTBOX_RELAY_SENDING) &&
			  !outbox_relay_state_follows(OUTBOX_RELAY_IDLE, OUTBOX_RELAY_SENDING),
		  "I2: no batch is sent past the wait for the standbys");
	CHECK(!outbox_relay_state_follows(OUTBOX_RELAY_BACKOFF, OUTBOX_RELAY_FENCING),
		  "I6: after a failure the relay connects");
	for (int from = OUTBOX_RELAY_STOPPED; from <= OUTBOX_RELAY_HOLD; from++)
		falls = falls && outbox_relay_state_follows(from, OUTBOX_RELAY_BACKOFF) &&
			outbox_relay_state_follows(from, OUTBOX_RELAY_HOLD);
	CHECK(falls, "every state may fail or hold");
}

int
main(void)
{
	test_order();
	test_fence_first();
	test_ways();
	return finish_tests();
}
