/* SPDX-License-Identifier: PostgreSQL
 *
 * call_gate.c
 *	  Who may call out now.
 *
 * Runs in the services, any thread.
 */
#include "call_gate.h"

#define WANTED_MS 500
#define ALONE_MS  5000

void
outbox_call_gate_init(OutboxCallGate *gate)
{
	pthread_mutex_init(&gate->lock, NULL);
	gate->together = 0;
	gate->alone = false;
	gate->alone_at = 0;
	gate->wanted_at = INT64_MIN / 2;
}

/* The caller has the lock. */
static bool
is_open(const OutboxCallGate *gate, int64_t now)
{
	return (!gate->alone || now - gate->alone_at >= ALONE_MS) && now - gate->wanted_at >= WANTED_MS;
}

bool
outbox_call_gate_is_open(OutboxCallGate *gate, int64_t now)
{
	bool open;

	pthread_mutex_lock(&gate->lock);
	open = is_open(gate, now);
	pthread_mutex_unlock(&gate->lock);
	return open;
}

bool
outbox_call_gate_enter(OutboxCallGate *gate, bool alone, int64_t now)
{
	bool entered;

	pthread_mutex_lock(&gate->lock);
	if (alone)
	{
		entered = !gate->alone && gate->together == 0;
		if (!gate->alone && !entered)
			gate->wanted_at = now;
		if (entered)
			gate->alone_at = now;
		gate->alone = gate->alone || entered;
	}
	else
	{
		entered = is_open(gate, now);
		gate->together += entered;
	}
	pthread_mutex_unlock(&gate->lock);
	return entered;
}

void
outbox_call_gate_leave(OutboxCallGate *gate, bool alone)
{
	pthread_mutex_lock(&gate->lock);
	if (alone)
		gate->alone = false;
	else
		gate->together--;
	pthread_mutex_unlock(&gate->lock);
}
