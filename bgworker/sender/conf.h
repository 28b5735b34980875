/* SPDX-License-Identifier: PostgreSQL
 *
 * conf.h
 *	  librdkafka's configurations, made of what OPEN said.
 *
 * Main thread.
 */
#ifndef OUTBOX_CONF_H
#define OUTBOX_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"
#include "src/common/rate_plan.h"

extern rd_kafka_conf_t *outbox_producer_conf(const OutboxSettings *settings, uint32_t per_request,
											 int64_t batch_bytes, const OutboxDeadlines *grown,
											 bool spare, OutboxFailure *failure);
extern rd_kafka_conf_t *outbox_cursor_conf(const OutboxSettings *settings, bool stable,
										   OutboxFailure *failure);
extern void outbox_conf_hear_notices(rd_kafka_t *producer, const OutboxSettings *settings);
extern rd_kafka_conf_t *outbox_alive_conf(const OutboxSettings *settings, OutboxFailure *failure);
extern void outbox_conf_hush(rd_kafka_conf_t *conf);
extern void outbox_conf_refused(const OutboxSettings *settings, const char *error,
								OutboxFailure *failure);
extern bool outbox_effective_properties(const OutboxSettings *settings, char **text,
										OutboxFailure *failure);

#endif /* OUTBOX_CONF_H */
