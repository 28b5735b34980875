/* SPDX-License-Identifier: PostgreSQL
 *
 * text.c
 *	  Texts for people that must fit into a fixed place.
 */
#include "text.h"

#include <stdbool.h>
#include <string.h>

#define GAP		"..."
#define GAP_LEN (sizeof(GAP) - 1)

/* Is the byte one that goes on with a UTF-8 character? */
static bool
goes_on(char byte)
{
	return ((unsigned char) byte & 0xC0) == 0x80;
}

void
outbox_text_fit(char *dst, size_t size, const char *text)
{
	size_t len = strlen(text);
	size_t front;
	size_t tail;

	if (size == 0)
		return;
	if (len < size)
	{
		memcpy(dst, text, len + 1);
		return;
	}
	front = size <= 4 * GAP_LEN ? 0 : size / 3;
	tail = front == 0 ? len - (size - 1) : len - (size - 1 - GAP_LEN - front);
	while (front > 0 && goes_on(text[front]))
		front--;
	while (tail < len && goes_on(text[tail]))
		tail++;
	memcpy(dst, text, front);
	if (front > 0)
	{
		memcpy(dst + front, GAP, GAP_LEN);
		front += GAP_LEN;
	}
	memcpy(dst + front, text + tail, len - tail + 1);
}
