/*
 * envelope: see envelope.h.
 *
 * A pushdown scanner with its own small stack. Keys are compared only in the few objects that
 * matter: the message, params, params._meta and result; one table says which member of which of
 * them is wanted, and as what.
 */
#include "common/envelope.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/escape.h"
#include "common/plain.h"
#include "common/utf8.h"

enum { DEPTH_MAX = 256, KEY_MAX = 64 };

enum place { ELSEWHERE, MESSAGE, PARAMS, META, RESULT, PLACE_COUNT };

enum member {
	NO_MEMBER,
	JSONRPC,
	ID,
	METHOD,
	PARAMS_MEMBER,
	RESULT_MEMBER,
	ERROR_MEMBER,
	NAME,
	URI,
	META_MEMBER,
	PROTOCOL_VERSION,
	REQUEST_ID,
	PROGRESS_OF,
	META_VERSION,
	META_CAPABILITIES,
	PROGRESS_TOKEN,
	RESULT_VERSION,
	MEMBER_COUNT,
};

/* Where the members of a place begin; those of the next follow. */
static const uint8_t first_of[PLACE_COUNT + 1] = {
    [MESSAGE] = JSONRPC,
    [PARAMS] = NAME,
    [META] = META_VERSION,
    [RESULT] = RESULT_VERSION,
    [PLACE_COUNT] = MEMBER_COUNT,
};

enum want { WANT_RAW, WANT_TEXT };

static const struct {
	struct span key;
	enum want want;
	size_t offset; /* of its span in struct envelope */
} members[MEMBER_COUNT] = {
    [JSONRPC] = {{"jsonrpc", 7}, WANT_RAW, SIZE_MAX},
    [ID] = {{"id", 2}, WANT_RAW, offsetof(struct envelope, id)},
    [METHOD] = {{"method", 6}, WANT_TEXT, offsetof(struct envelope, method)},
    [PARAMS_MEMBER] = {{"params", 6}, WANT_RAW, offsetof(struct envelope, params)},
    [RESULT_MEMBER] = {{"result", 6}, WANT_RAW, offsetof(struct envelope, result)},
    [ERROR_MEMBER] = {{"error", 5}, WANT_RAW, offsetof(struct envelope, error)},
    [NAME] = {{"name", 4}, WANT_TEXT, offsetof(struct envelope, name)},
    [URI] = {{"uri", 3}, WANT_TEXT, offsetof(struct envelope, uri)},
    [META_MEMBER] = {{"_meta", 5}, WANT_RAW, offsetof(struct envelope, meta)},
    [PROTOCOL_VERSION] = {{"protocolVersion", 15}, WANT_TEXT,
	offsetof(struct envelope, protocol_version)},
    [REQUEST_ID] = {{"requestId", 9}, WANT_RAW, offsetof(struct envelope, cancelled_id)},
    [PROGRESS_OF] = {{"progressToken", 13}, WANT_RAW, offsetof(struct envelope, progress_of)},
    [META_VERSION] = {{"io.modelcontextprotocol/protocolVersion", 39}, WANT_TEXT,
	offsetof(struct envelope, meta_version)},
    [META_CAPABILITIES] = {{"io.modelcontextprotocol/clientCapabilities", 42}, WANT_RAW,
	offsetof(struct envelope, client_capabilities)},
    [PROGRESS_TOKEN] = {{"progressToken", 13}, WANT_RAW, offsetof(struct envelope, progress_token)},
    [RESULT_VERSION] = {{"protocolVersion", 15}, WANT_TEXT,
	offsetof(struct envelope, protocol_version)},
};

struct frame {
	const char *start;
	bool object;
	uint8_t place;
	uint8_t member; /* of the parent: what this container is */
};

struct scan {
	const char *start, *p, *end;
	const char *pause;   /* -EAGAIN there, or a little behind it; `end`: never */
	const char *message; /* where it begins; NULL: not there yet */
	const char *string;  /* the inside of the one that p is in, or NULL */
	bool escaped;        /* that one has escapes */
	bool key_next;       /* a key and its colon, or what is left of them, and then a value */
	enum member member;  /* what that value is */
	unsigned depth, limit;
	struct envelope *out;
	struct envelope_fault *fault;
	uint32_t seen; /* one bit per enum member */
	bool version_ok;
	struct frame stack[DEPTH_MAX];
};

