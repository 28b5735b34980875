/* SPDX-License-Identifier: PostgreSQL
 *
 * process.h
 *	  What to do with the records in hand.
 */
#ifndef OUTBOX_PROCESS_H
#define OUTBOX_PROCESS_H

#include "member.h"

/*
 * Works off the items, all of the window or none: what is committed is done.  What cannot be done
 * now waits with its partition; it is read again, or, of the window, is not done or marked `again`.
 */
extern void outbox_process_items(OutboxMember *member, OutboxItem **items, int count);

/* A statement about the items has failed (member->db.error): they wait with their partitions. */
extern void outbox_process_wait(OutboxMember *member, OutboxItem **items, int count);

#endif /* OUTBOX_PROCESS_H */
