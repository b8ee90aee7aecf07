/* modern: see modern.h. */
#include "worker/mcp/modern.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "common/compose.h"
#include "worker/mcp/down.h"
#include "worker/mcp/era.h"
#include "worker/route.h"

enum { FIELDS_MAX = 64 * 1024 };

static const struct span no_data = {0};
static const struct span revision = {"2026-07-28", 10};
static const struct span marker = {"=?base64?", 9}, marker_end = {"?=", 2};

/* --- fields
 * ----------------------------------------------------------------------------------------- */

static int add_line(struct exchange *x, struct span name, struct span value)
{
	return buffer_printf(&x->fields, x->worker->config->limits.header_size, "%.*s: %.*s\r\n",
	    (int)name.n, name.p, (int)value.n, value.p);
}

int modern_head(struct exchange *x, const struct http_head *head)
{
	static const struct span params = {"mcp-param-", 10};
	unsigned methods = 0, names = 0;
	const struct http_header *method = head_find(head, SPAN("mcp-method"), &methods);
	const struct http_header *name = head_find(head, SPAN("mcp-name"), &names);
	int error = 0;

	/* Two of a kind could mean one thing here and another there. */
	x->fields_repeated = methods > 1 || names > 1;
	if (method)
		error = add_line(x, SPAN("Mcp-Method"), method->value);
	if (!error && name)
		error = add_line(x, SPAN("Mcp-Name"), name->value);
	for (unsigned i = 0; i < head->header_count && !error; i++) {
		const struct http_header *h = &head->headers[i];
		if (h->name.n > params.n &&
		    span_equal_nocase((struct span){h->name.p, params.n}, params))
			error = add_line(x, h->name, h->value);
	}
	return error;
}

/* The value that modern_head kept under a name; p == NULL: there is none. */
static struct span field(const struct exchange *x, const char *name)
{
	struct span lines = buffer_span(&x->fields);
	size_t n = strlen(name);

	while (lines.n > 0) {
		const char *end = memchr(lines.p, '\r', lines.n);
		size_t length = (size_t)(end - lines.p);
		if (length > n + 1 && memcmp(lines.p, name, n) == 0 && lines.p[n] == ':')
			return (struct span){lines.p + n + 2, length - n - 2};
		lines = (struct span){end + 2, lines.n - length - 2};
	}
	return (struct span){0};
}

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

bool modern_value_says(struct span value, struct span text)
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
		return buffer_printf(out, FIELDS_MAX, "%s: %.*s\r\n", name, (int)text.n, text.p);
	unsigned char *code = malloc(text.n / 3 * 4 + 5);
	if (!code)
		return -ENOMEM;
	EVP_EncodeBlock(code, (const unsigned char *)text.p, (int)text.n);
	int error = buffer_printf(
	    out, FIELDS_MAX, "%s: %s%s%s\r\n", name, marker.p, (char *)code, marker_end.p);
	free(code);
	return error;
}

int modern_put_fields(struct buffer *out, const struct mcp_method *method, const struct envelope *e)
{
	const struct span subjects[] = {[SUBJECT_NONE] = {0},
	    [SUBJECT_NAME] = e ? e->name : no_data,
	    [SUBJECT_URI] = e ? e->uri : no_data};
	struct span subject = subjects[method->subject];
	int error =
	    buffer_printf(out, FIELDS_MAX, "MCP-Protocol-Version: %.*s\r\nMcp-Method: %.*s\r\n",
		(int)revision.n, revision.p, (int)method->name.n, method->name.p);

	return error || !subject.p ? error : put_value(out, "Mcp-Name", subject);
}

