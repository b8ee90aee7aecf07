/* escape: see escape.h. */
#include "common/escape.h"

#include <stdint.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static uint32_t hex4(const char *p)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 4 | (uint32_t)hex_value(p[i]);
	return v;
}

/* One escape of a scanned string, at `raw.p[*i]` behind the backslash. The character, or UINT32_MAX
 * for half a pair. */
static uint32_t escape_value(struct span raw, size_t *i)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	char c = raw.p[*i];

	if (c != 'u') {
		const char *at = c ? strchr(names, c) : NULL;
		*i += 1;
		return at ? (unsigned char)values[at - names] : UINT32_MAX;
	}
	if (raw.n - *i < 5)
		return UINT32_MAX;
	uint32_t v = hex4(raw.p + *i + 1);
	*i += 5;
	if (v < 0xd800 || v > 0xdfff)
		return v;
	if (v > 0xdbff || raw.n - *i < 6 || raw.p[*i] != '\\' || raw.p[*i + 1] != 'u')
		return UINT32_MAX;
	uint32_t low = hex4(raw.p + *i + 2);
	if (low < 0xdc00 || low > 0xdfff)
		return UINT32_MAX;
	*i += 6;
	return 0x10000 + ((v - 0xd800) << 10) + (low - 0xdc00);
}

long escape_undo(struct span raw, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < raw.n;) {
		if (size - n < 4)
			return -1;
		if (raw.p[i] != '\\') {
			out[n++] = raw.p[i++];
			continue;
		}
		i++;
		uint32_t c = escape_value(raw, &i);
		if (c == UINT32_MAX)
			return -1;
		n += put_utf8(out + n, c);
	}
	return (long)n;
}

int escape_append(struct buffer *out, struct span text, size_t bound)
{
	for (size_t i = 0; i < text.n;) {
		size_t plain = 0;
		while (i + plain < text.n && text.p[i + plain] != '"' &&
		       text.p[i + plain] != '\\' && (unsigned char)text.p[i + plain] >= 0x20)
			plain++;
		int error = buffer_append(out, text.p + i, plain, bound);
		i += plain;
		if (!error && i < text.n) {
			unsigned char c = (unsigned char)text.p[i++];
			error = c < 0x20 ? buffer_printf(out, bound, "\\u%04x", c)
					 : buffer_printf(out, bound, "\\%c", c);
		}
		if (error)
			return error;
	}
	return 0;
}
