/* SPDX-License-Identifier: PostgreSQL
 *
 * service_metrics.h
 *	  The runtime's metrics.  Any thread.
 */
#ifndef OUTBOX_SERVICE_METRICS_H
#define OUTBOX_SERVICE_METRICS_H

#include "anchor.h"
#include "consumer.h"
#include "item.h"
#include "services/lib/db.h"

extern void outbox_count_record(const char *topic, const char *result);
extern void outbox_count_outcome(const OutboxItem *item);
extern void outbox_observe_batch(OutboxItem **items, int count, double seconds);
extern void outbox_count_failure(OutboxDbFailure failure);
extern void outbox_set_breaker(bool open);
extern void outbox_set_idle(double seconds);
extern void outbox_set_paused(int paused, int halted);

/*
 * A partition's log was found to be another one; records deleted before they were read; a check of
 * a log.
 */
extern void outbox_count_log_change(const char *topic);
extern void outbox_count_lost(const char *topic, int64_t records);
extern void outbox_count_log_check(OutboxLogVerdict verdict);

/* At the start: counters that alerts ask for are there before anything is counted. */
extern void outbox_count_nothing(const char *topic);

/* kind: assigned, revoked, lost or failed. */
extern void outbox_count_rebalance(const char *consumer, const char *kind);

/* Fills outbox_dead_letters from the database; false: it did not answer. */
extern bool outbox_refresh_dead_letters(OutboxDb *db);
extern void outbox_set_build_info(void);

#endif /* OUTBOX_SERVICE_METRICS_H */
