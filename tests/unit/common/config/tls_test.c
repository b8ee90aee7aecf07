/* tls: what is said of a pair of files, and that it travels with the configuration. */
#include "common/config/config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DAY = 24 * 60 * 60 };

struct desk {
	char directory[32], chain[64], key[64], text[512];
	struct config *config;
	struct config_errors errors;
};

static EVP_PKEY *make_key(void)
{
	EVP_PKEY *key = EVP_EC_gen("prime256v1");

	cr_assert_not_null(key);
	return key;
}

static void write_certificate(const char *path, EVP_PKEY *key, long from, long until)
{
	X509 *x = X509_new();
	FILE *file = fopen(path, "w");

	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), from);
	X509_gmtime_adj(X509_getm_notAfter(x), until);
	X509_set_pubkey(x, key);
	cr_assert(X509_sign(x, key, EVP_sha256()) > 0);
	cr_assert(file && PEM_write_X509(file, x));
	fclose(file);
	X509_free(x);
}

static void write_key(const char *path, EVP_PKEY *key, char *passphrase)
{
	FILE *file = fopen(path, "w");

	cr_assert(file && PEM_write_PrivateKey(file, key, passphrase ? EVP_aes_128_cbc() : NULL,
			      NULL, 0, NULL, passphrase));
	fclose(file);
	cr_assert_eq(chmod(path, 0600), 0);
}

/* A good pair. */
static void desk_open(struct desk *d)
{
	EVP_PKEY *key = make_key();

	*d = (struct desk){.directory = "/tmp/margay-tls-XXXXXX"};
	cr_assert_not_null(mkdtemp(d->directory));
	snprintf(d->chain, sizeof(d->chain), "%s/chain.pem", d->directory);
	snprintf(d->key, sizeof(d->key), "%s/key.pem", d->directory);
	snprintf(d->text, sizeof(d->text),
	    "listen:\n  - address: 127.0.0.1:1\n    tls:\n      key: %s\n      certificate: %s\n"
	    "upstreams: {a: {http: {url: 'http://x'}}}\nroutes: {/a: {upstream: a}}\n",
	    d->key, d->chain);
	write_certificate(d->chain, key, -DAY, DAY);
	write_key(d->key, key, NULL);
	EVP_PKEY_free(key);
}

static int desk_parse(struct desk *d)
{
	return config_parse(span_of(d->text), NULL, &d->config, &d->errors);
}

static void desk_close(struct desk *d)
{
	config_free(d->config);
	config_errors_free(&d->errors);
	unlink(d->chain);
	unlink(d->key);
	rmdir(d->directory);
}

static void expect_row(
    const struct config_errors *errors, unsigned line, const char *key, const char *part)
{
	cr_assert_eq(errors->count, 1);
	cr_expect_eq(errors->rows[0].line, line);
	cr_expect_str_eq(errors->rows[0].key, key);
	cr_expect(strstr(errors->rows[0].problem, part), "%s", errors->rows[0].problem);
}

static void expect_refused(struct desk *d, unsigned line, const char *key, const char *part)
{
	cr_assert_eq(desk_parse(d), -EINVAL);
	expect_row(&d->errors, line, key, part);
	d->config = NULL;
}

Test(tls_config, a_good_pair_is_taken)
{
	struct desk d;

	desk_open(&d);
	cr_assert_eq(desk_parse(&d), 0);
	const struct config_tls *tls = &d.config->listens[0].tls;
	cr_expect(tls->on);
	cr_expect(strstr(tls->certificate, "-----BEGIN CERTIFICATE-----"));
	cr_expect(strstr(tls->key, "PRIVATE KEY-----"));
	cr_expect_eq(d.config->warnings.count, 0);
	desk_close(&d);
}

Test(tls_config, the_key_of_another_certificate)
{
	struct desk d;

	desk_open(&d);
	EVP_PKEY *other = make_key();
	write_key(d.key, other, NULL);
	EVP_PKEY_free(other);
	expect_refused(&d, 4, "listen[0].tls.key", "is not the key of the certificate");
	desk_close(&d);
}

