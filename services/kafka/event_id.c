/* SPDX-License-Identifier: PostgreSQL
 *
 * event_id.c
 *	  An event's id as its producer wrote it, as a UUID.
 *
 * Runs in the services, any thread.
 */
#include "event_id.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define UUID_LEN (OUTBOX_UUID_TEXT - 1)

static const char urn[] = "urn:uuid:";

/* UUID_LEN bytes as a UUID in lower case; false: they are none. */
static bool
read_uuid(const uint8_t *text, char uuid[OUTBOX_UUID_TEXT])
{
	for (int i = 0; i < UUID_LEN; i++)
	{
		bool dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? text[i] != '-' : !isxdigit(text[i]))
			return false;
		uuid[i] = (char) tolower(text[i]);
	}
	uuid[UUID_LEN] = '\0';
	return true;
}

OutboxIdKind
outbox_event_id_read(const uint8_t *id, size_t len, char uuid[OUTBOX_UUID_TEXT])
{
	size_t prefix = strlen(urn);

	if (len == 0)
		return OUTBOX_ID_NONE;
	if (len == UUID_LEN + prefix && strncasecmp((const char *) id, urn, prefix) == 0)
		id += prefix;
	else if (len == UUID_LEN + 2 && id[0] == '{' && id[len - 1] == '}')
		id++;
	else if (len != UUID_LEN)
		return OUTBOX_ID_OTHER;
	if (!read_uuid(id, uuid))
		return OUTBOX_ID_OTHER;
	if (strspn(uuid, "0-") == UUID_LEN || strspn(uuid, "f-") == UUID_LEN)
		return OUTBOX_ID_NONE;
	return OUTBOX_ID_UUID;
}

void
outbox_event_id_hash(OutboxIdScope scope, const void *name, size_t name_len, const uint8_t *id,
					 size_t len, char uuid[OUTBOX_UUID_TEXT])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t		digest[EVP_MAX_MD_SIZE];
	uint8_t		head[9] = {(uint8_t) scope};
	char	   *end = uuid;

	for (int i = 1; i < 9; i++)
		head[i] = (uint8_t) ((uint64_t) name_len >> (64 - 8 * i));
	if (context == NULL || !EVP_DigestInit_ex(context, EVP_sha256(), NULL) ||
		!EVP_DigestUpdate(context, head, sizeof(head)) ||
		!EVP_DigestUpdate(context, name, name_len) || !EVP_DigestUpdate(context, id, len) ||
		!EVP_DigestFinal_ex(context, digest, NULL))
		abort(); /* nothing is committed, the record is read again */
	EVP_MD_CTX_free(context);
	digest[6] = (uint8_t) (0x80 | (digest[6] & 0x0f));
	digest[8] = (uint8_t) (0x80 | (digest[8] & 0x3f));
	for (int i = 0; i < 16; i++)
		end += sprintf(end, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", digest[i]);
}
