/* date: the format of RFC 9110, 5.6.7. */
#include "worker/http/date.h"

#include <criterion/criterion.h>

Test(date, follows_the_clock_second_by_second)
{
	struct http_date date = {0};

	cr_assert_str_eq(date_line(&date, 784111777).p, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	cr_assert_str_eq(date_line(&date, 784111777).p, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
	cr_assert_str_eq(date_line(&date, 784111778).p, "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n");
	cr_assert_str_eq(date_line(&date, 0).p, "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
}
