/* SPDX-License-Identifier: PostgreSQL
 *
 * text.h
 *	  Bytes from outside as UTF-8 text, and text cut between two characters.
 *
 * Any thread.
 */
#ifndef OUTBOX_SERVICE_TEXT_H
#define OUTBOX_SERVICE_TEXT_H

#include <stddef.h>

/*
 * Replaces bytes that are no UTF-8 by '?'; a character that the end of the full buffer has cut is
 * left out.
 */
extern void outbox_text_mend(char *buffer, size_t size);

/* Copies text, cut to the buffer, and mends it. */
extern void outbox_text_copy(char *buffer, size_t size, const char *text);

/* A copy, malloc'ed; a lack of memory ends the process. */
extern char *outbox_text_keep(const char *text);

/*
 * What a header holds as text, malloc'ed: control characters, noncharacters and bytes that are no
 * UTF-8 as % and two hex digits, so that two values stay two; at most max bytes, cut between two
 * characters.
 */
extern char *outbox_text_header(const void *bytes, size_t len, size_t max);

#endif /* OUTBOX_SERVICE_TEXT_H */
