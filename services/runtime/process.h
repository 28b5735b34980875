/* SPDX-License-Identifier: PostgreSQL
 *
 * process.h
 *	  What to do with the records in hand.
 */
#ifndef OUTBOX_PROCESS_H
#define OUTBOX_PROCESS_H

#include "member.h"

/* Works off member->items; what cannot be done now is read again later. */
extern void outbox_process_items(OutboxMember *member);

#endif /* OUTBOX_PROCESS_H */
