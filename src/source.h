/* SPDX-License-Identifier: PostgreSQL
 *
 * source.h
 *	  ce_source of this database's records.
 */
#ifndef OUTBOX_SOURCE_H
#define OUTBOX_SOURCE_H

#define OUTBOX_SOURCE_PREFIX "/outbox/" /* and the database's name */

/*
 * The setting outbox.source or, where it is empty, /outbox/<database>, the name percent-encoded.
 * Any process that is connected to a database, in a transaction.  Valid until the setting changes.
 */
extern const char *outbox_source(void);

#endif /* OUTBOX_SOURCE_H */
