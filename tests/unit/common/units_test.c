/* units: what is taken, what is refused, and the way back. */
#include "common/units.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdint.h>

Test(units, durations_take_every_unit)
{
	static const struct {
		const char *text;
		double seconds;
	} rows[] = {{"30s", 30}, {"500ms", 0.5}, {"5m", 300}, {"1h", 3600}, {"2d", 172800},
	    {"0", 0}, {"0s", 0}, {"1.5h", 5400}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double seconds = -1;
		cr_assert_eq(duration_parse(rows[i].text, &seconds), 0, "%s", rows[i].text);
		cr_assert_float_eq(seconds, rows[i].seconds, 1e-9, "%s", rows[i].text);
	}
}

Test(units, what_is_no_duration_is_refused)
{
	static const char *const rows[] = {"", "30", "s", "10x", "-1s", "+1s", " 1s", "1 s", "1s ",
	    "1e3s", ".5s", "1.s", "1s1s", "0x10s", "nan", "1S"};
	double seconds;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(duration_parse(rows[i], &seconds), -EINVAL, "%s", rows[i]);
	cr_assert_eq(duration_parse("9999999999d", &seconds), 0);
	cr_assert_eq(duration_parse("99999999999s", &seconds), -ERANGE);
}

Test(units, sizes_stop_at_the_last_byte_that_fits)
{
	size_t n = 1;

	cr_assert_eq(size_parse("4MiB", &n), 0);
	cr_assert_eq(n, 4u << 20);
	cr_assert_eq(size_parse("4096", &n), 0);
	cr_assert_eq(n, 4096);
	cr_assert_eq(size_parse("2kB", &n), 0);
	cr_assert_eq(n, 2000);
	cr_assert_eq(size_parse("7B", &n), 0);
	cr_assert_eq(n, 7);
	cr_assert_eq(size_parse("18446744073709551615", &n), 0);
	cr_assert_eq(n, SIZE_MAX);
	cr_assert_eq(size_parse("18446744073709551616", &n), -ERANGE);
	cr_assert_eq(size_parse("17179869183GiB", &n), 0);
	cr_assert_eq(size_parse("17179869184GiB", &n), -ERANGE);
}

Test(units, what_is_no_size_is_refused)
{
	static const char *const rows[] = {
	    "", "MiB", "4mib", "4M", "-1", "1.5MiB", "4 MiB", "0x10", "99999999999999999999999x"};
	size_t n;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(size_parse(rows[i], &n), -EINVAL, "%s", rows[i]);
}

Test(units, formatted_text_reads_back_as_the_same_value)
{
	char text[UNITS_TEXT_MAX];

	duration_format(90, text);
	cr_assert_str_eq(text, "90s");
	duration_format(0.25, text);
	cr_assert_str_eq(text, "250ms");
	duration_format(172800, text);
	cr_assert_str_eq(text, "2d");
	duration_format(0, text);
	cr_assert_str_eq(text, "0");
	size_format(16384, text);
	cr_assert_str_eq(text, "16KiB");
	size_format(SIZE_MAX, text);
	cr_assert_str_eq(text, "18446744073709551615");
	size_format(0, text);
	cr_assert_str_eq(text, "0");
}
