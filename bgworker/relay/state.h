/* SPDX-License-Identifier: PostgreSQL
 *
 * state.h
 *	  Which state of the relay may follow which.  Pure.
 */
#ifndef OUTBOX_RELAY_STATE_H
#define OUTBOX_RELAY_STATE_H

#include "src/shmem.h"

/* May `to` follow `from`?  Every state may fall to BACKOFF and HOLD. */
extern bool outbox_relay_state_follows(OutboxRelayState from, OutboxRelayState to);

#endif /* OUTBOX_RELAY_STATE_H */
