/* SPDX-License-Identifier: PostgreSQL
 *
 * event_shape.h
 *	  What a leaf of the event ring must look like to be written below the executor.
 */
#ifndef OUTBOX_EVENT_SHAPE_H
#define OUTBOX_EVENT_SHAPE_H

#include "utils/relcache.h"

/* Columns of outbox.event and its leaves, at the place where the install script makes them. */
typedef enum OutboxEventColumn
{
	OUTBOX_COLUMN_TXID,
	OUTBOX_COLUMN_SEQ,
	OUTBOX_COLUMN_SEGMENT,
	OUTBOX_COLUMN_ID,
	OUTBOX_COLUMN_TOPIC,
	OUTBOX_COLUMN_KEY,
	OUTBOX_COLUMN_TYPE,
	OUTBOX_COLUMN_PAYLOAD,
	OUTBOX_COLUMN_CONTENT_TYPE,
	OUTBOX_COLUMN_HEADERS,
	OUTBOX_COLUMN_CREATED_AT,
	OUTBOX_COLUMN_COPIED_AT,
	OUTBOX_COLUMNS
} OutboxEventColumn;

/* A row before the event is put into it; arrays of natts, in the leaf's order. */
typedef struct OutboxEventShape
{
	int			 natts;
	const Datum *values; /* constant defaults of columns that somebody added */
	const bool	*nulls;
} OutboxEventShape;

/*
 * The leaf's shape; ERROR 55000 that names the first thing an INSERT would honour and emit()'s
 * direct write would not.  Backend or relay, in a transaction, with outbox.event locked and then
 * the leaf open and locked.  Kept until a relcache invalidation of the leaf or of outbox.event, so
 * valid until the next catalog access.
 */
extern const OutboxEventShape *outbox_event_shape(Relation leaf);

/* The same question; NULL, or what stands in the way, in the current memory context. */
extern char *outbox_event_obstacle(int leaf);

/* ERROR 55000 unless the first columns are those the relay reads by number. */
extern void outbox_event_check_columns(Relation leaf);

#endif /* OUTBOX_EVENT_SHAPE_H */