static int fail(struct scan *s, int code, const char *reason)
{
	*s->fault = (struct envelope_fault){code, reason, (size_t)(s->p - s->start)};
	return -EINVAL;
}

static int not_json(struct scan *s, const char *reason)
{
	return fail(s, -32700, reason);
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static int scan_escape(struct scan *s)
{
	static const char simple[] = "\"\\/bfnrt";

	if (++s->p == s->end)
		return not_json(s, "unterminated string");
	if (*s->p != 'u') {
		if (*s->p == '\0' || !strchr(simple, *s->p))
			return not_json(s, "unknown escape in a string");
		s->p++;
		return 0;
	}
	s->p++;
	for (int i = 0; i < 4; i++, s->p++) {
		if (s->p == s->end || !isxdigit((unsigned char)*s->p))
			return not_json(s, "malformed \\u escape");
	}
	return 0;
}

/* s->p is within the string; afterwards behind its closing quote. `out` gets the raw inside. */
static int scan_string(struct scan *s, struct span *out)
{
	int error;

	for (;;) {
		if (s->p < s->pause)
			s->p += plain_length(s->p, (size_t)(s->pause - s->p), PLAIN_STRING);
		if (s->p >= s->pause)
			return s->p == s->end ? not_json(s, "unterminated string") : -EAGAIN;
		unsigned char c = (unsigned char)*s->p;
		if (c == '"') {
			*out = (struct span){s->string, (size_t)(s->p++ - s->string)};
			s->string = NULL;
			return 0;
		}
		if (c == '\\') {
			s->escaped = true;
			if ((error = scan_escape(s)))
				return error;
		} else if (c < 0x20) {
			return not_json(s, "control character in a string");
		} else {
			size_t n =
			    utf8_length((const unsigned char *)s->p, (size_t)(s->end - s->p));
			if (n == 0)
				return not_json(s, "invalid UTF-8");
			s->p += n;
		}
	}
}

static void open_string(struct scan *s)
{
	s->string = ++s->p;
	s->escaped = false;
}

static size_t digits(struct scan *s)
{
	const char *start = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - start);
}

/* RFC 8259, 6. */
static int scan_number(struct scan *s)
{
	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (digits(s) == 0)
		return not_json(s, "malformed number");
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (digits(s) == 0)
			return not_json(s, "malformed number");
	}
	if (s->p < s->end && (*s->p | 0x20) == 'e') {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (digits(s) == 0)
			return not_json(s, "malformed number");
	}
	return 0;
}

static int scan_literal(struct scan *s)
{
	static const struct span literals[] = {{"true", 4}, {"false", 5}, {"null", 4}};

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		if ((size_t)(s->end - s->p) >= literals[i].n &&
		    memcmp(s->p, literals[i].p, literals[i].n) == 0) {
			s->p += literals[i].n;
			return 0;
		}
	}
	return not_json(s, "unexpected character");
}

/* Which wanted member a key of this place is. */
static enum member find_member(enum place place, struct span key, bool escaped)
{
	char text[KEY_MAX];

	if (place == ELSEWHERE)
		return NO_MEMBER;
	if (escaped) {
		long n = escape_undo(key, text, sizeof(text));
		if (n < 0)
			return NO_MEMBER;
		key = (struct span){text, (size_t)n};
	}
	for (int m = first_of[place]; m < first_of[place + 1]; m++) {
		if (span_equal(members[m].key, key))
			return (enum member)m;
	}
	return NO_MEMBER;
}

static struct span *member_span(struct envelope *out, enum member m)
{
	return (struct span *)(void *)((char *)out + members[m].offset);
}

/* A wanted string whose escapes must be undone. */
static int keep_unescaped(struct scan *s, struct span raw, struct span *out)
{
	struct envelope *e = s->out;
	char *at = e->unescaped + e->unescaped_length;
	long n = escape_undo(raw, at, sizeof(e->unescaped) - e->unescaped_length);

	if (n < 0)
		return fail(s, -32600, "a name is too long or holds half a surrogate pair");
	e->unescaped_length += (size_t)n;
	*out = (struct span){at, (size_t)n};
	return 0;
}

