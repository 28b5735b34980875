/* SPDX-License-Identifier: PostgreSQL
 *
 * settings.h
 *	  What OPEN said.
 *
 * Main thread.
 */
#ifndef OUTBOX_SETTINGS_H
#define OUTBOX_SETTINGS_H

#include <stdbool.h>

#include "failure.h"
#include "src/common/wire.h"

/* Kafka's own producer's: the one that every client reads at once */
#define OUTBOX_DEFAULT_CODEC "none"

/* One librdkafka property given by OPEN. */
typedef struct OutboxProperty
{
	char *name;
	char *value;
} OutboxProperty;

/* What compression can make of a record. */
typedef enum OutboxCodec
{
	OUTBOX_CODEC_NONE,
	OUTBOX_CODEC_COPYING, /* repeats are short, all else is copied: LZ4, Snappy */
	OUTBOX_CODEC_OTHER,
} OutboxCodec;

/* What OPEN said. */
typedef struct OutboxSettings
{
	OutboxProperty *properties;
	int				property_count;
	bool			exactly_once; /* else at_least_once */
	bool			cloudevents;  /* else the event's own headers only */
	OutboxCodec		codec;
	char		   *group;
	char		   *alive_group;  /* of the living senders; NULL = none is joined */
	char		   *alive_client; /* our client id there */
	char		   *cursor_topic;
	char		   *source;
	char		   *transactional_id;
	char		   *spare_id;	   /* the other one, made of it; NULL with it */
	int64_t			leaderless_us; /* without a leader until a batch is given up */
} OutboxSettings;

extern bool outbox_settings_read(OutboxSettings *settings, OutboxWireReader *body,
								 OutboxFailure *failure);
extern void outbox_settings_free(OutboxSettings *settings);

#endif /* OUTBOX_SETTINGS_H */
