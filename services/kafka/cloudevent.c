/* SPDX-License-Identifier: PostgreSQL
 *
 * cloudevent.c
 *	  Reads CloudEvents in structured mode.
 *
 * Runs in the services, member threads.  Only records with such a content type come
 * here.  JSON data is not written anew: the value points at its bytes in the
 * envelope, so that a number keeps all its digits.
 */
#define _GNU_SOURCE
#include "cloudevent.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MEDIA_TYPE	   "application/cloudevents"
#define ATTRIBUTES_MAX 256				  /* far more than anybody has */
#define INTEGER_MAX	   9007199254740992.0 /* 2^53: whole numbers up to here are exact */

/* One header to be written. */
typedef struct Attribute
{
	char  *name;  /* malloc'ed */
	char  *value; /* malloc'ed */
	size_t value_len;
} Attribute;

typedef struct Envelope
{
	json_t		  *root;
	Attribute	   attributes[ATTRIBUTES_MAX + 1]; /* one more for the content type of data */
	size_t		   count;
	const uint8_t *data; /* NULL: none */
	size_t		   data_len;
	uint8_t		  *data_memory; /* malloc'ed, when data is not part of the record's value */
} Envelope;

static bool refuse(OutboxRecord *record, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Notes why the event cannot be read.  Always false. */
static bool
refuse(OutboxRecord *record, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&record->refusal, format, arguments) < 0)
		abort(); /* nothing is committed, the record is read again */
	va_end(arguments);
	return false;
}

bool
outbox_cloudevent_is_structured(const OutboxHeader *content_type)
{
	const char *text = (const char *) content_type->value;
	size_t		len = content_type->value_len;
	size_t		prefix = strlen(MEDIA_TYPE);

	while (len > 0 && (*text == ' ' || *text == '\t'))
	{
		text++;
		len--;
	}
	if (len < prefix || strncasecmp(text, MEDIA_TYPE, prefix) != 0)
		return false;
	return len == prefix || strchr("+-; \t", text[prefix]) != NULL;
}

/* The media type without parameters, in lower case; what cannot be printed as ?. */
static void
copy_media_type(const char *text, size_t len, char *copy, size_t size)
{
	size_t used = 0;

	while (len > 0 && (*text == ' ' || *text == '\t'))
	{
		text++;
		len--;
	}
	for (; used < len && used < size - 1 && strchr("; \t", text[used]) == NULL; used++)
	{
		if (text[used] >= 'A' && text[used] <= 'Z')
			copy[used] = (char) (text[used] + ('a' - 'A'));
		else
			copy[used] = text[used] > ' ' && text[used] <= '~' ? text[used] : '?';
	}
	copy[used] = '\0';
}

/* Can events of this content type be read? */
static bool
check_format(OutboxRecord *record, const OutboxHeader *content_type)
{
	char type[128];

	copy_media_type((const char *) content_type->value, content_type->value_len, type,
					sizeof(type));
	if (strcmp(type, MEDIA_TYPE "+json") == 0)
		return true;
	if (strncmp(type, MEDIA_TYPE "-batch", strlen(MEDIA_TYPE "-batch")) == 0)
		return refuse(record,
					  "a batch of CloudEvents is not read, a record holds one (content-type %s)",
					  type);
	return refuse(record, "CloudEvents are read in the format " MEDIA_TYPE "+json, not %s", type);
}

static const char *
skip_blanks(const char *text)
{
	return text + strspn(text, " \t\r\n");
}

/*
 * Places in a JSON object that jansson has accepted, so that none of these runs past its last
 * brace: what comes after the string, and after any value, that begins here.
 */
static const char *
skip_string(const char *text)
{
	for (text++; *text != '"'; text++)
		text += *text == '\\';
	return text + 1;
}

static const char *
skip_value(const char *text)
{
	int depth = 0;

	if (*text != '"' && *text != '{' && *text != '[')
		return text + strcspn(text, ",} \t\r\n");
	do
	{
		if (*text == '"')
			text = skip_string(text);
		else
		{
			depth += *text == '{' || *text == '[';
			depth -= *text == '}' || *text == ']';
			text++;
		}
	} while (depth > 0);
	return text;
}

/* Is the member's name, at its quote, "data"?  A name may be written with escapes. */
static bool
is_data(const char *name, const char *end)
{
	json_t *string;
	bool	same;

	if (memchr(name, '\\', (size_t) (end - name)) == NULL)
		return end - name == 6 && memcmp(name, "\"data\"", 6) == 0;
	string = json_loadb(name, (size_t) (end - name), JSON_DECODE_ANY, NULL);
	same = string != NULL && strcmp(json_string_value(string), "data") == 0;
	json_decref(string);
	return same;
}

