/* SPDX-License-Identifier: PostgreSQL
 *
 * session.h
 *	  Short transactions of the relay (I5).
 */
#ifndef OUTBOX_SESSION_H
#define OUTBOX_SESSION_H

/* Settings no role or database may impose on the worker.  Once, after connecting. */
extern void outbox_session_settle(void);

/*
 * Transaction, SPI and an active snapshot; and their end by COMMIT, back in the
 * memory context that was current before.  Not nested.
 */
extern void outbox_session_begin(void);
extern void outbox_session_end(void);

#endif							/* OUTBOX_SESSION_H */
