/* SPDX-License-Identifier: PostgreSQL
 *
 * wake.h
 *	  Wakes the relay when a transaction that emitted has committed.
 */
#ifndef OUTBOX_WAKE_H
#define OUTBOX_WAKE_H

/* Backend: the current transaction emitted; its commit sets the relay's latch. */
extern void outbox_wake_at_commit(void);

/*
 * Backend: the current transaction changed outbox.replay_job or topic_hold; at commit the
 * relay looks at it.  Such a transaction cannot be prepared.
 */
extern void outbox_wake_replay_at_commit(void);

#endif /* OUTBOX_WAKE_H */
