/* SPDX-License-Identifier: PostgreSQL
 *
 * event_time.c
 *	  Reads RFC 3339 time stamps, and nothing that only resembles one.
 *
 * Runs in the services, any thread.  Pure.
 */
#include "event_time.h"

#define MICROSECONDS INT64_C(1000000)
#define DAY_SECONDS	 86400

/* What is left of the text. */
typedef struct TimeText
{
	const char *at;
	const char *end;
} TimeText;

static bool
is_digit(const TimeText *text)
{
	return text->at < text->end && *text->at >= '0' && *text->at <= '9';
}

/* So many digits, at most max. */
static bool
take_number(TimeText *text, int digits, int max, int *number)
{
	*number = 0;
	for (int i = 0; i < digits; i++)
	{
		if (!is_digit(text))
			return false;
		*number = 10 * *number + (*text->at++ - '0');
	}
	return *number <= max;
}

/* One of two characters. */
static bool
take_either(TimeText *text, char one, char other)
{
	if (text->at == text->end || (*text->at != one && *text->at != other))
		return false;
	text->at++;
	return true;
}

static bool
take_char(TimeText *text, char wanted)
{
	return take_either(text, wanted, wanted);
}

static bool
is_leap(int year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int
days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 1970-01-01 on, of a date from year 1 on. */
static int64_t
count_days(int year, int month, int day)
{
	int64_t before = year - 1;
	int64_t days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;

	for (int i = 1; i < month; i++)
		days += days_of(year, i);
	return days + day - 1;
}

static bool
take_date(TimeText *text, int64_t *days)
{
	int year;
	int month;
	int day;

	if (!take_number(text, 4, 9999, &year) || !take_char(text, '-') ||
		!take_number(text, 2, 12, &month) || !take_char(text, '-') ||
		!take_number(text, 2, 31, &day))
		return false;
	if (year < 1 || month < 1 || day < 1 || day > days_of(year, month))
		return false;
	*days = count_days(year, month, day);
	return true;
}

/* ".123": microseconds; nothing: 0. */
static bool
take_fraction(TimeText *text, int64_t *us)
{
	int64_t unit = MICROSECONDS;

	*us = 0;
	if (!take_char(text, '.'))
		return true;
	if (!is_digit(text))
		return false;
	for (; is_digit(text); text->at++)
	{
		unit /= 10;
		*us += unit * (*text->at - '0');
	}
	return true;
}

/* What the clock is ahead of UTC, in seconds. */
static bool
take_offset(TimeText *text, int *seconds)
{
	bool west = text->at < text->end && *text->at == '-';
	int	 hours;
	int	 minutes;

	*seconds = 0;
	if (take_either(text, 'Z', 'z'))
		return true;
	if (!take_either(text, '+', '-') || !take_number(text, 2, 23, &hours) ||
		!take_char(text, ':') || !take_number(text, 2, 59, &minutes))
		return false;
	*seconds = (hours * 60 + minutes) * (west ? -60 : 60);
	return true;
}

/* Does a month of UTC begin at this second? */
static bool
begins_month(int64_t seconds)
{
	int64_t days = seconds / DAY_SECONDS;

	if (seconds % DAY_SECONDS != 0)
		return false;
	for (int year = (int) (1970 + days / 366 - 1);; year++)
	{
		for (int month = 1; month <= 12; month++)
		{
			int64_t first = count_days(year, month, 1);

			if (first >= days)
				return first == days;
		}
	}
}

bool
outbox_event_time_read(const char *text, size_t len, int64_t *us)
{
	TimeText rest = {text, text + len};
	int64_t	 days;
	int64_t	 fraction;
	int64_t	 seconds;
	int		 hour;
	int		 minute;
	int		 second;
	int		 ahead;

	if (!take_date(&rest, &days) || !take_either(&rest, 'T', 't') ||
		!take_number(&rest, 2, 23, &hour) || !take_char(&rest, ':') ||
		!take_number(&rest, 2, 59, &minute) || !take_char(&rest, ':') ||
		!take_number(&rest, 2, 60, &second) || !take_fraction(&rest, &fraction) ||
		!take_offset(&rest, &ahead) || rest.at != rest.end)
		return false;
	seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second - ahead;
	if (second == 60 && (seconds <= 0 || !begins_month(seconds)))
		return false;
	*us = seconds * MICROSECONDS + (second == 60 ? 0 : fraction);
	return true;
}

int64_t
outbox_event_since_ms(int64_t event_us, int64_t record_ms, int64_t now_ms)
{
	if (event_us >= 0 && event_us / 1000 <= now_ms)
		return event_us / 1000;
	return record_ms >= 0 ? record_ms : event_us >= 0 ? event_us / 1000 : -1;
}
