/* SPDX-License-Identifier: PostgreSQL
 *
 * rate_plan.c
 *	  What follows from the rate at which a link or a quota lets batches pass.
 *
 * Pure; used by the relay and the sender.
 */
#include "rate_plan.h"

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
most_of(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t
outbox_rate_of(const OutboxProgress *progress)
{
	if (progress->done <= 0)
		return 0;
	return most_of(1, progress->done * 1000 / most_of(1, progress->took_ms));
}

int64_t
outbox_rate_need_ms(const OutboxProgress *progress)
{
	double need;

	if (progress->done <= 0)
		return 0;
	need = (double) progress->bytes / (double) progress->done * (double) progress->took_ms * 1.5;
	return need >= OUTBOX_RATE_MOST_MS ? OUTBOX_RATE_MOST_MS : (int64_t) need;
}

bool
outbox_rate_grow(const OutboxDeadlines *base, const OutboxDeadlines *last,
				 const OutboxProgress *progress, int64_t limit_ms, OutboxDeadlines *next)
{
	int64_t				  rest = most_of(1, base->transaction_ms - base->message_ms);
	const OutboxDeadlines before = *last; /* next may be last */
	int64_t limit = limit_ms > 0 ? most_of(limit_ms, base->transaction_ms) : OUTBOX_RATE_MOST_MS;

	next->message_ms = most_of(2 * before.message_ms, outbox_rate_need_ms(progress));
	next->transaction_ms = least(next->message_ms + rest, limit);
	next->message_ms = most_of(base->message_ms, next->transaction_ms - rest);
	next->socket_ms =
		most_of(base->socket_ms,
				least(2 * before.socket_ms, least(OUTBOX_RATE_SOCKET_MS, next->transaction_ms)));
	return next->message_ms > before.message_ms || next->socket_ms > before.socket_ms;
}

int64_t
outbox_rate_cut(int64_t most, int64_t setting, const OutboxProgress *progress, int64_t usual_ms)
{
	int64_t target_ms = most_of(1, usual_ms / OUTBOX_RATE_PARTS);

	if (progress->took_ms > target_ms && progress->done >= OUTBOX_RATE_LEAST_BYTES)
	{
		double passes = (double) progress->done * (double) target_ms / (double) progress->took_ms;

		most = most_of(OUTBOX_RATE_LEAST_BYTES, (int64_t) passes);
	}
	else if (most > 0 && progress->done >= progress->bytes && progress->bytes >= most / 2 &&
			 progress->took_ms < target_ms / 2)
		most *= 2;
	return most >= setting ? 0 : most;
}
