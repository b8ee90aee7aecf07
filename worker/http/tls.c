/* tls: see tls.h. */
#include "worker/http/tls.h"

#include <errno.h>
#include <ev.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "common/certificate.h"

enum {
	TLS_RECORD = 16384, /* bytes in the longest record */
	TLS_RECORDS = 16,   /* read or written by one call */
};

struct tls_server {
	SSL_CTX *context;
};

struct tls {
	SSL *ssl;
	enum tls_stage stage;
	unsigned long fault; /* of OpenSSL; 0: the client is gone */
	bool more;
	bool read_waits_for_write, write_waits_for_read;
};

/* --- the server
 * ---------------------------------------------------------------------------------------- */

/* HTTP/1.1, or nothing agreed upon; who offers only others must not go on (RFC 7301, 3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *length,
    const unsigned char *offered, unsigned offered_length, void *context)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)context;
	if (SSL_select_next_proto(&chosen, length, ours, sizeof(ours) - 1, offered,
		offered_length) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static bool configure(SSL_CTX *context)
{
	/* The system's openssl.cnf may ask for more. */
	if (SSL_CTX_get_min_proto_version(context) < TLS1_2_VERSION &&
	    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
		return false;
	/* A client that leaves without close_notify cuts nothing short: HTTP says where it ends. */
	SSL_CTX_set_options(
	    context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_num_tickets(context, 0);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* Idle connections hold no buffers; what is sent again may have moved to a queue. */
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(context, 1);
	SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
	return SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1;
}

int tls_server_open(const struct config_tls *config, struct tls_server **out)
{
	struct tls_server *s = calloc(1, sizeof(*s));
	int error = -EINVAL;

	if (!s || !(s->context = SSL_CTX_new(TLS_server_method())))
		error = -ENOMEM;
	else if (configure(s->context) && config->certificate && config->key &&
		 certificate_use(s->context, config->certificate, config->key) == CERTIFICATE_GOOD)
		error = 0;
	ERR_clear_error();
	if (error)
		tls_server_close(s);
	else
		*out = s;
	return error;
}

void tls_server_close(struct tls_server *s)
{
	if (s)
		SSL_CTX_free(s->context);
	free(s);
}

/* --- a connection
 * -------------------------------------------------------------------------------------- */

struct tls *tls_open(struct tls_server *s, int fd)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (t && (!(t->ssl = SSL_new(s->context)) || SSL_set_fd(t->ssl, fd) != 1)) {
		tls_free(t);
		t = NULL;
	}
	ERR_clear_error();
	if (t)
		SSL_set_accept_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (t)
		SSL_free(t->ssl);
	free(t);
}

static bool is_plain_http(unsigned long fault)
{
	return ERR_GET_LIB(fault) == ERR_LIB_SSL &&
	       (ERR_GET_REASON(fault) == SSL_R_HTTP_REQUEST ||
		   ERR_GET_REASON(fault) == SSL_R_HTTPS_PROXY_REQUEST);
}

/* Nothing can be read or written any more. `fault`: what OpenSSL says, 0: the client is gone. */
static void fail(struct tls *t, unsigned long fault)
{
	bool silent = BIO_number_read(SSL_get_rbio(t->ssl)) == 0;

	t->fault = fault;
	if (t->stage == TLS_HANDSHAKE && is_plain_http(fault))
		t->stage = TLS_NOT_TLS;
	else if (t->stage == TLS_HANDSHAKE && fault == 0 && silent)
		t->stage = TLS_UNUSED;
	else
		t->stage = TLS_FAILED;
}

/* What a call that moved nothing means: 0 at the end of the stream, else -1 with errno. `waits`:
 * set when it waits for the other direction. */
static ssize_t outcome(struct tls *t, int done, int other, bool *waits)
{
	int saved = errno, error = SSL_get_error(t->ssl, done);

	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
		*waits = error == other;
		errno = EAGAIN;
		return -1;
	}
	if (error == SSL_ERROR_ZERO_RETURN && t->stage == TLS_OPEN)
		return 0;
	fail(t, error == SSL_ERROR_SSL ? ERR_peek_error() : 0);
	ERR_clear_error();
	errno = error == SSL_ERROR_SYSCALL && saved != 0 && saved != EAGAIN ? saved : EPROTO;
	return -1;
}

