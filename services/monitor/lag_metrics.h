/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_metrics.h
 *	  The monitor's part of /metrics.
 */
#ifndef OUTBOX_LAG_METRICS_H
#define OUTBOX_LAG_METRICS_H

/* Adds it to /metrics.  Before the threads start. */
extern void outbox_lag_metrics_setup(void);

#endif /* OUTBOX_LAG_METRICS_H */
