/* SPDX-License-Identifier: PostgreSQL
 *
 * emit.h
 *	  One event into the current leaf, in the caller's transaction.
 */
#ifndef OUTBOX_EMIT_H
#define OUTBOX_EMIT_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Values may have short varlena headers but are not compressed or external. */
typedef struct OutboxEvent
{
	text			*topic;		   /* NULL is refused */
	bytea			*key;		   /* NULL: no record key */
	text			*type;		   /* NULL is refused */
	bytea			*payload;	   /* NULL: tombstone */
	text			*content_type; /* NULL: no content-type header */
	bytea			*headers;	   /* Kafka's encoding; NULL: none */
	/* NULL: one is made; nil is refused; that it is unique is the caller's promise */
	const pg_uuid_t *id;
} OutboxEvent;

/*
 * Raises when this transaction cannot write: recovery, read-only, parallel mode.
 * Call before the arguments are converted.
 */
extern void outbox_emit_check_context(void);

/*
 * Checks and stores one event, sets *id to the id it has, and makes the commit wake the relay.
 * Application backend, in a transaction; reads nothing through the caller's snapshot.  Errors:
 * docs/errors.md.
 */
extern void outbox_emit_store(const OutboxEvent *event, pg_uuid_t *id);

/*
 * Raises when the topic, as it is declared, does not take the event: 22004 without a key, 54000 too
 * large.
 */
extern void outbox_emit_check_topic(const OutboxEvent *event);

/*
 * Raises 54000 when an event of that many bytes is above outbox.max_event_bytes, and above `known`.
 */
extern void outbox_emit_check_size(int64 bytes, int64 known);

/*
 * The conversions of emit(text, text, text, jsonb, jsonb).  NULL stays NULL.
 * Key and payload become UTF-8.
 */
extern bytea *outbox_emit_key(text *key);
extern bytea *outbox_emit_jsonb(Jsonb *payload);

/* Content type of a JSON payload; NULL for a tombstone.  Constant, not to be freed. */
extern text *outbox_emit_json_type(const bytea *payload);

#endif /* OUTBOX_EMIT_H */
