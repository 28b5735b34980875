/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_api.h
 *	  What the monitor answers: /consumer-lag and /dead-letters.
 */
#ifndef OUTBOX_LAG_API_H
#define OUTBOX_LAG_API_H

#include "services/lib/http.h"

/* Ended by a NULL method. */
extern const OutboxRoute outbox_lag_routes[];

#endif /* OUTBOX_LAG_API_H */
