/* SPDX-License-Identifier: PostgreSQL
 *
 * output.c
 *	  Answers to the relay, from any thread: one whole frame at a time.
 *
 * Runs in the sender.
 */
#include "output.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;

/* Writes whole frames; false: the relay is gone. */
bool
outbox_output_write(const OutboxWireBuffer *frames)
{
	size_t done = 0;
	bool   there = true;

	pthread_mutex_lock(&output_lock);
	while (there && done < frames->len)
	{
		ssize_t written = write(1, frames->data + done, frames->len - done);

		there = written >= 0 || errno == EINTR;
		if (written > 0)
			done += (size_t) written;
	}
	pthread_mutex_unlock(&output_lock);
	return there;
}
