/* SPDX-License-Identifier: PostgreSQL
 *
 * setting_text.c
 *	  What people write into settings by mistake.
 */
#include "setting_text.h"

#include <stdint.h>
#include <string.h>

#define BLANKS		" \t\r\n\v\f"
#define NAME_MAX_LEN	64
#define NO_TEXT		UINT32_MAX

const char *
outbox_setting_skip_bom(const char *text)
{
	return strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text;
}

char *
outbox_setting_trim(char *text)
{
	size_t		len;

	text += strspn(text, BLANKS);
	len = strlen(text);
	while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL)
		len--;
	text[len] = '\0';
	return text;
}

bool
outbox_setting_is_name(const char *text)
{
	size_t		len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._");

	return len > 0 && len <= NAME_MAX_LEN && text[len] == '\0' && strchr("0123456789.", text[0]) == NULL;
}

/* The character at *text, which moves behind it; NO_TEXT: it is not UTF-8. */
static uint32_t
next_character(const unsigned char **text)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const unsigned char *byte = *text;
	uint32_t	character = *byte++;
	int			more = 0;

	if (character >= 0xF0 && character < 0xF5)
		more = 3;
	else if (character >= 0xE0)
		more = 2;
	else if (character >= 0xC2)
		more = 1;
	if ((character >= 0x80 && more == 0) || character >= 0xF5)
		return NO_TEXT;
	character &= more == 0 ? 0x7F : 0x3FU >> more;
	for (int i = 0; i < more; i++, byte++)
	{
		if ((*byte & 0xC0) != 0x80)
			return NO_TEXT;
		character = character << 6 | (*byte & 0x3F);
	}
	*text = byte;
	if (character < least[more] || character > 0x10FFFF || (character >= 0xD800 && character < 0xE000))
		return NO_TEXT;
	return character;
}

/* Does it look like a space or like nothing, without being one? */
static bool
is_invisible(uint32_t character)
{
	return character == 0xA0 || character == 0xAD || character == 0x1680 || (character >= 0x2000 && character <= 0x200F) ||
		(character >= 0x2028 && character <= 0x202F) || (character >= 0x205F && character <= 0x2064) ||
		character == 0x3000 || character == 0xFEFF;
}

const char *
outbox_setting_flaw(const char *text, bool secret)
{
	const unsigned char *next = (const unsigned char *) text;
	bool		invisible = false;
	uint32_t	character = 0;

	while (*next != '\0')
	{
		bool		first = next == (const unsigned char *) text;

		character = next_character(&next);
		if (character == NO_TEXT)
			return "is not UTF-8";
		if ((character < 0x20 && character != '\t') || (character >= 0x7F && character < 0xA0))
			return "has a control character";
		invisible |= is_invisible(character) && (first || !secret);
	}
	return invisible || is_invisible(character) ? "has an invisible character or a blank that is no space, as U+00A0" : NULL;
}

const char *
outbox_setting_decorated(const char *value)
{
	size_t		len = strlen(value);

	if (len >= 2 && strchr("'\"`", value[0]) != NULL && value[len - 1] == value[0])
		return "has quotes around it, which would be part of the value: leave them out";
	for (const char *hash = strchr(value, '#'); hash != NULL; hash = strchr(hash + 1, '#'))
	{
		if (hash > value && strchr(BLANKS, hash[-1]) != NULL)
			return "has \" #\" in it, which would be part of the value: a comment has a line of its own";
	}
	return NULL;
}
