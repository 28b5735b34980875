/* SPDX-License-Identifier: PostgreSQL
 *
 * event_columns.h
 *	  Attribute numbers of outbox.event and of its leaves, as the install script
 *	  makes them.  Columns added later stand behind these.
 */
#ifndef OUTBOX_EVENT_COLUMNS_H
#define OUTBOX_EVENT_COLUMNS_H

enum
{
	OUTBOX_EVENT_TXID = 1,
	OUTBOX_EVENT_SEQ,
	OUTBOX_EVENT_SEGMENT,
	OUTBOX_EVENT_ID,
	OUTBOX_EVENT_TOPIC,
	OUTBOX_EVENT_KEY,
	OUTBOX_EVENT_TYPE,
	OUTBOX_EVENT_PAYLOAD,
	OUTBOX_EVENT_CONTENT_TYPE,
	OUTBOX_EVENT_HEADERS,
	OUTBOX_EVENT_CREATED_AT,
	OUTBOX_EVENT_COPIED_AT,
};

#endif /* OUTBOX_EVENT_COLUMNS_H */
