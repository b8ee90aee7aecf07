/* tls: reading and writing against a client of OpenSSL's on the other end of a pair of sockets. */
#include "worker/http/tls.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <ev.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BIG = 512 * 1024, SCRATCH = 65536 };

struct scene {
	struct tls_server *server;
	struct tls *tls;
	SSL_CTX *context;
	SSL *client;
	int fds[2]; /* the server's, the client's */
	char scratch[SCRATCH];
};

static char *text_of(BIO *bio)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	char *text = strndup(p, (size_t)n);

	BIO_free(bio);
	return text;
}

static void make_pair(struct config_tls *config)
{
	EVP_PKEY *key = EVP_EC_gen("prime256v1");
	X509 *x = X509_new();
	BIO *key_text = BIO_new(BIO_s_mem()), *text = BIO_new(BIO_s_mem());

	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	cr_assert(X509_sign(x, key, EVP_sha256()) > 0);
	cr_assert(PEM_write_bio_X509(text, x));
	cr_assert(PEM_write_bio_PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL));
	X509_free(x);
	EVP_PKEY_free(key);
	*config = (struct config_tls){true, text_of(text), text_of(key_text)};
}

static void scene_open(struct scene *s)
{
	struct config_tls config;

	signal(SIGPIPE, SIG_IGN);
	memset(s, 0, sizeof(*s));
	make_pair(&config);
	cr_assert_eq(tls_server_open(&config, &s->server), 0);
	free(config.certificate);
	free(config.key);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->fds), 0);
	cr_assert_not_null(s->tls = tls_open(s->server, s->fds[0]));
	cr_assert_not_null(s->context = SSL_CTX_new(TLS_client_method()));
	cr_assert_not_null(s->client = SSL_new(s->context));
	SSL_set_mode(s->client, SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_set_fd(s->client, s->fds[1]);
	SSL_set_connect_state(s->client);
}

static void scene_close(struct scene *s)
{
	tls_free(s->tls);
	tls_server_close(s->server);
	SSL_free(s->client);
	SSL_CTX_free(s->context);
	close(s->fds[0]);
	close(s->fds[1]);
}

static void shake(struct scene *s)
{
	while (tls_stage(s->tls) == TLS_HANDSHAKE) {
		ERR_clear_error();
		SSL_do_handshake(s->client);
		cr_assert_eq(tls_read(s->tls, s->scratch, SCRATCH), -1);
		cr_assert_eq(errno, EAGAIN);
	}
	cr_assert_eq(tls_stage(s->tls), TLS_OPEN);
}

static void client_writes(struct scene *s, const char *p, size_t n)
{
	cr_assert_eq(SSL_write(s->client, p, (int)n), (int)n);
}

static ssize_t serve_read(struct scene *s)
{
	return tls_read(s->tls, s->scratch, SCRATCH);
}

/* Differs at every place, so that a byte lost or repeated is seen. */
static char *big_text(void)
{
	char *text = malloc(BIG);

	for (size_t i = 0; i < BIG; i++)
		text[i] = (char)(i * 2654435761u >> 13);
	return text;
}

Test(tls, bytes_go_both_ways)
{
	struct iovec pieces[] = {{"HTTP", 4}, {"", 0}, {"/1.1", 4}};
	struct scene s;
	char got[16];

	scene_open(&s);
	shake(&s);
	client_writes(&s, "hello", 5);
	cr_assert_eq(serve_read(&s), 5);
	cr_assert_eq(memcmp(s.scratch, "hello", 5), 0);
	cr_assert_eq(serve_read(&s), -1);
	cr_assert_eq(errno, EAGAIN);
	cr_assert_eq(tls_write(s.tls, pieces, 3), 8);
	/* Gathered: one record. */
	cr_assert_eq(SSL_read(s.client, got, sizeof(got)), 8);
	cr_assert_eq(memcmp(got, "HTTP/1.1", 8), 0);
	cr_assert_eq(tls_wanted(s.tls, EV_READ), EV_READ);
	scene_close(&s);
}

/* What did not fit is given again from another place, with more behind it. Control: without
 * SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER this is an error. */
Test(tls, a_reader_that_is_slow_gets_every_byte_once)
{
	char *text = big_text(), *got = malloc(BIG);
	size_t sent = 0, received = 0;
	bool full = false;
	struct scene s;

	scene_open(&s);
	shake(&s);
	while (received < BIG) {
		size_t n = BIG - sent < 40000 + sent % 7 ? BIG - sent : 40000 + sent % 7;
		char *copy = malloc(n + 1);
		memcpy(copy, text + sent, n);
		struct iovec pieces[] = {{copy, n / 3}, {copy + n / 3, n - n / 3}};
		ssize_t taken = sent < BIG ? tls_write(s.tls, pieces, 2) : -1;
		cr_assert(taken > 0 || sent == BIG || errno == EAGAIN);
		free(copy);
		if (taken > 0) {
			sent += (size_t)taken;
			continue;
		}
		full |= sent < BIG;
		int n_read = SSL_read(s.client, got + received, 10000);
		if (n_read > 0)
			received += (size_t)n_read;
	}
	cr_expect(full, "the socket was never full");
	cr_expect_eq(memcmp(text, got, BIG), 0);
	free(text);
	free(got);
	scene_close(&s);
}