/* The scalar or container `raw` is the value of member `m`. `text` is the inside of a string, else
 * NULL. */
static int keep_member(
    struct scan *s, enum member m, struct span raw, const struct span *text, bool escaped)
{
	if (m == NO_MEMBER)
		return 0;
	if (m == JSONRPC) {
		s->version_ok = text && !escaped && span_equal(*text, SPAN("2.0"));
		return 0;
	}
	if (m == PARAMS_MEMBER && raw.p[0] != '{')
		return fail(s, -32600, "params is not an object");
	if (m == META_MEMBER && raw.p[0] != '{')
		return fail(s, -32600, "_meta is not an object");
	if (members[m].want == WANT_RAW) {
		*member_span(s->out, m) = raw;
		return 0;
	}
	if (!text)
		return m == METHOD ? fail(s, -32600, "method is not a string") : 0;
	if (escaped)
		return keep_unescaped(s, *text, member_span(s->out, m));
	*member_span(s->out, m) = *text;
	return 0;
}

static enum place place_of(enum member m)
{
	switch (m) {
	case PARAMS_MEMBER:
		return PARAMS;
	case META_MEMBER:
		return META;
	case RESULT_MEMBER:
		return RESULT;
	default:
		return ELSEWHERE;
	}
}

static int open_container(struct scan *s, enum member m)
{
	bool object = *s->p == '{';
	enum place place = object ? place_of(m) : ELSEWHERE;

	if (s->depth == s->limit)
		return fail(s, -32600, "nested too deeply");
	if (s->depth == 0 && object)
		place = MESSAGE;
	s->stack[s->depth++] = (struct frame){s->p, object, (uint8_t)place, (uint8_t)m};
	s->p++;
	return 0;
}

/* A key and its colon, or what is left of them; the next thing is the value of *m. */
static int scan_key(struct scan *s, enum member *m)
{
	struct span key;

	if (!s->string) {
		skip_space(s);
		if (s->p == s->end || *s->p != '"')
			return not_json(s, "a key is expected");
		open_string(s);
	}
	int error = scan_string(s, &key);
	if (error)
		return error;
	*m = find_member((enum place)s->stack[s->depth - 1].place, key, s->escaped);
	if (*m != NO_MEMBER && (s->seen & 1u << *m))
		return fail(s, -32600, "duplicate key");
	s->seen |= 1u << *m;
	skip_space(s);
	if (s->p == s->end || *s->p != ':')
		return not_json(s, "a colon is expected");
	s->p++;
	return 0;
}

static int scan_text(struct scan *s, enum member m)
{
	struct span text;

	if (!s->string)
		open_string(s);
	int error = scan_string(s, &text);
	if (error)
		return error;
	struct span raw = {text.p - 1, text.n + 2};
	if (raw.n >= RAW_LONG)
		raw_index_note(&s->out->index, raw);
	return keep_member(s, m, raw, &text, s->escaped);
}

static int scan_scalar(struct scan *s, enum member m)
{
	const char *start = s->p;

	if (s->string || *s->p == '"')
		return scan_text(s, m);
	bool is_number = *s->p == '-' || (*s->p >= '0' && *s->p <= '9');
	int error = is_number ? scan_number(s) : scan_literal(s);
	if (error)
		return error;
	return keep_member(s, m, (struct span){start, (size_t)(s->p - start)}, NULL, false);
}

/* After a value: close what is closed here. *more: a comma came, so that another value follows. */
static int scan_after_value(struct scan *s, bool *more)
{
	*more = false;
	while (s->depth > 0) {
		struct frame *f = &s->stack[s->depth - 1];
		skip_space(s);
		if (s->p == s->end)
			return not_json(s, "unexpected end");
		if (*s->p == ',') {
			s->p++;
			*more = true;
			return 0;
		}
		if (*s->p != (f->object ? '}' : ']'))
			return not_json(
			    s, f->object ? "a comma or } is expected" : "a comma or ] is expected");
		s->p++;
		s->depth--;
		struct span raw = {f->start, (size_t)(s->p - f->start)};
		if (raw.n >= RAW_LONG)
			raw_index_note(&s->out->index, raw);
		int error = keep_member(s, (enum member)f->member, raw, NULL, false);
		if (error)
			return error;
	}
	return 0;
}

