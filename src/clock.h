/* SPDX-License-Identifier: PostgreSQL
 *
 * clock.h
 *	  A clock that does not step: of waits, and what the wall clock is compared with.
 *
 * Process: application backends, relay, launcher.
 */
#ifndef OUTBOX_CLOCK_H
#define OUTBOX_CLOCK_H

#include "datatype/timestamp.h"

/*
 * Microseconds since some moment before the process began; never steps, whatever is
 * done to the wall clock.  Compared and added to like a TimestampTz, shown to nobody.
 */
extern TimestampTz outbox_clock_now(void);

#endif /* OUTBOX_CLOCK_H */
