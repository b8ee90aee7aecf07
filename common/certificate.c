/* certificate: see certificate.h. */
#include "common/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdbool.h>

/* Called when a key has a passphrase: there is none. */
static int no_passphrase(char *into, int size, int writing, void *context)
{
	(void)into;
	(void)size;
	(void)writing;
	*(bool *)context = true;
	return -1;
}

static bool is_end(unsigned long error)
{
	return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

/* The certificates behind the server's own. */
static enum certificate_fault use_others(SSL_CTX *context, BIO *text)
{
	X509 *other;

	while ((other = PEM_read_bio_X509(text, NULL, NULL, NULL))) {
		if (SSL_CTX_add0_chain_cert(context, other) == 1)
			continue;
		X509_free(other);
		return CERTIFICATE_REFUSED;
	}
	return is_end(ERR_peek_last_error()) ? CERTIFICATE_GOOD : CERTIFICATE_DAMAGED;
}

static enum certificate_fault use_chain(SSL_CTX *context, BIO *text)
{
	X509 *own = PEM_read_bio_X509_AUX(text, NULL, NULL, NULL);

	if (!own)
		return is_end(ERR_peek_last_error()) ? CERTIFICATE_NOT_PEM : CERTIFICATE_DAMAGED;
	bool used = SSL_CTX_use_certificate(context, own) == 1;
	X509_free(own);
	return used ? use_others(context, text) : CERTIFICATE_REFUSED;
}

static enum certificate_fault use_key(SSL_CTX *context, BIO *text)
{
	bool encrypted = false;
	EVP_PKEY *key = PEM_read_bio_PrivateKey(text, NULL, no_passphrase, &encrypted);

	if (!key)
		return encrypted ? CERTIFICATE_KEY_ENCRYPTED : CERTIFICATE_KEY_NOT_PEM;
	X509 *own = SSL_CTX_get0_certificate(context);
	bool matches = own && X509_check_private_key(own, key) == 1;
	bool used = matches && SSL_CTX_use_PrivateKey(context, key) == 1;
	EVP_PKEY_free(key);
	if (!matches)
		return CERTIFICATE_KEY_OF_ANOTHER;
	return used ? CERTIFICATE_GOOD : CERTIFICATE_REFUSED;
}

enum certificate_fault certificate_use(SSL_CTX *context, const char *chain, const char *key)
{
	BIO *chain_text = BIO_new_mem_buf(chain, -1), *key_text = BIO_new_mem_buf(key, -1);
	enum certificate_fault fault = CERTIFICATE_NO_MEMORY;

	ERR_clear_error();
	if (chain_text && key_text) {
		fault = use_chain(context, chain_text);
		if (fault == CERTIFICATE_GOOD)
			fault = use_key(context, key_text);
	}
	BIO_free(chain_text);
	BIO_free(key_text);
	ERR_clear_error();
	return fault;
}

int certificate_age(const SSL_CTX *context, time_t now)
{
	const X509 *own = SSL_CTX_get0_certificate(context);

	if (!own)
		return 0;
	if (X509_cmp_time(X509_get0_notBefore(own), &now) > 0)
		return -1;
	return X509_cmp_time(X509_get0_notAfter(own), &now) < 0;
}