/* One JSON value, to its end or to the pause. */
static int scan_value(struct scan *s)
{
	enum member m = s->member;
	bool more, key = s->key_next;
	int error;

	for (;;) {
		if (key && (error = scan_key(s, &m)))
			break;
		key = false;
		if (!s->string)
			skip_space(s);
		if (s->p >= s->pause) {
			error = s->p == s->end ? not_json(s, "unexpected end") : -EAGAIN;
			break;
		}
		if (!s->string && (*s->p == '{' || *s->p == '[')) {
			if ((error = open_container(s, m)))
				return error;
			struct frame *f = &s->stack[s->depth - 1];
			skip_space(s);
			bool empty = s->p < s->end && *s->p == (f->object ? '}' : ']');
			m = NO_MEMBER;
			if (!empty) {
				key = f->object;
				continue;
			}
		} else if ((error = scan_scalar(s, m))) {
			break;
		}
		m = NO_MEMBER;
		if ((error = scan_after_value(s, &more)) || !more)
			return error;
		key = s->stack[s->depth - 1].object;
	}
	s->member = m;
	s->key_next = key;
	return error;
}

/* An id is a string or an integer (MCP, basic). */
static bool is_valid_id(struct span id)
{
	if (id.p[0] == '"')
		return true;
	size_t i = id.p[0] == '-';
	while (i < id.n && id.p[i] >= '0' && id.p[i] <= '9')
		i++;
	return i == id.n && id.n > (size_t)(id.p[0] == '-');
}

/* The JSON is fine: is it a JSON-RPC message, and which kind? */
static int judge(struct scan *s)
{
	struct envelope *e = s->out;
	bool null_id = e->id.p && span_equal(e->id, SPAN("null"));
	bool valid_id = e->id.p && is_valid_id(e->id);

	if (!s->version_ok)
		return fail(s, -32600, "jsonrpc is not \"2.0\"");
	if (e->id.p && !valid_id && !(null_id && e->error.p))
		return fail(s, -32600, "id is neither a string nor an integer");
	if (e->method.p) {
		if (e->result.p || e->error.p)
			return fail(s, -32600, "a method together with a result or an error");
		e->kind = e->id.p ? ENVELOPE_REQUEST : ENVELOPE_NOTIFICATION;
		return 0;
	}
	if ((e->result.p != NULL) == (e->error.p != NULL))
		return fail(s, -32600, "neither a request nor a response");
	if (e->result.p && !e->id.p)
		return fail(s, -32600, "a result without an id");
	if (e->error.p && e->error.p[0] != '{')
		return fail(s, -32600, "error is not an object");
	e->kind = e->result.p ? ENVELOPE_RESULT : ENVELOPE_ERROR;
	return 0;
}

static void scan_start(struct scan *s, struct span text, unsigned depth, struct envelope *out,
    struct envelope_fault *fault)
{
	/* The stack is written before it is read; clearing it would cost more than a scan. */
	s->start = s->p = text.p;
	s->end = s->pause = text.p + text.n;
	s->message = s->string = NULL;
	s->key_next = false;
	s->member = NO_MEMBER;
	s->depth = 0;
	s->limit = depth < DEPTH_MAX ? depth : DEPTH_MAX;
	s->out = out;
	s->fault = fault;
	s->seen = 0;
	s->version_ok = false;
	out->unescaped_length = 0;
	out->index.count = 0;
	memset(out, 0, offsetof(struct envelope, unescaped));
}

/* One message at s->p, or what is left of it. */
static int scan_message(struct scan *s)
{
	if (!s->message) {
		skip_space(s);
		s->message = s->p;
	}
	int error = scan_value(s);
	if (error == -EAGAIN)
		return error;
	if (!error && *s->message != '{')
		return fail(s, -32600, "a message is an object");
	if (!error) {
		s->out->text = (struct span){s->message, (size_t)(s->p - s->message)};
		error = judge(s);
	}
	if (error && s->out->id.p && !is_valid_id(s->out->id))
		s->out->id = (struct span){0};
	return error;
}

