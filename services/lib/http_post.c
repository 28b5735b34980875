/* SPDX-License-Identifier: PostgreSQL
 *
 * http_post.c
 *	  One POST of JSON to another system, on libcurl.
 *
 * Runs in the services, any thread.
 */
#include "http_post.h"

static size_t
drop_answer(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

struct curl_slist *
outbox_http_post_prepare(CURL *curl, const OutboxHttpPost *post)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");

	if (post->header != NULL)
		headers = curl_slist_append(headers, post->header);
	curl_easy_reset(curl);
	curl_easy_setopt(curl, CURLOPT_URL, post->url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, post->body);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, post->timeout_ms);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop_answer);
	if (post->watch != NULL)
	{
		curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
		curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, post->watch);
	}
	return headers;
}

long
outbox_http_post(CURL *curl, const OutboxHttpPost *post, const char **error)
{
	struct curl_slist *headers = outbox_http_post_prepare(curl, post);
	CURLcode		   code = curl_easy_perform(curl);
	long			   status = 0;

	curl_slist_free_all(headers);
	if (code == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	else
		*error = curl_easy_strerror(code);
	return status;
}
