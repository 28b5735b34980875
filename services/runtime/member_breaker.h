/* SPDX-License-Identifier: PostgreSQL
 *
 * member_breaker.h
 *	  What the breaker makes of a member's records, and what it makes the member do.
 */
#ifndef OUTBOX_MEMBER_BREAKER_H
#define OUTBOX_MEMBER_BREAKER_H

#include "member.h"

/* After the commit of a dead letter; failing_ms: since the record failed first. */
extern void outbox_breaker_count(OutboxMember *member, const OutboxRecord *record,
								 const OutboxError *error, int64_t failing_ms);

/* After the commit of a record that is done: closes it. */
extern void outbox_breaker_record_done(OutboxMember *member);

/* The record tried while it is open has failed: the next pause begins. */
extern void outbox_breaker_record_failed(OutboxMember *member, const OutboxRecord *record,
										 const OutboxError *error);

/* While it pauses no partition is worked on.  Returns whether it does. */
extern bool outbox_breaker_pause(OutboxMember *member);

#endif /* OUTBOX_MEMBER_BREAKER_H */