/* Nobody is asked for it: the test would wait for ever. */
Test(tls_config, a_key_with_a_passphrase, .timeout = 20)
{
	static char passphrase[] = "secret";
	struct desk d;

	desk_open(&d);
	EVP_PKEY *key = make_key();
	write_key(d.key, key, passphrase);
	EVP_PKEY_free(key);
	expect_refused(&d, 4, "listen[0].tls.key", "has a passphrase");
	desk_close(&d);
}

Test(tls_config, a_certificate_cut_short)
{
	struct desk d;

	desk_open(&d);
	cr_assert_eq(truncate(d.chain, 200), 0);
	expect_refused(&d, 5, "listen[0].tls.certificate", "is damaged");
	desk_close(&d);
}

Test(tls_config, a_file_that_is_too_long)
{
	struct desk d;

	desk_open(&d);
	cr_assert_eq(truncate(d.chain, 64 * 1024 + 1), 0);
	expect_refused(&d, 5, "listen[0].tls.certificate", "longer than 64 KiB");
	desk_close(&d);
}

Test(tls_config, both_files_are_wrong_at_once)
{
	struct desk d;

	desk_open(&d);
	unlink(d.chain);
	unlink(d.key);
	cr_assert_eq(desk_parse(&d), -EINVAL);
	cr_expect_eq(d.errors.count, 2);
	d.config = NULL;
	desk_close(&d);
}

Test(tls_config, an_old_certificate_and_an_open_key_are_warned_of)
{
	struct desk d;

	desk_open(&d);
	EVP_PKEY *key = make_key();
	write_certificate(d.chain, key, -2 * DAY, -DAY);
	write_key(d.key, key, NULL);
	cr_assert_eq(desk_parse(&d), 0);
	expect_row(&d.config->warnings, 5, "listen[0].tls.certificate", "not valid any more");
	config_free(d.config);
	write_certificate(d.chain, key, DAY, 2 * DAY);
	cr_assert_eq(desk_parse(&d), 0);
	expect_row(&d.config->warnings, 5, "listen[0].tls.certificate", "not valid yet");
	config_free(d.config);
	write_certificate(d.chain, key, -DAY, DAY);
	cr_assert_eq(chmod(d.key, 0644), 0);
	cr_assert_eq(desk_parse(&d), 0);
	expect_row(&d.config->warnings, 4, "listen[0].tls.key", "every user");
	EVP_PKEY_free(key);
	desk_close(&d);
}

/* Control: read again by whoever takes over, the files would be gone. */
Test(tls_config, what_was_read_once_is_what_all_use)
{
	static const struct config_defaults checked = {.checked = true};
	struct config *again = NULL;
	struct config_errors errors;
	struct buffer sealed = {0};
	struct desk d;

	desk_open(&d);
	cr_assert_eq(desk_parse(&d), 0);
	cr_assert_eq(config_seal(d.config, span_of(d.text), &sealed), 0);
	unlink(d.chain);
	unlink(d.key);
	cr_assert_eq(config_parse(buffer_span(&sealed), &checked, &again, &errors), 0);
	cr_expect_str_eq(again->listens[0].tls.key, d.config->listens[0].tls.key);
	cr_expect_str_eq(again->listens[0].tls.certificate, d.config->listens[0].tls.certificate);
	config_free(again);
	buffer_release(&sealed);
	desk_close(&d);
}

/* Bytes that were sealed without them: a listener that speaks TLS never speaks plain instead. */
Test(tls_config, without_its_texts_it_is_still_on)
{
	static const struct config_defaults checked = {.checked = true};
	struct desk d;

	desk_open(&d);
	cr_assert_eq(config_parse(span_of(d.text), &checked, &d.config, &d.errors), 0);
	cr_expect(d.config->listens[0].tls.on);
	cr_expect_null(d.config->listens[0].tls.key);
	desk_close(&d);
}
