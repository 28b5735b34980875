/* SPDX-License-Identifier: PostgreSQL
 *
 * item.c
 *	  A record in hand: its handler, decoded.
 *
 * Runs in the services, member threads.
 */
#include "item.h"

#include <string.h>

#include "call.h"
#include "member.h"
#include "settings.h"
#include "trace.h"

static const OutboxHandler *
find_handler(const OutboxHandler *handlers, const OutboxRecord *record)
{
	for (const OutboxHandler *handler = handlers; handler->topic != NULL; handler++)
	{
		if (strcmp(handler->topic, record->topic) != 0)
			continue;
		if (handler->event_type == NULL || record->event_type == NULL ||
			strcmp(handler->event_type, record->event_type) == 0)
			return handler;
	}
	return NULL;
}

void
outbox_item_find_handler(OutboxMember *member, OutboxItem *item)
{
	item->foreign = !outbox_record_is_for(&item->record, outbox_settings.group_id);
	item->handler = item->foreign ? NULL : find_handler(member->runtime->handlers, &item->record);
}

void
outbox_item_prepare(OutboxMember *member, OutboxItem *item)
{
	outbox_item_find_handler(member, item);
	item->verdict = OUTBOX_VERDICT_IGNORE;
	if (item->handler != NULL)
	{
		outbox_span_begin_record(&item->span, &item->record);
		item->verdict = item->record.refusal != NULL ?
			outbox_call_reject(&item->call, "%s", item->record.refusal) :
			item->handler->decode(&item->record, &item->call);
	}
	item->prepared = item->verdict != OUTBOX_VERDICT_WAIT;
}

bool
outbox_item_is_call(const OutboxItem *item)
{
	return item->claim == OUTBOX_CLAIM_NEW && item->verdict == OUTBOX_VERDICT_CALL && !item->held;
}
