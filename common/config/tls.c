/* tls: the `tls` mapping of a listener: the files are read and tried here, once for all. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/certificate.h"
#include "common/config/parser.h"

enum { PEM_MAX = 64 * 1024 };

/* The two entries as they stand in the file. */
struct entries {
	const struct node *certificate, *key;
};

static void take_certificate(struct parse *p, const struct node *node, const char *key, void *into)
{
	if (parse_expect(p, node, key, NODE_SCALAR))
		((struct entries *)into)->certificate = node;
}

static void take_key(struct parse *p, const struct node *node, const char *key, void *into)
{
	if (parse_expect(p, node, key, NODE_SCALAR))
		((struct entries *)into)->key = node;
}

/* What is wrong with the file, or NULL. Only regular files: anything else could keep us waiting. */
static const char *read_pem(const char *path, struct buffer *out, mode_t *mode)
{
	char block[PEM_MAX + 1];
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return strerror(errno);
	bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
	ssize_t n = regular ? read(fd, block, sizeof(block)) : 0;
	close(fd);
	*mode = status.st_mode;
	if (!regular)
		return "is no regular file";
	if (n < 0)
		return "can't be read";
	if (n > PEM_MAX)
		return "is longer than 64 KiB";
	if (memchr(block, '\0', (size_t)n))
		return "is not PEM";
	return buffer_append(out, block, (size_t)n, PEM_MAX) ? "does not fit into memory" : NULL;
}

/* The text of a file, kept with the configuration. NULL after an error. */
static char *take_file(struct parse *p, const struct node *node, const char *key, bool secret)
{
	struct buffer text = {0};
	mode_t mode = 0;

	if (p->defaults->checked) {
		const char *kept = parse_outside(p, key);
		return kept ? parse_copy(p, kept) : NULL;
	}
	if (node->text[0] != '/') {
		parse_error(p, node->line, key, "write a path that begins with /",
		    "`%.64s` is no absolute path", node->text);
		return NULL;
	}
	const char *problem = read_pem(node->text, &text, &mode);
	if (problem)
		parse_error(p, node->line, key,
		    "put a PEM file there that the user of the master may read", "`%.256s`: %s",
		    node->text, problem);
	else if (secret && (mode & S_IROTH))
		parse_warning(p, node->line, key, "chmod o= it",
		    "`%.256s` can be read by every user of this machine", node->text);
	if (!problem)
		parse_outside_keep(p, key, buffer_span(&text));
	buffer_release(&text);
	const char *kept = problem ? NULL : parse_outside(p, key);
	return kept ? parse_copy(p, kept) : NULL;
}

static const struct {
	bool key; /* the file that is to blame */
	const char *problem, *remedy;
} faults[] = {
    [CERTIFICATE_NOT_PEM] = {false, "holds no certificate in PEM",
	"it begins with -----BEGIN CERTIFICATE-----"},
    [CERTIFICATE_DAMAGED] = {false, "holds a certificate that is damaged",
	"copy the file again; `openssl x509 -in FILE -noout` reads its first one"},
    [CERTIFICATE_REFUSED] = {false, "is refused by OpenSSL",
	"use a key of at least 2048 bits (RSA) or 224 bits (EC), and SHA-256"},
    [CERTIFICATE_KEY_NOT_PEM] = {true, "holds no private key in PEM",
	"it begins with -----BEGIN PRIVATE KEY-----, or names its kind there"},
    [CERTIFICATE_KEY_ENCRYPTED] = {true, "has a passphrase, and nobody is there to give it",
	"take it away: openssl pkey -in FILE -out NEW"},
    [CERTIFICATE_KEY_OF_ANOTHER] = {true, "is not the key of the certificate",
	"put the pair there; the server's own certificate is the first in its file"},
};

static void warn_of_age(
    struct parse *p, const SSL_CTX *context, const struct node *node, const char *key)
{
	int age = certificate_age(context, time(NULL));

	if (age)
		parse_warning(p, node->line, key, "renew it, and reload",
		    "the certificate in `%.256s` is %s", node->text,
		    age < 0 ? "not valid yet" : "not valid any more");
}

/* Both texts are there: whether a server can use them. `keys`: of the certificate and its key. */
static void try_pair(struct parse *p, const struct config_tls *tls, const struct entries *entries,
    const char *const keys[2])
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	enum certificate_fault fault =
	    context ? certificate_use(context, tls->certificate, tls->key) : CERTIFICATE_NO_MEMORY;

	if (fault == CERTIFICATE_NO_MEMORY) {
		p->no_memory = true;
	} else if (fault != CERTIFICATE_GOOD) {
		const struct node *node = faults[fault].key ? entries->key : entries->certificate;
		parse_error(p, node->line, keys[faults[fault].key], faults[fault].remedy,
		    "`%.256s` %s", node->text, faults[fault].problem);
	} else {
		warn_of_age(p, context, entries->certificate, keys[0]);
	}
	SSL_CTX_free(context);
}

void parse_tls(struct parse *p, const struct node *node, const char *key, void *listen)
{
	static const struct field fields[] = {{"certificate", take_certificate}, {"key", take_key}};
	struct config_tls *tls = &((struct config_listen *)listen)->tls;
	char certificate_key[CONFIG_KEY_MAX], key_key[CONFIG_KEY_MAX];
	struct entries entries = {0};
	size_t errors = p->errors->count;

	tls->on = true;
	parse_fields(p, node, key, fields, 2, &entries);
	snprintf(certificate_key, sizeof(certificate_key), "%s.certificate", key);
	snprintf(key_key, sizeof(key_key), "%s.key", key);
	if (!entries.certificate && p->errors->count == errors)
		parse_error(p, node->line, certificate_key,
		    "name the file of the server's certificate and those that signed it",
		    "is missing");
	if (!entries.key && p->errors->count == errors)
		parse_error(p, node->line, key_key,
		    "name the file of the certificate's private key", "is missing");
	if (entries.certificate)
		tls->certificate = take_file(p, entries.certificate, certificate_key, false);
	if (entries.key)
		tls->key = take_file(p, entries.key, key_key, true);
	if (tls->certificate && tls->key && !p->defaults->checked)
		try_pair(p, tls, &entries, (const char *const[]){certificate_key, key_key});
}
