/* SPDX-License-Identifier: PostgreSQL
 *
 * loop.h
 *	  The loop of a member.
 */
#ifndef OUTBOX_LOOP_H
#define OUTBOX_LOOP_H

/* Thread entry; the argument is the OutboxMember. */
extern void *outbox_member_run(void *member);

#endif /* OUTBOX_LOOP_H */
