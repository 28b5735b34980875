/* SPDX-License-Identifier: PostgreSQL
 *
 * alert_key.h
 *	  The name of an alert, of bounded length.
 *
 * Pure but for memory.
 */
#ifndef OUTBOX_ALERT_KEY_H
#define OUTBOX_ALERT_KEY_H

#include <stddef.h>

#define OUTBOX_ALERT_KEY 768 /* room for a key */

/* Formats a key; one that is too long as outbox_alert_key_cut has it. */
extern void outbox_alert_key(char key[OUTBOX_ALERT_KEY], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Copies text, UTF-8; when it does not fit, its beginning, cut at a character, with a number
 * made of all of it: the same text gives the same key, another text another.  size: above 20.
 */
extern void outbox_alert_key_cut(char *key, size_t size, const char *text);

#endif /* OUTBOX_ALERT_KEY_H */
