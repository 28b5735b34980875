/* SPDX-License-Identifier: PostgreSQL
 *
 * event_time.h
 *	  RFC 3339 time stamps, as CloudEvents write them.
 *
 * Pure; any thread.
 */
#ifndef OUTBOX_EVENT_TIME_H
#define OUTBOX_EVENT_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTBOX_NO_TIME INT64_MIN

/*
 * Microseconds since 1970 of "2026-01-31T23:59:59[.fraction](Z|+hh:mm|-hh:mm)", len bytes, T and Z
 * in either case; further digits of the fraction are cut off.  A leap second, which ends a month in
 * UTC, is the second after it.  false: it is none: another form, a date the calendar does not have,
 * year 0, hour 24, no offset.
 */
extern bool outbox_event_time_read(const char *text, size_t len, int64_t *us);

/*
 * Since when an event exists, in milliseconds since 1970, of which a record may say two things: its
 * own time (event_us, OUTBOX_NO_TIME: nothing) and its record's (record_ms, -1: nothing).  The
 * event's counts, unless it lies before 1970, as the zero of many a language does, or after now_ms,
 * by a clock that is ahead.  -1: not known.
 */
extern int64_t outbox_event_since_ms(int64_t event_us, int64_t record_ms, int64_t now_ms);

#endif /* OUTBOX_EVENT_TIME_H */
