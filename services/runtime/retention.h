/* SPDX-License-Identifier: PostgreSQL
 *
 * retention.h
 *	  Warns of topics that keep records longer than claims are kept.
 */
#ifndef OUTBOX_RETENTION_H
#define OUTBOX_RETENTION_H

#include "member.h"

/* Once, of the subscribed topics.  Asks database and Kafka. */
extern void outbox_retention_check(OutboxMember *member);

#endif /* OUTBOX_RETENTION_H */
