/* SPDX-License-Identifier: PostgreSQL
 *
 * call_gate.h
 *	  Who may call out now: many at once, or a call that may end the process alone.
 *
 * Nobody waits here: who is refused asks again at its next turn.  Any thread.
 */
#ifndef OUTBOX_CALL_GATE_H
#define OUTBOX_CALL_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One for all members of the process. */
typedef struct OutboxCallGate
{
	pthread_mutex_t lock;	   /* of what follows */
	int				together;  /* calls under way side by side */
	bool			alone;	   /* one is under way that no other may be beside */
	int64_t			alone_at;  /* since when, outbox_clock_ms */
	int64_t			wanted_at; /* when such a one was refused last for others, outbox_clock_ms */
} OutboxCallGate;

extern void outbox_call_gate_init(OutboxCallGate *gate);

/*
 * true: the call may be made, and outbox_call_gate_leave is to follow.  One that is to be alone is
 * refused while any is under way, and keeps others from beginning as long as it asks at least every
 * 500 ms.  One that is alone for 5 s keeps only such as are to be alone, too, from beginning: a
 * system that does not answer must not stop all calls.
 */
extern bool outbox_call_gate_enter(OutboxCallGate *gate, bool alone, int64_t now);

/* Would one that need not be alone enter now? */
extern bool outbox_call_gate_is_open(OutboxCallGate *gate, int64_t now);
extern void outbox_call_gate_leave(OutboxCallGate *gate, bool alone);

#endif /* OUTBOX_CALL_GATE_H */
