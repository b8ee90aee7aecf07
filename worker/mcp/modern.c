/* modern: see modern.h. */
#include "worker/mcp/modern.h"

#include <errno.h>
#include <stdlib.h>

#include "common/compose.h"
#include "common/raw.h"
#include "worker/mcp/cache.h"
#include "worker/mcp/catalogue.h"
#include "worker/mcp/down.h"
#include "worker/mcp/era.h"
#include "worker/mcp/fields.h"
#include "worker/route.h"

static const struct span no_data = {0};
static const struct span revision = {MCP_STATELESS, sizeof(MCP_STATELESS) - 1};

/* --- fields
 * ----------------------------------------------------------------------------------------- */

static int add_line(struct exchange *x, struct span name, struct span value)
{
	return BUFFER_ADD(&x->fields, x->worker->config->limits.header_size, name, SPAN(": "),
	    value, SPAN("\r\n"));
}

int modern_head(struct exchange *x, const struct http_head *head)
{
	static const struct span params = {"mcp-param-", 10};
	const struct http_header *method = head_find(head, HTTP_MCP_METHOD);
	const struct http_header *name = head_find(head, HTTP_MCP_NAME);
	int error = 0;

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

/* What is wrong with the fields that repeat the body; NULL: nothing. */
static const char *check_fields(const struct exchange *x, const struct envelope *e)
{
	const struct span subjects[] = {
	    [SUBJECT_NONE] = {0}, [SUBJECT_NAME] = e->name, [SUBJECT_URI] = e->uri};
	struct span method = field(x, "Mcp-Method"), name = field(x, "Mcp-Name");
	struct span subject = subjects[x->method->subject];

	/* A client that has no headers: they are written here (mcp-wire, 3.1). */
	if (x->conn->listener->inner)
		return NULL;
	if (!span_equal(span_of(x->version), e->meta_version))
		return "MCP-Protocol-Version is missing or not that of params._meta";
	if (!method.p && x->is_request)
		return "Mcp-Method is missing";
	if (method.p && !span_equal(method, e->method))
		return "Mcp-Method is not the body's method";
	if (x->method->subject != SUBJECT_NONE && !name.p)
		return "Mcp-Name is missing";
	if (x->method->subject != SUBJECT_NONE && !field_says(name, subject))
		return "Mcp-Name is not the body's name or uri";
	return NULL;
}

/* --- answers
 * ---------------------------------------------------------------------------------------- */

unsigned modern_status(struct span response)
{
	static const struct {
		struct span code;
		unsigned status;
	} rows[] = {{{"-32601", 6}, 404}, {{"-32020", 6}, 400}, {{"-32021", 6}, 400},
	    {{"-32022", 6}, 400}, {{"-32600", 6}, 400}, {{"-32700", 6}, 400}};
	static const char *const either[] = {"result", "error", NULL};
	struct span error, code;

	/* A result may be long, and nothing in it is needed. */
	if (raw_first(response, either) != 1 || !raw_member(response, "error", &error) ||
	    !raw_member(error, "code", &code))
		return 200;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (span_equal(code, rows[i].code))
			return rows[i].status;
	}
	return 200;
}

/* --- admission
 * -------------------------------------------------------------------------------------- */

/* With the versions that server/discover names. */
static void refuse_version(struct exchange *x, struct span requested)
{
	struct buffer data = {0};
	struct compose c = {.out = &data, .bound = x->worker->config->limits.header_size + 256};

	compose_open(&c, '{');
	compose_raw(&c, SPAN("\"supported\":[\"" MCP_STATELESS "\"],"));
	compose_text(&c, "requested", requested);
	compose_close(&c, '}');
	exchange_refuse(x, REPLY_MODERN_VERSION, NULL, c.error ? no_data : buffer_span(&data));
	buffer_release(&data);
}

/* True when the answer is known and was given. */
static bool give_cached(struct exchange *x)
{
	struct worker *w = x->worker;
	struct upstream *u = x->route->upstream;
	const struct envelope *e;
	struct buffer body = {0};
	struct compose key = {.out = &x->cache_key, .bound = w->config->limits.body_size * 2},
		       c = {.out = &body, .bound = w->config->cache.size};

	if (!x->is_request || !x->method->cacheable || w->config->cache.size == 0 ||
	    !(e = exchange_message(x)))
		return false;
	cache_key(&key, u, e, e->client_capabilities);
	if (key.error)
		buffer_release(&x->cache_key);
	translate_begin(&c, x->id);
	compose_key(&c, "result");
	bool found = cache_get(w->cache, buffer_span(&x->cache_key), &c) && !c.error;
	compose_close(&c, '}');
	if (found && !c.error) {
		METRIC_ADD(w->metrics, CACHE_HITS, 1, u->metrics_id);
		buffer_release(&x->cache_key);
		relay_answer(x, 200, buffer_span(&body), no_data);
	} else {
		METRIC_ADD(w->metrics, CACHE_MISSES, 1, u->metrics_id);
	}
	buffer_release(&body);
	return found && !c.error;
}

/* The fields that repeat the body, as they came or as they should have. 0, -ENOMEM or -EMSGSIZE. */
static int forward_fields(struct exchange *x)
{
	struct span fields = buffer_span(&x->fields);
	size_t bound = 2 * x->worker->config->limits.header_size;
	const struct envelope *e;

	if (!x->conn->listener->inner)
		return BUFFER_ADD(&x->forward, bound, SPAN("MCP-Protocol-Version: "),
		    span_of(x->version), SPAN("\r\n"), fields);
	if (!(e = exchange_message(x)))
		return -ENOMEM;
	return fields_put(&x->forward, x->method, e,
	    x->class == METRIC_METHOD_TOOLS_CALL ? catalogue_find(x->route->upstream, e->name)
						 : NULL);
}

static void pass_on(struct exchange *x)
{
	if (give_cached(x))
		return;
	if (forward_fields(x))
		exchange_refuse(x, REPLY_NO_MEMORY, NULL, no_data);
	else
		relay_start(x, NULL);
}

/* Its fields are those that the tool wants: on to the upstream. */
static void go_on(struct exchange *x)
{
	if (x->upstream_era == ERA_MODERN)
		pass_on(x);
	else
		down_start(x);
}

static void check_params(struct exchange *x)
{
	const struct envelope *e;
	const struct annotations *annotations = NULL;
	const char *wrong = NULL;

	if (catalogue_has_any(x->route->upstream) && (e = exchange_message(x)))
		annotations = catalogue_find(x->route->upstream, e->name);
	if (annotations && !x->conn->listener->inner)
		wrong = fields_check(buffer_span(&x->fields), annotations, e);
	if (wrong)
		exchange_refuse(x, REPLY_MODERN_HEADER, wrong, no_data);
	else
		go_on(x);
}

static void on_catalogue(struct catalogue_wait *wait)
{
	check_params(container_of(wait, struct exchange, catalogue));
}

static void with_era(struct exchange *x, enum era era)
{
	x->upstream_era = era;
	x->catalogue.done = on_catalogue;
	if (!x->is_request || x->class != METRIC_METHOD_TOOLS_CALL)
		go_on(x);
	else if (catalogue_ready(x->route->upstream, era, &x->catalogue))
		check_params(x);
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
