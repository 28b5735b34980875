/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.h
 *	  A batch: its events and their reports.
 *
 * Main thread.
 */
#ifndef OUTBOX_BATCH_H
#define OUTBOX_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "cursor.h"
#include "failure.h"
#include "settings.h"
#include "src/common/wire.h"

extern void outbox_batch_begin(rd_kafka_t *producer, const OutboxCursor *cursor, int64_t time_ms);
extern bool outbox_batch_event(const OutboxSettings *settings, const OutboxWireEvent *event,
							   OutboxFailure *failure);
extern void outbox_batch_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message,
								   void *opaque);
extern void outbox_batch_forget(void);

#endif /* OUTBOX_BATCH_H */
