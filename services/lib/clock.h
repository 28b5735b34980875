/* SPDX-License-Identifier: PostgreSQL
 *
 * clock.h
 *	  The clock of time-outs, back-offs and metrics.
 */
#ifndef OUTBOX_CLOCK_H
#define OUTBOX_CLOCK_H

#include <stdint.h>

/* Milliseconds of the monotonic clock; any thread. */
extern int64_t outbox_clock_ms(void);

#endif /* OUTBOX_CLOCK_H */
