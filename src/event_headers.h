/* SPDX-License-Identifier: PostgreSQL
 *
 * event_headers.h
 *	  An event's own headers, as given by the caller, to Kafka's encoding.
 */
#ifndef OUTBOX_EVENT_HEADERS_H
#define OUTBOX_EVENT_HEADERS_H

#include "utils/array.h"
#include "utils/jsonb.h"

#include "src/common/kafka_headers.h"

/*
 * First traceparent, tracestate and correlationid from the settings of the same names (left out
 * when empty or when the caller gives that header), then the caller's in order.  NULL when there is
 * none.  Names become UTF-8, values too (jsonb) or are bytes as given (array).  Errors: not an
 * object of strings; a NULL element or name; a name the envelope writes itself; one that begins
 * with ce_ and is no text; what cannot become UTF-8.  `given` may be NULL.
 */
extern bytea *outbox_event_headers_from_jsonb(Jsonb *given);

/* `given`: outbox.header[]; in a name \x and two hex digits stand for a byte. */
extern bytea *outbox_event_headers_from_array(ArrayType *given);

/*
 * The given ones alone, without the settings; of any name unless `own`, as they lie
 * in a record.  NULL when there is none.
 */
extern bytea *outbox_event_headers_encode(ArrayType *given, bool own);

/* Headers that are bytes already, palloc'd; NULL for none. */
extern bytea *outbox_event_headers_write(const OutboxHeader *headers, int count);

#endif /* OUTBOX_EVENT_HEADERS_H */
