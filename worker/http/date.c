/* date: see date.h. Names are spelled out here because strftime follows the locale. */
#include "worker/http/date.h"

#include <stdio.h>

struct span date_line(struct http_date *date, time_t now)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {
	    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	struct tm tm;

	if (now == date->second && date->line[0] != '\0')
		return span_of(date->line);
	gmtime_r(&now, &tm);
	snprintf(date->line, sizeof(date->line), "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
	    days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], (tm.tm_year + 1900) % 10000,
	    tm.tm_hour, tm.tm_min, tm.tm_sec);
	date->second = now;
	return span_of(date->line);
}
