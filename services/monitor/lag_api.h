/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_api.h
 *	  What the monitor answers: /consumer-lag, /dead-letters, and its part of /metrics.
 */
#ifndef OUTBOX_LAG_API_H
#define OUTBOX_LAG_API_H

#include <stdio.h>

#include "services/lib/http.h"

/* Ended by a NULL method. */
extern const OutboxRoute outbox_lag_routes[];

/* For outbox_metrics_collect; cluster is a label of every series. */
extern void outbox_lag_metrics_setup(const char *cluster);
extern void outbox_lag_metrics_write(FILE *out);

#endif /* OUTBOX_LAG_API_H */
