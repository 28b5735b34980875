/* SPDX-License-Identifier: PostgreSQL
 *
 * position.h
 *	  Where a partition is to be read from, and its start.
 */
#ifndef OUTBOX_POSITION_H
#define OUTBOX_POSITION_H

#include "member.h"

/* Starts the suspended partitions that are due. */
extern void outbox_position_start(OutboxMember *member);

#endif /* OUTBOX_POSITION_H */
