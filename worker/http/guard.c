/* guard: see guard.h. Character classes come from RFC 9110, 5.6.2 (token) and 5.5 (field values,
 * US-ASCII only). */
#include "worker/http/guard.h"

#include <ctype.h>

#include "common/plain.h"

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER_START,
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_LF,
	TRAILER_END_LF
};

static const struct guard_verdict passed = {0};

static bool is_token(unsigned char c)
{
	/* One bit per character: !#$%&'*+-. and digits, letters with ^_`, letters with |~. */
	static const uint32_t tokens[8] = {0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff};

	return tokens[c / 32] >> c % 32 & 1;
}

static bool is_value(unsigned char c)
{
	return c == '\t' || (c >= 0x20 && c < 0x7f);
}

static bool is_visible(unsigned char c)
{
	return c > 0x20 && c < 0x7f;
}

static struct guard_verdict refused(unsigned status, const char *reason)
{
	return (struct guard_verdict){status, reason};
}

static struct guard_verdict check_version(struct span version)
{
	static const char prefix[] = "HTTP/";

	if (version.n != 8 || memcmp(version.p, prefix, 5) != 0 ||
	    !isdigit((unsigned char)version.p[5]) || version.p[6] != '.' ||
	    !isdigit((unsigned char)version.p[7]))
		return refused(400, "malformed HTTP version");
	if (version.p[5] != '1' || (version.p[7] != '0' && version.p[7] != '1'))
		return refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	return passed;
}

struct guard_verdict guard_request_line(struct span line)
{
	size_t method = 0, target;

	while (method < line.n && is_token((unsigned char)line.p[method]))
		method++;
	if (method == 0 || method == line.n || line.p[method] != ' ')
		return refused(400, "malformed request line");
	for (target = method + 1; target < line.n && is_visible((unsigned char)line.p[target]);
	     target++) {
	}
	if (target - method - 1 > GUARD_TARGET_MAX)
		return refused(414, "the request target is too long");
	if (target == method + 1 || target >= line.n || line.p[target] != ' ')
		return refused(400, "malformed request line");
	return check_version((struct span){line.p + target + 1, line.n - target - 1});
}

struct guard_verdict guard_status_line(struct span line)
{
	if (line.n < 12)
		return refused(400, "malformed status line");
	struct guard_verdict verdict = check_version((struct span){line.p, 8});
	if (verdict.reason)
		return verdict;
	for (size_t i = 9; i < 12; i++) {
		if (!isdigit((unsigned char)line.p[i]))
			return refused(400, "malformed status line");
	}
	if (line.p[8] != ' ' || line.p[9] == '0' || (line.n > 12 && line.p[12] != ' '))
		return refused(400, "malformed status line");
	for (size_t i = 12; i < line.n; i++) {
		if (!is_value((unsigned char)line.p[i]))
			return refused(400, "forbidden character in the reason phrase");
	}
	return passed;
}

struct guard_verdict guard_field_line(struct span line, size_t *name_length)
{
	size_t i = plain_length(line.p, line.n, PLAIN_NAME);

	if (line.p[0] == ' ' || line.p[0] == '\t')
		return refused(400, "folded header line");
	while (i < line.n && is_token((unsigned char)line.p[i]))
		i++;
	if (i == 0 || i == line.n || line.p[i] != ':')
		return refused(400, "malformed header name");
	*name_length = i;
	/* From the start, where whole blocks are longer; the name holds nothing to refuse. */
	for (i = 0; i < line.n; i++) {
		i += plain_length(line.p + i, line.n - i, PLAIN_PRINTABLE);
		if (i < line.n && line.p[i] != '\t')
			return refused(400, "forbidden character in a header value");
	}
	return passed;
}

/* One byte outside of chunk data. Returns the reason to refuse it, or NULL. */
static const char *chunk_byte(struct guard_chunks *g, unsigned char c)
{
	switch ((enum chunk_state)g->state) {
	case CHUNK_SIZE:
		if (c == '\r' && g->digits > 0) {
			g->state = CHUNK_SIZE_LF;
			return NULL;
		}
		if (!isxdigit(c) || g->digits == GUARD_CHUNK_DIGITS)
			return "malformed chunk size";
		g->left = g->left * 16 + (uint64_t)(isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
		g->digits++;
		return NULL;
	case CHUNK_SIZE_LF:
		g->state = g->left > 0 ? CHUNK_DATA : TRAILER_START;
		return c == '\n' ? NULL : "malformed end of a chunk size";
	case CHUNK_DATA:
	case CHUNK_DATA_CR:
		g->state = CHUNK_DATA_LF;
		return c == '\r' ? NULL : "a chunk is longer than its size";
	case CHUNK_DATA_LF:
		g->state = CHUNK_SIZE;
		g->digits = 0;
		return c == '\n' ? NULL : "a chunk is longer than its size";
	case TRAILER_START:
		if (c == '\r')
			g->state = TRAILER_END_LF;
		else
			g->state = TRAILER_NAME;
		return c == '\r' || is_token(c) ? NULL : "malformed trailer name";
	case TRAILER_NAME:
		if (c == ':')
			g->state = TRAILER_VALUE;
		return c == ':' || is_token(c) ? NULL : "malformed trailer name";
	case TRAILER_VALUE:
		if (c == '\r')
			g->state = TRAILER_LF;
		return c == '\r' || is_value(c) ? NULL : "forbidden character in a trailer";
	case TRAILER_LF:
		g->state = TRAILER_START;
		return c == '\n' ? NULL : "bare CR in a trailer";
	case TRAILER_END_LF:
		g->done = true;
		return c == '\n' ? NULL : "malformed end of a chunked body";
	}
	return "impossible chunk state";
}

size_t guard_chunks(
    struct guard_chunks *g, struct span bytes, size_t trailer_max, const char **reason)
{
	size_t i = 0;

	*reason = NULL;
	while (i < bytes.n && !g->done) {
		if (g->state == CHUNK_DATA) {
			size_t n = bytes.n - i < g->left ? bytes.n - i : (size_t)g->left;
			i += n;
			g->left -= n;
			if (g->left == 0)
				g->state = CHUNK_DATA_CR;
			continue;
		}
		if (g->state >= TRAILER_START && ++g->trailer > trailer_max)
			*reason = "the trailers are too long";
		else
			*reason = chunk_byte(g, (unsigned char)bytes.p[i++]);
		if (*reason)
			break;
	}
	return i;
}
