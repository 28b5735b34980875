/* SPDX-License-Identifier: PostgreSQL
 *
 * clock_step.h
 *	  Notices a wall clock that was set back.
 *
 * Process: any that is attached to shared memory.
 */
#ifndef OUTBOX_CLOCK_STEP_H
#define OUTBOX_CLOCK_STEP_H

#include "datatype/timestamp.h"

/*
 * Compares the wall clock, which the caller has just read, with the clock that does not step.  Who
 * writes events calls it when it emits and when it has committed, and the relay at each turn, so
 * that no commit time comes from a clock that was set back unnoticed.  Costs a look at the other
 * clock.  Does nothing without the preload.
 */
extern void outbox_clock_step_watch(TimestampTz wall);

/*
 * The next transaction id when the clock was last found set back; 0: not since the server's start.
 */
extern uint64 outbox_clock_step_last(void);

#endif /* OUTBOX_CLOCK_STEP_H */
