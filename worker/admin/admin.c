/* admin: see admin.h. One row per page. */
#include "worker/admin/admin.h"

#include "worker/admin/scrape.h"
#include "worker/policy/origin.h"
#include "worker/worker.h"

struct admin_page {
	struct span path;
	void (*serve)(struct conn *c);
};

static void answer_text(struct conn *c, unsigned status, const char *text)
{
	conn_answer(c, status, SPAN("Content-Type: text/plain; charset=utf-8\r\n"), span_of(text));
}

/* This process turns its loop. */
static void serve_health(struct conn *c)
{
	answer_text(c, 200, "ok\n");
}

/* This worker takes clients and reaches the broker. */
static void serve_ready(struct conn *c)
{
	const struct worker *w = c->worker;

	if (!w->accepting)
		answer_text(c, 503, "draining\n");
	else if (!sessions_connected(w->sessions))
		answer_text(c, 503, "the session broker is away\n");
	else
		answer_text(c, 200, "ready\n");
}

static const struct admin_page pages[] = {
    {{"/metrics", 8}, scrape_start},
    {{"/healthz", 8}, serve_health},
    {{"/readyz", 7}, serve_ready},
};

static void handle_head(struct conn *c, const struct http_head *head)
{
	const struct config_listen *listen = c->listener->config;
	const struct http_header *origin = head_find(head, HTTP_ORIGIN);
	const char *query = memchr(head->target.p, '?', head->target.n);
	struct span path = {
	    head->target.p, query ? (size_t)(query - head->target.p) : head->target.n};

	c->page = NULL;
	if (!host_allowed(listen, head->host) ||
	    (origin && !origin_allowed(listen, origin->value))) {
		answer_text(c, 403, "this Host or Origin is not served here\n");
		return;
	}
	if (head->method != HTTP_GET) {
		conn_answer(c, 405, SPAN("Allow: GET\r\n"), (struct span){0});
		return;
	}
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (span_equal(path, pages[i].path))
			c->page = &pages[i];
	}
	if (!c->page)
		answer_text(c, 404, "try /metrics, /healthz or /readyz\n");
}

/* A GET here has no body worth reading. */
static int handle_body(struct conn *c, const char *p, size_t n)
{
	(void)c;
	(void)p;
	(void)n;
	return 0;
}

static void handle_complete(struct conn *c)
{
	const struct admin_page *page = c->page;

	c->scrape = NULL;
	page->serve(c);
}

static void handle_aborted(struct conn *c)
{
	if (c->state == CONN_ANSWERING)
		scrape_leave(c);
}

static bool handle_half_closed(const struct conn *c)
{
	(void)c;
	return false;
}

const struct conn_handler admin_handler = {
    .head = handle_head,
    .body = handle_body,
    .complete = handle_complete,
    .drained = scrape_drained,
    .aborted = handle_aborted,
    .half_closed = handle_half_closed,
};
