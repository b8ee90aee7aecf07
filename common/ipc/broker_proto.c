/* broker_proto: see broker_proto.h. One format for the wire, the journal and the reap. */
#include "common/ipc/broker_proto.h"

#include <string.h>

void session_record_put(struct wire_writer *w, const struct session_record *record)
{
	wire_put_bytes(w, record->id.bytes, sizeof(record->id.bytes));
	wire_put_u8(w, record->version);
	wire_put_u32(w, record->idle_timeout);
	wire_put_u32(w, record->changes);
	wire_put_string(w, span_of(record->route));
	wire_put_string(w, span_of(record->upstream));
	wire_put_string(w, span_of(record->upstream_session));
	wire_put_string(w, record->state);
}

/* Copy a string into an array with its NUL; too long or with a NUL inside is an error. */
static void record_string(struct wire_reader *r, char *out, size_t size)
{
	struct span string = wire_get_string(r);

	if (string.n >= size || memchr(string.p, '\0', string.n)) {
		r->error = true;
		string.n = 0;
	}
	memcpy(out, string.p, string.n);
	out[string.n] = '\0';
}

bool session_record_get(struct wire_reader *r, struct session_record *out)
{
	wire_get_bytes(r, out->id.bytes, sizeof(out->id.bytes));
	out->version = wire_get_u8(r);
	out->idle_timeout = wire_get_u32(r);
	out->changes = wire_get_u32(r);
	record_string(r, out->route, sizeof(out->route));
	record_string(r, out->upstream, sizeof(out->upstream));
	record_string(r, out->upstream_session, sizeof(out->upstream_session));
	out->state = wire_get_string(r);
	if (out->state.n > SESSION_STATE_MAX)
		r->error = true;
	return !r->error;
}
