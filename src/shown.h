/* SPDX-License-Identifier: PostgreSQL
 *
 * shown.h
 *	  Bytes of records as people of this database see them.
 *
 * Any process that is connected to a database.
 */
#ifndef OUTBOX_SHOWN_H
#define OUTBOX_SHOWN_H

/* As text when it is UTF-8, else as \x and hex digits; in the current context. */
extern text *outbox_shown_bytes(const char *bytes, int length);

#endif /* OUTBOX_SHOWN_H */
