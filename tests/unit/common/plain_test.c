/* plain: runs of bytes that need no look. */
#include <criterion/criterion.h>
#include <ctype.h>

#include "common/plain.h"

/* Every byte at every place of a text that is longer than two blocks. */
Test(plain, stops_at_the_first_byte_that_is_not_plain)
{
	for (unsigned c = 0; c < 256; c++) {
		for (size_t at = 0; at < 40; at++) {
			char text[40];
			memset(text, 'x', sizeof(text));
			text[at] = (char)c;
			bool string = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
			bool printable = c >= 0x20 && c <= 0x7e;
			bool inside = c != '"' && c != '\\';
			bool nested = c == 0 || !strchr("\"[]{}", (int)c);
			bool name = isalnum((int)c) || c == '-';
			cr_assert_eq(plain_length(text, sizeof(text), PLAIN_STRING),
			    string ? sizeof(text) : at, "%u at %zu", c, at);
			cr_assert_eq(plain_length(text, sizeof(text), PLAIN_PRINTABLE),
			    printable ? sizeof(text) : at, "%u at %zu", c, at);
			cr_assert_eq(plain_length(text, sizeof(text), PLAIN_INSIDE),
			    inside ? sizeof(text) : at, "%u at %zu", c, at);
			cr_assert_eq(plain_length(text, sizeof(text), PLAIN_NESTED),
			    nested ? sizeof(text) : at, "%u at %zu", c, at);
			cr_assert_eq(plain_length(text, sizeof(text), PLAIN_NAME),
			    name ? sizeof(text) : at, "%u at %zu", c, at);
		}
	}
	cr_assert_eq(plain_length(NULL, 0, PLAIN_STRING), 0);
}
