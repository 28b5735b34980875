/* SPDX-License-Identifier: PostgreSQL
 *
 * errors.h
 *	  Kafka's errors as the project's error classes, and which are refusals.
 *
 * Pure; any thread.
 */
#ifndef OUTBOX_ERRORS_H
#define OUTBOX_ERRORS_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

#include "src/common/error_class.h"

extern OutboxErrorClass outbox_error_classify(rd_kafka_resp_err_t code);
extern bool outbox_error_is_refusal(rd_kafka_resp_err_t code);
extern bool outbox_error_is_whole_topic(rd_kafka_resp_err_t code);

#endif /* OUTBOX_ERRORS_H */
