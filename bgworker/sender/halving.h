/* SPDX-License-Identifier: PostgreSQL
 *
 * halving.h
 *	  How many records requests bring, to find one that Kafka refuses among many.
 *
 * Main thread.
 */
#ifndef OUTBOX_HALVING_H
#define OUTBOX_HALVING_H

#include <stdbool.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "refusals.h"

extern uint32_t outbox_halving_per_request(void);
extern void outbox_halving_suspect(rd_kafka_t *client, const OutboxSuspects *suspects);
extern void outbox_halving_found(void);
extern bool outbox_halving_grow(void);

#endif /* OUTBOX_HALVING_H */
