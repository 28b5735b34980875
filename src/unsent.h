/* SPDX-License-Identifier: PostgreSQL
 *
 * unsent.h
 *	  What goes unsent with a dropped extension or database, and outbox.drop_unsent.
 *
 * Process: the backend that executes the command.
 */
#ifndef OUTBOX_UNSENT_H
#define OUTBOX_UNSENT_H

#define OUTBOX_UNSENT_MOST 100000 /* counted, at most */

typedef struct OutboxUnsent
{
	bool  known;   /* the tables could be read */
	int64 events;  /* not known to be delivered; above OUTBOX_UNSENT_MOST: more than that */
	int64 letters; /* the relay's dead letters that are not done with; the same */
	char *problem; /* why they could not; in the caller's memory context */
} OutboxUnsent;

/* Role that owns the extension; InvalidOid: there is none. */
extern Oid outbox_unsent_extension_owner(Oid extension);

/*
 * Counts in this database as the extension's owner, in a security-restricted context.  Waits for no
 * lock that the drop would not wait for, and leaves none behind.  Whatever is broken is a
 * `problem`, no error, but for a cancelled query and a lock_timeout.
 */
extern void outbox_unsent_count(Oid extension, OutboxUnsent *unsent);

/*
 * After the drop: a WARNING, or with outbox.drop_unsent = refuse an ERROR (55000); nothing when
 * nothing is lost.
 */
extern void outbox_unsent_tell_extension(const OutboxUnsent *unsent);

/* What shared memory knows to be unsent in a database, as a sentence; NULL = nothing. */
extern char *outbox_unsent_of_database(Oid database);

/* As above; an ERROR must come before DROP DATABASE is executed. */
extern void outbox_unsent_tell_database(const char *name, const char *lost);

#endif /* OUTBOX_UNSENT_H */
