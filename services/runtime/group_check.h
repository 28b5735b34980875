/* SPDX-License-Identifier: PostgreSQL
 *
 * group_check.h
 *	  Warns of topics that are new to a consumer.
 */
#ifndef OUTBOX_GROUP_CHECK_H
#define OUTBOX_GROUP_CHECK_H

#include "member.h"

/*
 * Once a process, warns of topics that are new to this consumer and not to others.  The database is
 * connected.
 */
extern void outbox_group_check(OutboxMember *member);

#endif /* OUTBOX_GROUP_CHECK_H */
