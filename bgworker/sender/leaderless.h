/* SPDX-License-Identifier: PostgreSQL
 *
 * leaderless.h
 *	  Topics of the batch under way that have no leader: withheld, waited for, given up.
 *
 * Main thread.
 */
#ifndef OUTBOX_LEADERLESS_H
#define OUTBOX_LEADERLESS_H

#include <stdbool.h>

#include "failure.h"
#include "settings.h"
#include "topics.h"
#include "src/common/wire.h"

extern void outbox_leaderless_begin(const OutboxSettings *settings);
extern void outbox_leaderless_use(OutboxTopic *topic);
extern void outbox_leaderless_progress(void);
extern bool outbox_leaderless_watch(void);
extern bool outbox_leaderless_await(OutboxFailure *failure);
extern bool outbox_leaderless_given_up(void);
extern bool outbox_leaderless_put(OutboxWireBuffer *frame, bool given_up);

#endif /* OUTBOX_LEADERLESS_H */
