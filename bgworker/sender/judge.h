/* SPDX-License-Identifier: PostgreSQL
 *
 * judge.h
 *	  Would Kafka refuse the event, by its topic's settings?
 *
 * Main thread.
 */
#ifndef OUTBOX_JUDGE_H
#define OUTBOX_JUDGE_H

#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "settings.h"
#include "topics.h"
#include "src/common/wire.h"

extern rd_kafka_resp_err_t outbox_judge_event(rd_kafka_t *client, OutboxTopic *topic,
											  const OutboxWireEvent *event,
											  const OutboxSettings *settings, int64_t since_us,
											  char *text, size_t size);
extern void outbox_judge_explain(const OutboxTopic *topic, rd_kafka_resp_err_t code, char *text,
								 size_t size);

#endif /* OUTBOX_JUDGE_H */