ssize_t tls_read(struct tls *t, char *p, size_t n)
{
	size_t used = 0, got;

	t->more = false;
	t->read_waits_for_write = false;
	for (int records = 0; t->stage <= TLS_OPEN && records < TLS_RECORDS && used < n;
	     records++) {
		ERR_clear_error();
		errno = 0;
		int done = SSL_read_ex(t->ssl, p + used, n - used, &got);
		if (t->stage == TLS_HANDSHAKE && SSL_is_init_finished(t->ssl))
			t->stage = TLS_OPEN;
		if (done != 1) {
			ssize_t result =
			    outcome(t, done, SSL_ERROR_WANT_WRITE, &t->read_waits_for_write);
			/* After the bytes before it: OpenSSL says it again. */
			t->more = used > 0 && (result == 0 || errno != EAGAIN);
			return used > 0 ? (ssize_t)used : result;
		}
		used += got;
		if (!SSL_has_pending(t->ssl))
			return (ssize_t)used;
	}
	if (used == 0) {
		errno = EPROTO;
		return -1;
	}
	t->more = true;
	return (ssize_t)used;
}

/* The next bytes for one record: as they stand where one piece fills it, else gathered in `block`.
 */
static struct span next_record(const struct iovec **piece, size_t *at, size_t *count, char *block)
{
	size_t n = 0;

	while (*count > 0 && n < TLS_RECORD) {
		const char *from = (const char *)(*piece)->iov_base + *at;
		size_t left = (*piece)->iov_len - *at;
		if (n == 0 && (left >= TLS_RECORD || *count == 1)) {
			size_t whole = left < TLS_RECORD ? left : TLS_RECORD;
			*at += whole;
			return (struct span){from, whole};
		}
		size_t take = left < TLS_RECORD - n ? left : TLS_RECORD - n;
		memcpy(block + n, from, take);
		n += take;
		*at += take;
		if (take == left) {
			(*piece)++;
			(*count)--;
			*at = 0;
		}
	}
	return (struct span){block, n};
}

ssize_t tls_write(struct tls *t, const struct iovec *pieces, size_t count)
{
	char block[TLS_RECORD];
	size_t sent = 0, at = 0;

	t->write_waits_for_read = false;
	if (t->stage != TLS_OPEN) {
		errno = EPROTO;
		return -1;
	}
	for (int records = 0; records < TLS_RECORDS; records++) {
		struct span record = next_record(&pieces, &at, &count, block);
		size_t taken;
		if (record.n == 0)
			break;
		ERR_clear_error();
		errno = 0;
		int done = SSL_write_ex(t->ssl, record.p, record.n, &taken);
		if (done != 1) {
			outcome(t, done, SSL_ERROR_WANT_READ, &t->write_waits_for_read);
			return sent > 0 ? (ssize_t)sent : -1;
		}
		sent += taken;
		if (taken < record.n)
			break;
	}
	return (ssize_t)sent;
}

enum tls_stage tls_stage(const struct tls *t)
{
	return t->stage;
}

const char *tls_reason(const struct tls *t)
{
	const char *reason = t->fault ? ERR_reason_error_string(t->fault) : NULL;

	if (t->stage == TLS_HANDSHAKE)
		return "it took longer than timeouts.client_header";
	return reason ? reason : "the client closed the connection";
}

bool tls_more(const struct tls *t)
{
	return t->more;
}

int tls_wanted(const struct tls *t, int events)
{
	if (t->write_waits_for_read)
		events = (events & ~EV_WRITE) | EV_READ;
	return t->read_waits_for_write ? events | EV_WRITE : events;
}

int tls_came(const struct tls *t, int events)
{
	int came = events;

	if (t->write_waits_for_read && (events & EV_READ))
		came |= EV_WRITE;
	if (t->read_waits_for_write && (events & EV_WRITE))
		came |= EV_READ;
	return came;
}

void tls_end(struct tls *t)
{
	if (t->stage != TLS_OPEN || (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN))
		return;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}
