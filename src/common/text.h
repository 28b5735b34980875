/* SPDX-License-Identifier: PostgreSQL
 *
 * text.h
 *	  Texts for people that must fit into a fixed place.
 *
 * Compiled into relay and sender: no palloc, no librdkafka.
 */
#ifndef OUTBOX_TEXT_H
#define OUTBOX_TEXT_H

#include <stddef.h>

/*
 * Copies text, a third and two thirds of it with "..." between where it is too long for size bytes:
 * what was done stands in front, the cause at the end.  No UTF-8 character is cut.  dst may not
 * overlap text.
 */
extern void outbox_text_fit(char *dst, size_t size, const char *text);

#endif /* OUTBOX_TEXT_H */
