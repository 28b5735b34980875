/* SPDX-License-Identifier: PostgreSQL
 *
 * gateway.c
 *	  Requests to the HTTP payment gateway, on libcurl.
 *
 * Runs in outbox-payment, threads of the runtime's pool; each keeps its own curl handle.
 */
#include "gateway.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "services/lib/arguments.h"
#include "services/lib/http_post.h"
#include "services/runtime/call.h"

#define ORDER_KEY_TEXT 129

static const char plain_characters[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-";

/* settings; written before the threads start */
static const char *gateway_url;
static int		   gateway_timeout_ms;

const OutboxOption gateway_options[] = {
	{.name = "gateway_url",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &gateway_url,
	 .initial = "",
	 .check = outbox_check_url,
	 .text = "HTTP payment gateway, empty for none"},
	{.name = "gateway_timeout_ms",
	 .kind = OUTBOX_OPTION_INTEGER,
	 .variable = &gateway_timeout_ms,
	 .initial = "10000",
	 .min = 1,
	 .max = 60000,
	 .text = "longest request to the gateway"},
	{.name = NULL},
};

static _Thread_local CURL *thread_curl;

bool
gateway_start(void)
{
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

bool
gateway_enabled(void)
{
	return gateway_url[0] != '\0';
}

/* The order's id as it may stand in a header: a long one, or another character, as a digest. */
static void
write_order_key(const char *payload, char key[ORDER_KEY_TEXT])
{
	json_t	   *event = json_loads(payload, 0, NULL);
	const char *id = json_string_value(json_object_get(event, "orderId"));
	size_t		len = id != NULL ? strlen(id) : 0;

	if (len > 0 && len < ORDER_KEY_TEXT && strspn(id, plain_characters) == len)
		memcpy(key, id, len + 1);
	else
	{
		unsigned char digest[SHA256_DIGEST_LENGTH];

		SHA256((const unsigned char *) (id != NULL ? id : payload),
			   id != NULL ? len : strlen(payload), digest);
		memcpy(key, "sha256:", 7);
		for (int i = 0; i < SHA256_DIGEST_LENGTH; i++)
			snprintf(key + 7 + 2 * i, 3, "%02x", digest[i]);
	}
	json_decref(event);
}

/* One POST; the HTTP status, or 0 with *error set when there was no answer. */
static long
post(const char *request_name, const char *payload, const char **error)
{
	char				 url[1024];
	char				 order_key[ORDER_KEY_TEXT];
	char				 key_header[32 + ORDER_KEY_TEXT];
	const OutboxHttpPost request = {.url = url,
									.body = payload,
									.header = key_header,
									.timeout_ms = gateway_timeout_ms};

	if (thread_curl == NULL)
		thread_curl = curl_easy_init();
	if (thread_curl == NULL)
	{
		*error = "out of memory";
		return 0;
	}
	snprintf(url, sizeof(url), "%s/%ss", gateway_url, request_name);
	write_order_key(payload, order_key);
	snprintf(key_header, sizeof(key_header), "Idempotency-Key: %s-%s", request_name, order_key);
	return outbox_http_post(thread_curl, &request, error);
}

/*
 * Is it no fault of the record: the gateway is busy or at this very request, or will not have us at
 * all?
 */
static bool
is_waited_out(long status)
{
	switch (status)
	{
		case 401:
		case 403:
		case 405:
		case 407:
		case 408:
		case 409:
		case 425:
		case 429:
			return true;
		default:
			return status >= 500;
	}
}

/* The verdict for a status neither path gives a meaning of its own. */
static OutboxVerdict
judge_status(long status, const char *error, OutboxCall *call)
{
	if (status == 0)
		return outbox_call_wait(call, "payment gateway: %s", error);
	if (status >= 200 && status < 300)
		return OUTBOX_VERDICT_CALL;
	if (is_waited_out(status))
		return outbox_call_wait(call, "payment gateway: HTTP status %ld", status);
	return outbox_call_fail(call, "payment gateway refused the request: HTTP status %ld", status);
}

OutboxVerdict
gateway_charge(const char *payload, OutboxCall *call, GatewayAnswer *answer)
{
	const char *error = NULL;
	long		status = post("charge", payload, &error);

	*answer = status == 402 ? GATEWAY_DECLINED : GATEWAY_APPROVED;
	return status == 402 ? OUTBOX_VERDICT_CALL : judge_status(status, error, call);
}

OutboxVerdict
gateway_refund(const char *payload, OutboxCall *call)
{
	const char *error = NULL;
	long		status = post("refund", payload, &error);

	return status == 404 ? OUTBOX_VERDICT_CALL : judge_status(status, error, call);
}
