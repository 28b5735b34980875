/* SPDX-License-Identifier: PostgreSQL
 *
 * db_session.h
 *	  A session of a connection: made when it is needed, found dead before it is used.
 */
#ifndef OUTBOX_DB_SESSION_H
#define OUTBOX_DB_SESSION_H

#include "db.h"

/*
 * Connects unless connected and idle.  A session that is broken, busy or has ended meanwhile is
 * replaced, and so is one that an error has shown to be of no use (outbox_failure_ends_session).  A
 * server that can only be read is left for the next host of the connection string, unless
 * db->reads; when there is none the failure is OUTBOX_FAILURE_INFRASTRUCTURE.  A server that
 * refuses the session (no such role or database, wrong password), and a pooler that gives every
 * transaction another session, are OUTBOX_FAILURE_DEPLOY.  false: db->error.
 */
extern bool outbox_db_connect(OutboxDb *db);

#endif /* OUTBOX_DB_SESSION_H */
