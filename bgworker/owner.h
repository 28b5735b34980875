/* SPDX-License-Identifier: PostgreSQL
 *
 * owner.h
 *	  Whose rights a transaction of the relay has, and whose the extension's objects are.
 *
 * Whoever owns an object of the extension decides what the relay runs: a function's body, a
 * trigger, a default, the expression of an index.  So all of it runs as the extension's owner,
 * restricted, and only while every object is that owner's.
 */
#ifndef OUTBOX_OWNER_H
#define OUTBOX_OWNER_H

/*
 * Inside a transaction, until its end: locks out a change of the owner by REASSIGN OWNED, and
 * returns the extension's owner.
 */
extern Oid outbox_owner_lock(void);

/*
 * Inside a transaction that has the lock.  The first object of the extension that is not
 * the owner's, as a sentence for last_error in the current context; NULL: there is none.
 */
extern char *outbox_owner_find_foreign(Oid owner);

/*
 * May an object have changed since outbox_owner_find_foreign found none?  As far as this process
 * has heard.
 */
extern bool outbox_owner_is_stale(void);

/*
 * Own transaction.  What find_foreign finds, asked only if something may have changed or `always`.
 */
extern char *outbox_owner_look(bool always);

/*
 * From here to outbox_owner_leave the process is the owner, in a security-restricted operation: no
 * SET ROLE, no temporary object, no cursor or statement that outlives the transaction.  Constraints
 * are immediate, and a trigger that is deferred all the same is an error, so nothing of the owner's
 * is left for the commit.  The end of a transaction by error leaves as well.
 */
extern void outbox_owner_enter(Oid owner);

/* Takes back settings made meanwhile.  Before the commit. */
extern void outbox_owner_take_back(void);

/* After the commit, which still has the owner's rights. */
extern void outbox_owner_leave(void);

#endif /* OUTBOX_OWNER_H */
