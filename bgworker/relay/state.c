/* SPDX-License-Identifier: PostgreSQL
 *
 * state.c
 *	  The relay's states: which may follow which, and which one comes next.
 *
 * Pure; the table stands in README.md.
 */
#include "postgres.h"

#include "state.h"

#define BIT(state) (1u << (state))

static const uint32 followers[] = {
	[OUTBOX_RELAY_STOPPED] = BIT(OUTBOX_RELAY_STARTING),
	[OUTBOX_RELAY_STARTING] = BIT(OUTBOX_RELAY_CONNECTING),
	[OUTBOX_RELAY_CONNECTING] = BIT(OUTBOX_RELAY_IDLE),
	[OUTBOX_RELAY_FENCING] = BIT(OUTBOX_RELAY_IDLE) | BIT(OUTBOX_RELAY_PREPARING),
	[OUTBOX_RELAY_IDLE] =
		BIT(OUTBOX_RELAY_FENCING) | BIT(OUTBOX_RELAY_PREPARING) | BIT(OUTBOX_RELAY_CONNECTING),
	[OUTBOX_RELAY_PREPARING] = BIT(OUTBOX_RELAY_REPLICATING),
	[OUTBOX_RELAY_REPLICATING] = BIT(OUTBOX_RELAY_SENDING),
	[OUTBOX_RELAY_SENDING] =
		BIT(OUTBOX_RELAY_IDLE) | BIT(OUTBOX_RELAY_PREPARING) | BIT(OUTBOX_RELAY_FENCING),
	[OUTBOX_RELAY_BACKOFF] = BIT(OUTBOX_RELAY_CONNECTING),
	[OUTBOX_RELAY_HOLD] = BIT(OUTBOX_RELAY_STARTING),
};

bool
outbox_relay_state_follows(OutboxRelayState from, OutboxRelayState to)
{
	if (to == OUTBOX_RELAY_BACKOFF || to == OUTBOX_RELAY_HOLD || to == OUTBOX_RELAY_STOPPED)
		return true;
	return (followers[from] & BIT(to)) != 0;
}

OutboxNext
outbox_relay_next(const OutboxStanding *standing)
{
	if (standing->peer != OUTBOX_PEER_FENCED)
		return (OutboxNext) {OUTBOX_RELAY_FENCING, OUTBOX_ERRAND_NEXT};
	if (standing->refresh)
		return (OutboxNext) {OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_REFRESH};
	if (standing->delivered < standing->last)
		return (OutboxNext) {OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_AGAIN}; /* I3 */
	if (standing->unsent)
		return (OutboxNext) {OUTBOX_RELAY_PREPARING, OUTBOX_ERRAND_NEXT};
	return (OutboxNext) {OUTBOX_RELAY_IDLE, OUTBOX_ERRAND_NEXT};
}
