/* date: see date.h. Names are spelled out here because strftime follows the locale. */
#include "worker/http/date.h"

#include <stdio.h>

const char *date_text(struct http_date *date, time_t now)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {
	    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm;

	if (now == date->second && date->text[0])
		return date->text;
	gmtime_r(&now, &tm);
	snprintf(date->text, sizeof(date->text), "%s, %02d %s %04d %02d:%02d:%02d GMT",
	    days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000,
	    tm.tm_hour, tm.tm_min, tm.tm_sec);
	date->second = now;
	return date->text;
}
