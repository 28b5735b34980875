/* SPDX-License-Identifier: PostgreSQL
 *
 * alert_rules.c
 *	  Two polls in a row with a reason begin an alert; it ends when no reason is
 *	  left and the number that began it is below half its threshold, so that a
 *	  value near the threshold does not ring again and again.  An offset that
 *	  stands is no reason below that half: some consumers commit once a minute.
 *
 * Runs in outbox-monitor, threads of the poller and of the databases; and in the unit tests.
 */
#include "alert_rules.h"

static OutboxAlertChange
step(OutboxAlertState *state, unsigned reasons, bool calm)
{
	if (reasons != 0)
	{
		state->reasons = reasons;
		if (state->polls < OUTBOX_ALERT_POLLS)
			state->polls++;
		if (state->firing || state->polls < OUTBOX_ALERT_POLLS)
			return OUTBOX_ALERT_NONE;
		state->firing = true;
		return OUTBOX_ALERT_TRIGGER;
	}
	state->polls = 0;
	if (!state->firing || !calm)
		return OUTBOX_ALERT_NONE;
	state->firing = false;
	return OUTBOX_ALERT_RESOLVE;
}

OutboxAlertChange
outbox_alert_judge_lag(OutboxAlertState *state, const OutboxLagSample *sample)
{
	bool	 waiting = sample->lag > 0;
	bool	 old = sample->seconds < 0 || sample->seconds > sample->threshold / 2;
	unsigned reasons = 0;

	if (!waiting || !sample->deserted)
		state->deserted_at = 0;
	else if (state->deserted_at == 0)
		state->deserted_at = sample->now_ms;
	if (waiting && sample->seconds > sample->threshold)
		reasons |= OUTBOX_REASON_SECONDS;
	if (waiting && old && sample->status == OUTBOX_LAG_STOP)
		reasons |= OUTBOX_REASON_STOP;
	if (waiting && old && sample->status == OUTBOX_LAG_STALL)
		reasons |= OUTBOX_REASON_STALL;
	if (state->deserted_at != 0 && sample->now_ms - state->deserted_at >= sample->grace_ms)
		reasons |= OUTBOX_REASON_NO_MEMBERS;

	/* What is not known ends nothing. */
	return step(state, reasons,
				sample->complete &&
					(sample->lag == 0 ||
					 (waiting && !sample->deserted && sample->seconds >= 0 &&
					  sample->seconds < sample->threshold / 2)));
}

OutboxAlertChange
outbox_alert_judge_ranges(OutboxAlertState *state, bool beyond, bool lost, bool known)
{
	return step(state, (beyond ? OUTBOX_REASON_BEYOND : 0) | (lost ? OUTBOX_REASON_LOST : 0),
				known);
}

OutboxAlertChange
outbox_alert_judge_depth(OutboxAlertState *state, long depth, long threshold)
{
	return step(state, depth > threshold ? OUTBOX_REASON_DEPTH : 0, 2 * depth <= threshold);
}

OutboxAlertChange
outbox_alert_judge_held(OutboxAlertState *state, double seconds, long threshold)
{
	return step(state, seconds >= (double) threshold ? OUTBOX_REASON_HELD : 0, seconds < 0);
}