/* The text as one message, or what is left of it. */
static int scan_whole(struct scan *s)
{
	if (!s->message) {
		skip_space(s);
		if (s->p < s->end && *s->p == '[') {
			fail(s, -32600, "a batch");
			return -E2BIG;
		}
	}
	int error = scan_message(s);
	if (error)
		return error;
	skip_space(s);
	return s->p == s->end ? 0 : not_json(s, "something follows the message");
}

int envelope_scan(
    struct span text, unsigned depth, struct envelope *out, struct envelope_fault *fault)
{
	struct scan s;

	scan_start(&s, text, depth, out, fault);
	return scan_whole(&s);
}

struct span envelope_member(const struct envelope *e, struct span object, const char *key)
{
	const char *const keys[] = {key, NULL};
	struct span value;

	raw_members_in(&e->index, object, keys, &value);
	return value;
}

struct envelope_steps {
	struct scan scan;
	struct envelope found;
	struct envelope_fault fault;
	bool within; /* a batch */
};

struct envelope_steps *envelope_steps_begin(struct span text, unsigned depth)
{
	struct envelope_steps *steps = malloc(sizeof(*steps));

	if (steps) {
		scan_start(&steps->scan, text, depth, &steps->found, &steps->fault);
		steps->within = false;
	}
	return steps;
}

static const char *pause_after(const struct scan *s, size_t bytes)
{
	size_t left = (size_t)(s->end - s->p);

	return s->p + (left < bytes ? left : bytes);
}

int envelope_step(
    struct envelope_steps *steps, size_t bytes, struct envelope *out, struct envelope_fault *fault)
{
	struct scan *s = &steps->scan;

	s->pause = pause_after(s, bytes);
	int error = scan_whole(s);
	if (error == -EAGAIN)
		return error;
	envelope_steps_found(steps, out);
	*fault = steps->fault;
	return error;
}

void envelope_steps_found(const struct envelope_steps *steps, struct envelope *out)
{
	*out = steps->found;
}

void envelope_steps_free(struct envelope_steps *steps)
{
	free(steps);
}

static int open_batch(struct scan *s)
{
	skip_space(s);
	if (s->p == s->end || *s->p != '[')
		return not_json(s, "an array is expected");
	s->p++;
	skip_space(s);
	return s->p < s->end && *s->p == ']' ? fail(s, -32600, "an empty batch") : 0;
}

/* The next message of a batch begins at s->p. */
static void scan_next(struct scan *s)
{
	const char *start = s->start;

	scan_start(s, (struct span){s->p, (size_t)(s->end - s->p)}, s->limit, s->out, s->fault);
	s->start = start;
}

int envelope_batch_step(struct envelope_steps *steps, size_t bytes,
    int (*each)(void *context, const struct envelope *message), void *context,
    struct envelope_fault *fault)
{
	struct scan *s = &steps->scan;
	int error;

	s->fault = fault;
	error = steps->within ? 0 : open_batch(s);
	steps->within = true;
	while (!error) {
		const char *begin = s->p;
		s->pause = pause_after(s, bytes);
		if ((error = scan_message(s)) || (error = each(context, &steps->found)))
			break;
		skip_space(s);
		if (s->p == s->end || (*s->p != ',' && *s->p != ']')) {
			error = not_json(s, "a comma or ] is expected");
		} else if (*s->p++ == ']') {
			skip_space(s);
			if (s->p == s->end)
				return 0;
			error = not_json(s, "something follows the batch");
		} else {
			size_t used = (size_t)(s->p - begin) + ENVELOPE_MESSAGE_COST;
			scan_next(s);
			bytes -= used < bytes ? used : bytes;
			error = bytes == 0 ? -EAGAIN : 0;
		}
	}
	return error;
}

int envelope_batch(struct span text, unsigned depth,
    int (*each)(void *context, const struct envelope *message), void *context,
    struct envelope_fault *fault)
{
	struct envelope_steps steps;

	steps.within = false;
	scan_start(&steps.scan, text, depth, &steps.found, &steps.fault);
	return envelope_batch_step(&steps, SIZE_MAX, each, context, fault);
}
