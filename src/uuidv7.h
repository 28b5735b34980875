/* SPDX-License-Identifier: PostgreSQL
 *
 * uuidv7.h
 *	  UUID version 7 (RFC 9562): the identity of an event.
 */
#ifndef OUTBOX_UUIDV7_H
#define OUTBOX_UUIDV7_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/*
 * Makes an id of the time `now`: 48 bits of Unix milliseconds, 12 bits of the
 * fraction of the millisecond (RFC 9562, 6.2, method 3), 62 random bits.  Any
 * backend.  Error when there is no source of randomness.
 */
extern void outbox_uuidv7_make(pg_uuid_t *id, TimestampTz now);

#endif /* OUTBOX_UUIDV7_H */
