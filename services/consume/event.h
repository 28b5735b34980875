/* SPDX-License-Identifier: PostgreSQL
 *
 * event.h
 *	  How a record becomes the function's argument.
 */
#ifndef OUTBOX_EVENT_H
#define OUTBOX_EVENT_H

#include "services/runtime/call.h"

/*
 * Adds the values of consume_make_sql.  bytes: of f(outbox.consumed_bytes).  false: the record is
 * not of that form, call->error says why.  Member threads.
 */
extern bool consume_add_event(const OutboxRecord *record, bool bytes, OutboxCall *call);

#endif /* OUTBOX_EVENT_H */
