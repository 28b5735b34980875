/* SPDX-License-Identifier: PostgreSQL
 *
 * cloudevent.h
 *	  CloudEvents in structured mode: the whole event, attributes and data, is the
 *	  record's value.
 *
 * Kafka protocol binding and JSON event format of CloudEvents 1.0.
 */
#ifndef OUTBOX_CLOUDEVENT_H
#define OUTBOX_CLOUDEVENT_H

#include "record.h"
#include "src/common/kafka_headers.h"

/*
 * Is it the content type of an event in structured mode: application/cloudevents..., whatever its
 * format?
 */
extern bool outbox_cloudevent_is_structured(const OutboxHeader *content_type);

/*
 * The record's value, of this content type, is an event: value and headers become what they are for
 * the same event in binary mode, data as value, each attribute as header ce_<name>, datacontenttype
 * as content-type, then the record's own headers but for content-type.  What came stays in
 * raw_value and raw_headers.  A batch, another format than JSON, or what is no event:
 * record->refusal says why, nothing else changes.
 */
extern void outbox_cloudevent_read(OutboxRecord *record, const OutboxHeader *content_type);

#endif /* OUTBOX_CLOUDEVENT_H */