/* Control: a reader that waits for the socket alone would wait for ever. */
Test(tls, what_was_read_ahead_is_not_forgotten)
{
	char *text = big_text();
	struct scene s;
	char small[100];
	size_t got = 0;

	scene_open(&s);
	shake(&s);
	client_writes(&s, text, 16000);
	cr_assert_eq(tls_read(s.tls, small, sizeof(small)), 100);
	cr_assert_eq(recv(s.fds[0], small, 1, MSG_PEEK), -1, "the socket has nothing more to say");
	for (got = 100; tls_more(s.tls); got += 100) {
		cr_assert_eq(tls_read(s.tls, small, sizeof(small)), 100);
		cr_assert_eq(memcmp(small, text + got, 100), 0);
	}
	cr_assert_eq(got, 16000);
	cr_assert_eq(tls_read(s.tls, small, sizeof(small)), -1);
	cr_assert_eq(errno, EAGAIN);
	free(text);
	scene_close(&s);
}

/* A client of one-byte records does not get a turn for each. */
Test(tls, one_call_reads_a_few_records)
{
	struct scene s;
	size_t got = 0;
	int calls = 0;

	scene_open(&s);
	shake(&s);
	for (int i = 0; i < 100; i++)
		client_writes(&s, "x", 1);
	do {
		ssize_t n = serve_read(&s);
		cr_assert(n > 0 && n <= 16);
		got += (size_t)n;
		calls++;
	} while (tls_more(s.tls));
	cr_expect_eq(got, 100);
	cr_expect(calls >= 7);
	scene_close(&s);
}

Test(tls, the_end_comes_after_the_bytes_before_it)
{
	struct scene s;
	char got[8];

	scene_open(&s);
	shake(&s);
	client_writes(&s, "last", 4);
	SSL_shutdown(s.client);
	cr_assert_eq(serve_read(&s), 4);
	cr_assert(tls_more(s.tls));
	cr_assert_eq(serve_read(&s), 0);
	/* Its other side is open still. */
	cr_assert_eq(tls_write(s.tls, &(struct iovec){"bye", 3}, 1), 3);
	tls_end(s.tls);
	tls_end(s.tls);
	cr_assert_eq(SSL_read(s.client, got, sizeof(got)), 3);
	cr_assert_eq(SSL_read(s.client, got, sizeof(got)), 0);
	cr_assert_eq(SSL_get_error(s.client, 0), SSL_ERROR_ZERO_RETURN);
	scene_close(&s);
}

Test(tls, a_socket_that_ends_is_the_end_too)
{
	struct scene s;

	scene_open(&s);
	shake(&s);
	shutdown(s.fds[1], SHUT_WR);
	cr_assert_eq(serve_read(&s), 0);
	scene_close(&s);
}

static const struct {
	const char *bytes;
	enum tls_stage stage;
	const char *reason;
} strangers[] = {
    {"", TLS_UNUSED, "closed"},
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", TLS_NOT_TLS, "http request"},
    {"POST /mcp HTTP/1.1\r\n", TLS_NOT_TLS, "http request"},
    {"SSH-2.0-OpenSSH_9.2\r\n", TLS_FAILED, "wrong version number"},
    {"\x16\x03\x01\x00\x05\x01", TLS_FAILED, "closed"},
};

Test(tls, who_speaks_something_else)
{
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		struct scene s;
		scene_open(&s);
		size_t n = i + 1 == sizeof(strangers) / sizeof(strangers[0])
			       ? 6
			       : strlen(strangers[i].bytes);
		if (n > 0)
			cr_assert_eq(write(s.fds[1], strangers[i].bytes, n), (ssize_t)n);
		shutdown(s.fds[1], SHUT_WR);
		cr_expect_eq(serve_read(&s), -1);
		cr_expect_neq(errno, EAGAIN);
		cr_expect_eq(tls_stage(s.tls), strangers[i].stage, "%zu", i);
		cr_expect(strstr(tls_reason(s.tls), strangers[i].reason), "%zu: %s", i,
		    tls_reason(s.tls));
		/* And nothing can be done with it any more. */
		cr_expect_eq(serve_read(&s), -1);
		cr_expect_eq(tls_write(s.tls, &(struct iovec){"x", 1}, 1), -1);
		tls_end(s.tls);
		scene_close(&s);
	}
}

Test(tls, bytes_that_were_changed_on_the_way_end_it)
{
	struct scene s;

	scene_open(&s);
	shake(&s);
	client_writes(&s, "hello", 5);
	cr_assert_eq(write(s.fds[1], "\x17\x03\x03\x00\x18............................", 29), 29);
	cr_assert_eq(serve_read(&s), 5);
	cr_assert(tls_more(s.tls));
	cr_assert_eq(serve_read(&s), -1);
	cr_expect_eq(errno, EPROTO);
	cr_expect_eq(tls_stage(s.tls), TLS_FAILED);
	scene_close(&s);
}

/* No ticket, and none of a session: the next connection shows the certificate again. */
Test(tls, nothing_is_resumed)
{
	struct scene s;
	char got[4];

	scene_open(&s);
	shake(&s);
	cr_assert_eq(tls_write(s.tls, &(struct iovec){"x", 1}, 1), 1);
	cr_assert_eq(SSL_read(s.client, got, sizeof(got)), 1);
	cr_expect_not(SSL_SESSION_is_resumable(SSL_get0_session(s.client)));
	scene_close(&s);
}

Test(tls, without_a_pair_there_is_no_server)
{
	struct config_tls config = {.on = true};
	struct tls_server *server = NULL;

	cr_expect_eq(tls_server_open(&config, &server), -EINVAL);
	cr_expect_null(server);
}