/* What is wrong with the fields that repeat the body; NULL: nothing. */
static const char *check_fields(const struct exchange *x, const struct envelope *e)
{
	const struct span subjects[] = {
	    [SUBJECT_NONE] = {0}, [SUBJECT_NAME] = e->name, [SUBJECT_URI] = e->uri};
	struct span method = field(x, "Mcp-Method"), name = field(x, "Mcp-Name");
	struct span subject = subjects[x->method->subject];

	if (x->fields_repeated)
		return "Mcp-Method or Mcp-Name is there twice";
	if (!span_equal(span_of(x->version), e->meta_version))
		return "MCP-Protocol-Version is missing or not that of params._meta";
	if (!method.p && x->is_request)
		return "Mcp-Method is missing";
	if (method.p && !span_equal(method, e->method))
		return "Mcp-Method is not the body's method";
	if (x->method->subject != SUBJECT_NONE && !name.p)
		return "Mcp-Name is missing";
	if (x->method->subject != SUBJECT_NONE && !modern_value_says(name, subject))
		return "Mcp-Name is not the body's name or uri";
	return NULL;
}

/* --- admission
 * -------------------------------------------------------------------------------------- */

/* With the versions that server/discover names. */
static void refuse_version(struct exchange *x, struct span requested)
{
	struct buffer data = {0};
	struct compose c = {.out = &data, .bound = x->worker->config->limits.header_size + 256};

	compose_open(&c, '{');
	compose_raw(&c, SPAN("\"supported\":[\"2026-07-28\"],"));
	compose_text(&c, "requested", requested);
	compose_close(&c, '}');
	exchange_refuse(x, REPLY_MODERN_VERSION, NULL, c.error ? no_data : buffer_span(&data));
	buffer_release(&data);
}

static void pass_on(struct exchange *x)
{
	struct span fields = buffer_span(&x->fields);
	size_t bound = 2 * x->worker->config->limits.header_size;

	if (buffer_printf(&x->forward, bound, "MCP-Protocol-Version: %s\r\n", x->version) ||
	    buffer_append(&x->forward, fields.p, fields.n, bound))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, no_data);
	else
		relay_start(x, NULL);
}

static void with_era(struct exchange *x, enum era era)
{
	if (era == ERA_LEGACY)
		down_start(x);
	else
		pass_on(x);
}

static void on_era(struct era_wait *wait, enum era era, int reason, const char *detail)
{
	struct exchange *x = container_of(wait, struct exchange, era);

	if (era == ERA_UNKNOWN)
		exchange_upstream_failed(x, reason, detail);
	else
		with_era(x, era);
}

static void need_era(struct exchange *x)
{
	struct upstream *u = x->route->upstream;
	enum era era = era_of(u);

	x->era.done = on_era;
	if (era != ERA_UNKNOWN)
		with_era(x, era);
	else if (!era_ask(u, &x->era))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, no_data);
}

bool modern_admit(struct exchange *x, const struct envelope *e)
{
	const char *wrong;

	if (!mcp_version_is_modern(span_of(x->version)) && !e->meta_version.p)
		return false;
	x->modern = true;
	x->is_initialize = false;
	x->has_capabilities = e->client_capabilities.p && e->client_capabilities.p[0] == '{';
	if (e->kind == ENVELOPE_RESULT || e->kind == ENVELOPE_ERROR)
		exchange_refuse(
		    x, REPLY_INVALID, "clients send no responses in this revision", no_data);
	else if (!e->meta_version.p)
		exchange_refuse(x, REPLY_MODERN_META, NULL, no_data);
	else if ((wrong = check_fields(x, e)))
		exchange_refuse(x, REPLY_MODERN_HEADER, wrong, no_data);
	else if (!span_equal(e->meta_version, revision))
		refuse_version(x, e->meta_version);
	else if (x->is_request && !x->has_capabilities)
		exchange_refuse(x, REPLY_MODERN_CAPABILITIES, NULL, no_data);
	else if (x->is_request && !(x->method->eras & METHOD_MODERN))
		exchange_refuse(x, REPLY_MODERN_METHOD, x->method_name, no_data);
	else
		need_era(x);
	return true;
}
