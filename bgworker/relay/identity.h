/* SPDX-License-Identifier: PostgreSQL
 *
 * identity.h
 *	  Who this server and database are, and the one row of outbox.installation.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_IDENTITY_H
#define OUTBOX_IDENTITY_H

#include "utils/uuid.h"

#include "alive.h"
#include "bgworker/launcher/marker.h"

#define OUTBOX_REASON_SIZE 512

/* Who writes: identity of this server and database. */
typedef struct OutboxIdentity
{
	pg_uuid_t			installation;
	uint64				system_id;
	Oid					database;
	int					timeline;
	char				host[256];
	char				data_directory[MAXPGPATH];
	OutboxDirectory		directory;
	OutboxMarkerVerdict marker_verdict; /* does the database belong to this data directory? */
	bool				has_marker;		/* the directory has a marker, marker_id */
	pg_uuid_t			marker_id;
	char				held[OUTBOX_REASON_SIZE]; /* why it holds as a copy, "" = it does not */
	bool				held_delivered; /* the same: Kafka has the last batch for certain */
} OutboxIdentity;

/* Own transaction.  Fills in all of it; ERROR if the installation's row is gone. */
extern void outbox_identity_read(OutboxIdentity *identity);

/* Own transaction.  From here on the database belongs to this data directory and timeline. */
extern void outbox_identity_accept_marker(OutboxIdentity *identity);

/*
 * Inside a transaction.  The same after adopt(), which also ends a kept hold; rename: the
 * installation gets a name of its own.
 */
extern void outbox_identity_adopt(const OutboxIdentity *identity, bool rename);

/*
 * Own transaction.  Keeps a hold as a copy, which neither a restart nor another look ends, unless
 * one is kept already.  last_delivered: Kafka has the last batch for certain.
 */
extern void outbox_identity_keep_hold(const char *reason, bool last_delivered);

#endif /* OUTBOX_IDENTITY_H */
