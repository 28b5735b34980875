/* SPDX-License-Identifier: PostgreSQL
 *
 * refusals.h
 *	  What is refused of the batch: collected, sifted, told together.
 *
 * Main thread.
 */
#ifndef OUTBOX_REFUSALS_H
#define OUTBOX_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include <librdkafka/rdkafka.h>

#include "topics.h"
#include "src/common/wire.h"

/* Records of one partition that Kafka has refused together. */
typedef struct OutboxSuspects
{
	uint32_t	 count; /* 0: none */
	OutboxTopic *topic;
	int32_t		 error;
} OutboxSuspects;

extern void outbox_refusals_clear(void);
extern bool outbox_refusals_any(void);
extern bool outbox_refusals_by_us(void);
extern bool outbox_refusals_by_kafka(void);
extern bool outbox_refusals_only_ours(void);
extern bool outbox_refusals_hold(const OutboxTopic *topic, const OutboxWireEvent *event);
extern void outbox_refusals_note_ours(uint32_t index, OutboxTopic *topic,
									  const OutboxWireEvent *event, rd_kafka_resp_err_t code,
									  const char *text);
extern void outbox_refusals_note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code,
									   const char *text);
extern void outbox_refusals_note_kafka(uint32_t index, OutboxTopic *topic, int32_t partition,
									   rd_kafka_resp_err_t code, const char *text);
extern size_t outbox_refusals_sift(bool alone, OutboxSuspects *suspects);
extern const char *outbox_refusals_first(uint32_t *index);
extern const char *outbox_refusals_any_text(void);
extern bool outbox_refusals_have_topic(void);
extern bool outbox_refusals_put(OutboxWireBuffer *frame, size_t told);

#endif /* OUTBOX_REFUSALS_H */
