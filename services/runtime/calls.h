/* SPDX-License-Identifier: PostgreSQL
 *
 * calls.h
 *	  The part of a member's turn that is about records whose handlers call out.
 *
 * They go to the window (window.h) instead of member->items.  Member's thread.
 */
#ifndef OUTBOX_CALLS_H
#define OUTBOX_CALLS_H

#include "member.h"

/* Makes the window, where a handler of the member calls out. */
extern void outbox_calls_open(OutboxMember *member);

/* Do handlers of the topic call out?  Then all its records go to the window. */
extern bool outbox_calls_for(const OutboxMember *member, const char *topic);

/* Puts a copy of the record polled into the window. */
extern void outbox_calls_add(OutboxMember *member, const OutboxRecord *record);

/* Takes answers in, commits what is ready and, if `begin`, begins calls.  Never waits for one. */
extern void outbox_calls_turn(OutboxMember *member, bool begin);

/* How long a poll may wait, of timeout ms. */
extern int outbox_calls_timeout(const OutboxMember *member, int timeout);

/* At the member's end: waits for calls under way, for 5 s at most; the others are dropped. */
extern void outbox_calls_drain(OutboxMember *member);

/* Frees the window; of calls under way the memory stays. */
extern void outbox_calls_close(OutboxMember *member);

#endif /* OUTBOX_CALLS_H */
