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

/* A record of the topic; result: what became of it, e.g. "duplicate" or "dead_lettered". */
extern void outbox_count_record(const char *topic, const char *result);

/* A call was committed: its outcome, as the handler's function returned it. */
extern void outbox_count_outcome(const OutboxItem *item);

/* The items were committed together, seconds after their transaction was begun. */
extern void outbox_observe_batch(OutboxItem **items, int count, double seconds);

/* A transaction has failed, or its beginning. */
extern void outbox_count_failure(OutboxDbFailure failure);

/* A partition's log was found to be another one. */
extern void outbox_count_log_change(const char *topic);

/* So many records were deleted before they were read. */
extern void outbox_count_lost(const char *topic, int64_t records);

/* A log was checked. */
extern void outbox_count_log_check(OutboxLogVerdict verdict);

/* kind: assigned, revoked, lost or failed. */
extern void outbox_count_rebalance(const char *kind);

/* At the start: counters of the topic that alerts ask for are there before anything is counted. */
extern void outbox_count_nothing(const char *topic);

/* Gauges: is the breaker open; time since the last record; partitions not read, of these halted. */
extern void outbox_set_breaker(bool open);
extern void outbox_set_idle(double seconds);
/* What a call to another system took, by what came of it. */
extern void outbox_observe_call(const OutboxItem *item, double seconds);

/*
 * Calls under way, other records of the windows that are not done, and whether a window is full.
 */
extern void outbox_set_calls(int under_way, int waiting, bool full);

extern void outbox_set_paused(int paused, int halted);

/* At the start: the version of this program, and of libpq. */
extern void outbox_set_build_info(void);

/* Fills outbox_dead_letters from the database; false: it did not answer. */
extern bool outbox_refresh_dead_letters(OutboxDb *db);

#endif /* OUTBOX_SERVICE_METRICS_H */
