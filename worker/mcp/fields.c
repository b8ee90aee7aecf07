/* fields: see fields.h. */
#include "worker/mcp/fields.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/escape.h"
#include "common/raw.h"

enum { FIELDS_MAX = 64 * 1024 };

static const struct span no_data = {0};
static const struct span revision = {MCP_STATELESS, sizeof(MCP_STATELESS) - 1};
static const struct span marker = {"=?base64?", 9}, marker_end = {"?=", 2};

/* Strict: padding and alphabet as in RFC 4648, 4, with no bit left over. */
static bool base64_says(struct span code, struct span text)
{
	size_t size = code.n / 4 * 3;
	unsigned char *bytes, *again;
	bool same = false;

	if (code.n % 4 != 0 || code.n == 0)
		return code.n == 0 && text.n == 0;
	bytes = malloc(size + 1);
	again = malloc(code.n + 1);
	if (bytes && again) {
		size_t padding = (size_t)(code.p[code.n - 1] == '=') + (code.p[code.n - 2] == '=');
		int n = EVP_DecodeBlock(bytes, (const unsigned char *)code.p, (int)code.n);
		same = n >= 0 && (size_t)n - padding == text.n &&
		       memcmp(bytes, text.p, text.n) == 0 &&
		       EVP_EncodeBlock(again, bytes, (int)text.n) == (int)code.n &&
		       memcmp(again, code.p, code.n) == 0;
	}
	free(bytes);
	free(again);
	return same;
}

bool field_says(struct span value, struct span text)
{
	size_t around = marker.n + marker_end.n;

	if (value.n < around || memcmp(value.p, marker.p, marker.n) != 0 ||
	    memcmp(value.p + value.n - marker_end.n, marker_end.p, marker_end.n) != 0)
		return span_equal(value, text);
	return base64_says((struct span){value.p + marker.n, value.n - around}, text);
}

/* Printable ASCII without space around it, which is no sentinel itself (mcp-wire, 1.5). */
static bool is_plain(struct span text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < 0x20 || text.p[i] > 0x7e)
			return false;
	}
	return text.n == 0 || (text.p[0] != ' ' && text.p[text.n - 1] != ' ' &&
				  (text.n < marker.n || memcmp(text.p, marker.p, marker.n) != 0));
}

static int put_value(struct buffer *out, const char *name, struct span text)
{
	if (is_plain(text))
		return BUFFER_ADD(out, FIELDS_MAX, span_of(name), SPAN(": "), text, SPAN("\r\n"));
	unsigned char *code = malloc(text.n / 3 * 4 + 5);
	if (!code)
		return -ENOMEM;
	EVP_EncodeBlock(code, (const unsigned char *)text.p, (int)text.n);
	int error = buffer_printf(
	    out, FIELDS_MAX, "%s: %s%s%s\r\n", name, marker.p, (char *)code, marker_end.p);
	free(code);
	return error;
}

/* A value of an argument as a header says it: strings without quotes, anything else as it is. */
static int put_param(struct buffer *out, const struct annotation *row, const struct envelope *e)
{
	struct span value = annotation_value(row, e);
	char name[ANNOTATION_NAME_MAX + 16];
	char *plain;

	if (value.n == 0 || value.p[0] == '{' || value.p[0] == '[')
		return 0;
	snprintf(name, sizeof(name), "Mcp-Param-%.*s", (int)row->name.n, row->name.p);
	if (value.p[0] != '"')
		return put_value(out, name, value);
	plain = malloc(value.n + 4);
	if (!plain)
		return -ENOMEM;
	long n = escape_undo((struct span){value.p + 1, value.n - 2}, plain, value.n + 4);
	int error = n < 0 ? 0 : put_value(out, name, (struct span){plain, (size_t)n});
	free(plain);
	return error;
}

int fields_put(struct buffer *out, const struct mcp_method *method, const struct envelope *e,
    const struct annotations *annotations)
{
	const struct span subjects[] = {[SUBJECT_NONE] = {0},
	    [SUBJECT_NAME] = e ? e->name : no_data,
	    [SUBJECT_URI] = e ? e->uri : no_data};
	struct span subject = subjects[method->subject];
	int error = BUFFER_ADD(out, FIELDS_MAX, SPAN("MCP-Protocol-Version: "), revision,
	    SPAN("\r\nMcp-Method: "), method->name, SPAN("\r\n"));

	if (!error && subject.p)
		error = put_value(out, "Mcp-Name", subject);
	for (unsigned i = 0; annotations && i < annotations->count && !error; i++)
		error = put_param(out, &annotations->rows[i], e);
	return error;
}

/* --- checking --- */

static bool is_number(char first)
{
	return first == '-' || (first >= '0' && first <= '9');
}

/* 42.0 is 42 (2026-07-28, streamable HTTP). */
static bool numbers_equal(struct span a, struct span b)
{
	char left[64], right[64], *end;

	if (span_equal(a, b))
		return true;
	if (a.n == 0 || a.n >= sizeof(left) || b.n >= sizeof(right))
		return false;
	memcpy(left, a.p, a.n);
	left[a.n] = '\0';
	memcpy(right, b.p, b.n);
	right[b.n] = '\0';
	if (!is_number(left[0]) || left[strspn(left, "0123456789+-.eE")] != '\0')
		return false;
	double value = strtod(left, &end);
	return *end == '\0' && value == strtod(right, NULL);
}

static bool says_argument(struct span field, struct span value)
{
	char *plain;

	if (is_number(value.p[0]))
		return numbers_equal(field, value);
	if (value.p[0] != '"')
		return span_equal(field, value);
	plain = malloc(value.n + 4);
	if (!plain)
		return false;
	long n = escape_undo((struct span){value.p + 1, value.n - 2}, plain, value.n + 4);
	bool same = n >= 0 && field_says(field, (struct span){plain, (size_t)n});
	free(plain);
	return same;
}

/* The value of Mcp-Param-NAME; p == NULL: there is none. *times: how often it is there. */
static struct span find_param(struct span lines, struct span name, unsigned *times)
{
	static const struct span start = {"mcp-param-", 10};
	struct span found = {0};

	*times = 0;
	while (lines.n > 0) {
		const char *end = memchr(lines.p, '\r', lines.n);
		size_t length = (size_t)(end - lines.p), n = start.n + name.n;
		if (length > n + 1 && lines.p[n] == ':' &&
		    span_equal_nocase((struct span){lines.p, start.n}, start) &&
		    span_equal_nocase((struct span){lines.p + start.n, name.n}, name)) {
			found = (struct span){lines.p + n + 2, length - n - 2};
			*times += 1;
		}
		lines = (struct span){end + 2, lines.n - length - 2};
	}
	return found;
}

const char *fields_check(
    struct span lines, const struct annotations *annotations, const struct envelope *e)
{
	unsigned times;

	for (unsigned i = 0; i < annotations->count; i++) {
		const struct annotation *row = &annotations->rows[i];
		struct span value = annotation_value(row, e);
		struct span field = find_param(lines, row->name, &times);
		if (times > 1)
			return "an Mcp-Param field is there twice";
		if (value.n > 0 && !field.p)
			return "an Mcp-Param field of an argument is missing";
		if (value.n == 0 && field.p)
			return "an Mcp-Param field has no argument";
		if (value.n > 0 && !says_argument(field, value))
			return "an Mcp-Param field is not its argument";
	}
	return NULL;
}
