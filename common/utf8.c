/* utf8: see utf8.h. The rows are the table of RFC 3629, 4. */
#include "common/utf8.h"

size_t utf8_length(const unsigned char *p, size_t n)
{
	static const struct {
		unsigned char first, last, low, high;
		size_t length;
	} rows[] = {
	    {0xc2, 0xdf, 0x80, 0xbf, 2},
	    {0xe0, 0xe0, 0xa0, 0xbf, 3},
	    {0xe1, 0xec, 0x80, 0xbf, 3},
	    {0xed, 0xed, 0x80, 0x9f, 3},
	    {0xee, 0xef, 0x80, 0xbf, 3},
	    {0xf0, 0xf0, 0x90, 0xbf, 4},
	    {0xf1, 0xf3, 0x80, 0xbf, 4},
	    {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	if (p[0] < 0x80)
		return 1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (p[0] < rows[i].first || p[0] > rows[i].last)
			continue;
		if (n < rows[i].length || p[1] < rows[i].low || p[1] > rows[i].high)
			return 0;
		for (size_t k = 2; k < rows[i].length; k++) {
			if (p[k] < 0x80 || p[k] > 0xbf)
				return 0;
		}
		return rows[i].length;
	}
	return 0;
}