/* The bytes of the last member "data" of an accepted object. */
static void
find_data(const char *text, Envelope *envelope)
{
	text = skip_blanks(text) + 1;
	while (*(text = skip_blanks(text)) != '}')
	{
		const char *name = text;
		const char *name_end = skip_string(name);
		const char *value = skip_blanks(skip_blanks(name_end) + 1);

		text = skip_value(value);
		if (is_data(name, name_end))
		{
			envelope->data = (const uint8_t *) value;
			envelope->data_len = (size_t) (text - value);
		}
		text = skip_blanks(text);
		text += *text == ',';
	}
}

/* Takes value over. */
static void
add_attribute(Envelope *envelope, const char *name, char *value, size_t len)
{
	Attribute *attribute = &envelope->attributes[envelope->count++];

	if (strcmp(name, "datacontenttype") == 0)
		attribute->name = strdup("content-type");
	else if (asprintf(&attribute->name, "ce_%s", name) < 0)
		attribute->name = NULL;
	attribute->value = value;
	attribute->value_len = len;
	if (attribute->name == NULL || value == NULL)
		abort();
}

/* A context attribute, written as in binary mode. */
static bool
read_attribute(OutboxRecord *record, Envelope *envelope, const char *name, const json_t *value)
{
	char  *text = NULL;
	double number;

	if (json_is_null(value))
		return true; /* as if it were not there */
	if (envelope->count == ATTRIBUTES_MAX)
		return refuse(record, "the CloudEvent has more than %d attributes", ATTRIBUTES_MAX);
	if (json_is_string(value))
	{
		text = strndup(json_string_value(value), json_string_length(value));
		add_attribute(envelope, name, text, json_string_length(value));
		return true;
	}
	number = json_real_value(value);
	if (json_is_boolean(value))
		text = strdup(json_is_true(value) ? "true" : "false");
	else if (!json_is_real(value) || number != trunc(number) || fabs(number) > INTEGER_MAX)
		return refuse(record,
					  "the CloudEvent's attribute \"%s\" is not a string, a whole number or a "
					  "boolean",
					  name);
	else if (asprintf(&text, "%.0f", number) < 0)
		text = NULL;
	add_attribute(envelope, name, text, text != NULL ? strlen(text) : 0);
	return true;
}

static bool
check_required(OutboxRecord *record, const json_t *root)
{
	static const char *const required[] = {"specversion", "id", "source", "type"};

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
	{
		const json_t *value = json_object_get(root, required[i]);

		if (value == NULL || json_is_null(value))
			return refuse(record, "the CloudEvent's attribute \"%s\" is missing", required[i]);
		if (!json_is_string(value) || json_string_length(value) == 0)
			return refuse(record, "the CloudEvent's attribute \"%s\" is %s", required[i],
						  json_is_string(value) ? "empty" : "not a string");
	}
	if (strncmp(json_string_value(json_object_get(root, "specversion")), "1.", 2) != 0)
		return refuse(record, "CloudEvents are read of version 1.0, not %s",
					  json_string_value(json_object_get(root, "specversion")));
	return true;
}

static bool
decode_base64(OutboxRecord *record, Envelope *envelope, const json_t *value)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char		 *text = json_string_value(value);
	size_t			  len = json_string_length(value);
	size_t			  used = text != NULL ? strspn(text, digits) : 0;
	int				  size;

	/* EVP_DecodeBlock takes more than base64: padding anywhere, blanks at both ends. */
	if (text == NULL || len % 4 != 0 || len > INT_MAX || len - used > 2 ||
		strspn(text + used, "=") != len - used)
		return refuse(record, "the CloudEvent's data_base64 is no base64");
	envelope->data = envelope->data_memory = malloc(len + 1);
	if (envelope->data_memory == NULL)
		abort();
	size = EVP_DecodeBlock(envelope->data_memory, (const uint8_t *) text, (int) len);
	envelope->data_len = (size_t) size - (len - used);
	return true;
}

/* Does datacontenttype (NULL: JSON, as the envelope) say that data is JSON? */
static bool
is_json(const json_t *type)
{
	char   media_type[128];
	size_t len;

	if (!json_is_string(type))
		return true;
	copy_media_type(json_string_value(type), json_string_length(type), media_type,
					sizeof(media_type));
	len = strlen(media_type);
	return len >= 5 &&
		(strcmp(media_type + len - 5, "/json") == 0 || strcmp(media_type + len - 5, "+json") == 0);
}

