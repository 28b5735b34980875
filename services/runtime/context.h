/* SPDX-License-Identifier: PostgreSQL
 *
 * context.h
 *	  A handler's call as the server gets it.
 */
#ifndef OUTBOX_CONTEXT_H
#define OUTBOX_CONTEXT_H

#include "member.h"

/* Prepares the call's statement, outside a pipeline.  false: member->db.error. */
extern bool outbox_context_prepare(OutboxMember *member, const OutboxCall *call);

/* Sends the item's call, whose statement is prepared, into the pipeline. */
extern bool outbox_context_send(OutboxMember *member, const OutboxItem *item);

#endif /* OUTBOX_CONTEXT_H */
