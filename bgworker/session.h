/* SPDX-License-Identifier: PostgreSQL
 *
 * session.h
 *	  Short transactions of the relay (I5).
 */
#ifndef OUTBOX_SESSION_H
#define OUTBOX_SESSION_H

#include "access/htup.h"
#include "access/tupdesc.h"

/* Settings no role or database may impose on the worker.  Once, after connecting. */
extern void outbox_session_prepare(void);

/*
 * Transaction, SPI and an active snapshot, with the rights of the extension's owner (owner.h); and
 * their end by COMMIT, back in the memory context that was current before.  Not nested.  An error
 * when an object of the extension is somebody else's.
 */
extern void outbox_session_begin(void);
extern void outbox_session_end(void);

/*
 * In a PG_CATCH: ends the transaction that has failed.  The error, in context, which is current
 * afterwards.
 */
extern ErrorData *outbox_session_recover(MemoryContext context);

/* A column of type xid8 of a row that SPI returned; 0 = NULL. */
extern uint64 outbox_session_txid(HeapTuple tuple, TupleDesc desc, int column);

#endif /* OUTBOX_SESSION_H */