static bool
read_data(OutboxRecord *record, Envelope *envelope)
{
	const json_t *type = json_object_get(envelope->root, "datacontenttype");
	const json_t *data = json_object_get(envelope->root, "data");
	const json_t *base64 = json_object_get(envelope->root, "data_base64");

	if (json_is_null(data))
		data = NULL;
	if (base64 != NULL && !json_is_null(base64))
	{
		if (data != NULL)
			return refuse(record, "the CloudEvent has both data and data_base64");
		return decode_base64(record, envelope, base64);
	}
	if (data == NULL)
		return true;
	if (json_is_string(data) && !is_json(type))
	{
		envelope->data_len = json_string_length(data);
		envelope->data_memory = malloc(envelope->data_len + 1);
		if (envelope->data_memory == NULL)
			abort();
		envelope->data = memcpy(envelope->data_memory, json_string_value(data), envelope->data_len);
		return true;
	}
	find_data((const char *) record->value, envelope);
	if (type == NULL || json_is_null(type))
		add_attribute(envelope, "datacontenttype", strdup("application/json"),
					  strlen("application/json"));
	return true;
}

static bool
read_envelope(OutboxRecord *record, Envelope *envelope)
{
	json_error_t error;
	const char	*name;
	json_t		*value;

	/* As a value of outbox-consume: any whole number, however large. */
	envelope->root = json_loadb((const char *) record->value, record->value_len,
								JSON_DECODE_INT_AS_REAL, &error);
	if (envelope->root == NULL)
		return refuse(record, "the CloudEvent is not JSON: %s at byte %d", error.text,
					  error.position);
	if (!json_is_object(envelope->root))
		return refuse(record, "the CloudEvent is not a JSON object");
	if (!check_required(record, envelope->root))
		return false;
	json_object_foreach(envelope->root, name, value)
	{
		if (strcmp(name, "data") != 0 && strcmp(name, "data_base64") != 0 &&
			!read_attribute(record, envelope, name, value))
			return false;
	}
	return read_data(record, envelope);
}

/* Writes the attributes, then the record's own headers; returns what the bytes are in sum. */
static size_t
put_headers(const OutboxRecord *record, const Envelope *envelope, uint8_t *memory)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;
	int64_t			   count = (int64_t) envelope->count;
	size_t			   size = 0;
	uint8_t			  *end = memory;

	outbox_headers_read(&reader, record->raw_headers, record->raw_headers_len);
	while (outbox_headers_next(&reader, &header))
		count += !outbox_header_is(&header, "content-type");
	size += outbox_varint_size(count);
	if (memory != NULL)
		end = outbox_varint_put(end, count);
	for (size_t i = 0; i < envelope->count; i++)
	{
		const Attribute *attribute = &envelope->attributes[i];

		header = (OutboxHeader) {attribute->name, strlen(attribute->name),
								 (const uint8_t *) attribute->value, attribute->value_len};
		size += outbox_header_size(&header);
		if (memory != NULL)
			end = outbox_header_put(end, &header);
	}
	outbox_headers_read(&reader, record->raw_headers, record->raw_headers_len);
	while (outbox_headers_next(&reader, &header))
	{
		if (outbox_header_is(&header, "content-type"))
			continue;
		size += outbox_header_size(&header);
		if (memory != NULL)
			end = outbox_header_put(end, &header);
	}
	return size;
}

static void
free_envelope(Envelope *envelope)
{
	for (size_t i = 0; i < envelope->count; i++)
	{
		free(envelope->attributes[i].name);
		free(envelope->attributes[i].value);
	}
	json_decref(envelope->root);
}

void
outbox_cloudevent_read(OutboxRecord *record, const OutboxHeader *content_type)
{
	Envelope envelope = {0};

	if (check_format(record, content_type) && read_envelope(record, &envelope))
	{
		record->headers_len = put_headers(record, &envelope, NULL);
		record->event_headers = malloc(record->headers_len);
		if (record->event_headers == NULL)
			abort();
		put_headers(record, &envelope, record->event_headers);
		record->headers = record->event_headers;
		record->event_value = envelope.data_memory;
		record->value = envelope.data;
		record->value_len = envelope.data_len;
	}
	else
		free(envelope.data_memory);
	free_envelope(&envelope);
}
