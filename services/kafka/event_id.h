/* SPDX-License-Identifier: PostgreSQL
 *
 * event_id.h
 *	  An event's id as its producer wrote it, as a UUID.
 *
 * Pure: no clock, no I/O.
 */
#ifndef OUTBOX_EVENT_ID_H
#define OUTBOX_EVENT_ID_H

#include <stddef.h>
#include <stdint.h>

#define OUTBOX_UUID_TEXT 37 /* with terminator */

typedef enum OutboxIdKind
{
	OUTBOX_ID_NONE,	 /* empty, or the nil or the max UUID: it names no event */
	OUTBOX_ID_UUID,	 /* unique by itself */
	OUTBOX_ID_OTHER, /* any other bytes: unique where its producer says so */
} OutboxIdKind;

/* Who has made an id that is no UUID unique. */
typedef enum OutboxIdScope
{
	OUTBOX_ID_OF_SOURCE = 's', /* a CloudEvents source */
	OUTBOX_ID_OF_TOPIC = 't',
} OutboxIdScope;

/*
 * What kind of id these bytes are; of a UUID also its text, in lower case.  Spellings of the same
 * UUID: hex digits and dashes (8-4-4-4-12) of either case, alone, in braces or after "urn:uuid:"
 * (RFC 9562, section 4).  The nil and the max UUID stand for no UUID at all (sections 5.9, 5.10).
 */
extern OutboxIdKind outbox_event_id_read(const uint8_t *id, size_t len,
										 char uuid[OUTBOX_UUID_TEXT]);

/*
 * The UUID of an id of kind OUTBOX_ID_OTHER: version 8 (RFC 9562, section 5.8) of the first 16
 * bytes of SHA-256 over scope (one byte), the length of name (8 bytes, big-endian), name and id;
 * then the bits of version and variant are set.  The same in every process and for ever.
 */
extern void outbox_event_id_hash(OutboxIdScope scope, const void *name, size_t name_len,
								 const uint8_t *id, size_t len, char uuid[OUTBOX_UUID_TEXT]);

#endif /* OUTBOX_EVENT_ID_H */
