/* SPDX-License-Identifier: PostgreSQL
 *
 * backoff.h
 *	  How long to wait before what has failed is tried again.
 */
#ifndef OUTBOX_BACKOFF_H
#define OUTBOX_BACKOFF_H

#include <stdint.h>

/*
 * Milliseconds to wait after so many failures in a row: first_ms after one, factor (1 or more)
 * times longer after each further one, most_ms at most.
 */
extern int64_t outbox_backoff_grow(int64_t first_ms, double factor, int64_t most_ms,
								   unsigned failures);

/*
 * The same of those who wait for a server: 100 ms to 30 s, doubled with each failure in a row, and
 * of that between a half and the whole.  random: state of rand_r(3), of the caller's thread.
 */
extern int64_t outbox_backoff(unsigned *random, unsigned failures);

#endif /* OUTBOX_BACKOFF_H */
