/* SPDX-License-Identifier: PostgreSQL
 *
 * clock.h
 *	  The clock of the relay's and the launcher's own waits.
 *
 * Process: relay, launcher.
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
