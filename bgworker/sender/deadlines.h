/* SPDX-License-Identifier: PostgreSQL
 *
 * deadlines.h
 *	  How long the next try of a batch may take, after one that ran out of time.
 *
 * Main thread.
 */
#ifndef OUTBOX_DEADLINES_H
#define OUTBOX_DEADLINES_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"
#include "src/common/rate_plan.h"

extern void outbox_deadlines_read(const OutboxSettings *settings, rd_kafka_conf_t *conf);
extern const OutboxDeadlines *outbox_deadlines_grown(void);
extern const OutboxDeadlines *outbox_deadlines_usual(void);
extern bool outbox_deadlines_want_limit(const OutboxSettings *settings);
extern void outbox_deadlines_set_limit(int64_t ms);
extern void outbox_deadlines_allowed(void);
extern bool outbox_deadlines_lower(void);
extern void outbox_deadlines_begun(void);
extern void outbox_deadlines_acknowledged(size_t bytes);
extern void outbox_deadlines_failed(const OutboxSettings *settings, uint64_t bytes, bool stalled,
									bool may_pass, OutboxFailure *failure);
extern void outbox_deadlines_take_progress(OutboxProgress *progress);
extern bool outbox_deadlines_committed(void);
extern void outbox_deadlines_forget(void);

#endif /* OUTBOX_DEADLINES_H */
