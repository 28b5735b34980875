/* SPDX-License-Identifier: PostgreSQL
 *
 * retry.h
 *	  Tries the rows of outbox.dead_letter again that are due.
 */
#ifndef OUTBOX_RETRY_H
#define OUTBOX_RETRY_H

#include "member.h"

/* One due row of outbox.dead_letter and what is held behind it; sets retry_at. */
extern void outbox_retry_run(OutboxMember *member);

/* Goes on with those whose calls have ended. */
extern void outbox_retry_take_answers(OutboxMember *member);

/* At the member's end: gives up the rows whose calls are under way. */
extern void outbox_retry_leave(OutboxMember *member);

#endif /* OUTBOX_RETRY_H */
