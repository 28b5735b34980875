/* SPDX-License-Identifier: PostgreSQL
 *
 * record.h
 *	  An event as a record; the path of every event.
 *
 * Main thread.
 */
#ifndef OUTBOX_RECORD_H
#define OUTBOX_RECORD_H

#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "settings.h"
#include "topics.h"
#include "src/common/wire.h"

extern rd_kafka_error_t *outbox_record_produce(rd_kafka_t *producer, OutboxTopic *topic,
											   const OutboxWireEvent *event, uint32_t index,
											   int64_t time_ms, const OutboxSettings *settings);

#endif /* OUTBOX_RECORD_H */
