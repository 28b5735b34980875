/* SPDX-License-Identifier: PostgreSQL
 *
 * producer.h
 *	  The one producer handle: made, fenced, dropped; with which of two transactional ids.
 *
 * Main thread.
 */
#ifndef OUTBOX_PRODUCER_H
#define OUTBOX_PRODUCER_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"

extern bool outbox_producer_open(const OutboxSettings *settings, OutboxFailure *failure);
extern rd_kafka_t *outbox_producer_client(void);
extern bool outbox_producer_is_spare(void);
extern const char *outbox_producer_passed_over(void);
extern void outbox_producer_drop(void);
extern void outbox_producer_idle(void);

#endif /* OUTBOX_PRODUCER_H */
