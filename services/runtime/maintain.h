/* SPDX-License-Identifier: PostgreSQL
 *
 * maintain.h
 *	  Has the database forget old claims.
 */
#ifndef OUTBOX_MAINTAIN_H
#define OUTBOX_MAINTAIN_H

#include "member.h"

/* Once an hour, in one member of the process, forgets claims that are too old. */
extern void outbox_maintain_run(OutboxMember *member);

#endif /* OUTBOX_MAINTAIN_H */
