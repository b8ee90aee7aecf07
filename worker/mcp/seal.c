/* seal: see seal.h. The text is base64 of nonce, ciphertext and tag. */
#include "worker/mcp/seal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "common/envelope.h"
#include "common/raw.h"

enum {
	NONCE = 12,
	TAG = 16,
	PLAIN = 1 + (int)MAIL_BOX_BYTES + 4 + 4 + 8 + (int)SEAL_DIGEST,
	SEALED = NONCE + PLAIN + TAG,
	CODED = SEALED / 3 * 4,
};

_Static_assert(SEALED % 3 == 0 && CODED < (int)SEAL_TEXT_MAX, "no padding and no spare bits");

static const uint8_t layout = 1; /* of what is inside */

static bool member_digest(struct span key, struct span value, uint8_t out[SEAL_DIGEST])
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool done = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
		    EVP_DigestUpdate(md, key.p, key.n) && EVP_DigestUpdate(md, "\n", 1) &&
		    EVP_DigestUpdate(md, value.p, value.n) && EVP_DigestFinal_ex(md, out, NULL);

	EVP_MD_CTX_free(md);
	return done;
}

static bool add(struct span key, struct span value, uint8_t sum[SEAL_DIGEST])
{
	uint8_t one[SEAL_DIGEST];

	if (!member_digest(key, value, one))
		return false;
	for (size_t i = 0; i < SEAL_DIGEST; i++)
		sum[i] ^= one[i];
	return true;
}

bool seal_digest(const struct envelope *e, uint8_t out[SEAL_DIGEST])
{
	static const char *const changing[] = {"_meta", "inputResponses", "requestState"};
	struct span rest = e->params, key, value;

	memset(out, 0, SEAL_DIGEST);
	if (!add(SPAN(""), e->method, out))
		return false;
	while (raw_next_member(&rest, &key, &value)) {
		bool changes = false;
		for (size_t i = 0; i < sizeof(changing) / sizeof(changing[0]); i++)
			changes |= raw_key_is(key, changing[i]);
		if (!changes && !add(key, value, out))
			return false;
	}
	return true;
}

/* A key for this purpose only. */
static bool derive(const uint8_t key[SESSION_KEY_SIZE], uint8_t out[EVP_MAX_MD_SIZE])
{
	static const unsigned char purpose[] = "margay request state";
	unsigned length;

	return HMAC(EVP_sha256(), key, SESSION_KEY_SIZE, purpose, sizeof(purpose) - 1, out,
		   &length) != NULL;
}

static void put_ticket(const struct ticket *t, char plain[PLAIN])
{
	struct wire_writer w = {.p = plain, .capacity = PLAIN};

	wire_put_u8(&w, layout);
	wire_put_bytes(&w, t->box.bytes, sizeof(t->box.bytes));
	wire_put_u32(&w, t->round);
	wire_put_u32(&w, t->capabilities);
	wire_put_u64(&w, t->expires);
	wire_put_bytes(&w, t->digest, sizeof(t->digest));
}

static bool get_ticket(const char plain[PLAIN], struct ticket *t)
{
	struct wire_reader r = {.p = plain, .length = PLAIN};

	uint8_t found = wire_get_u8(&r);
	wire_get_bytes(&r, t->box.bytes, sizeof(t->box.bytes));
	t->round = wire_get_u32(&r);
	t->capabilities = wire_get_u32(&r);
	t->expires = wire_get_u64(&r);
	wire_get_bytes(&r, t->digest, sizeof(t->digest));
	return found == layout;
}

static bool encrypt(EVP_CIPHER_CTX *c, const uint8_t *key, struct span bound, const char *plain,
    uint8_t sealed[SEALED])
{
	int n;

	return EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, sealed) &&
	       EVP_EncryptUpdate(c, NULL, &n, (const uint8_t *)bound.p, (int)bound.n) &&
	       EVP_EncryptUpdate(c, sealed + NONCE, &n, (const uint8_t *)plain, PLAIN) &&
	       EVP_EncryptFinal_ex(c, sealed + NONCE + PLAIN, &n) &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, sealed + NONCE + PLAIN);
}

static bool decrypt(
    EVP_CIPHER_CTX *c, const uint8_t *key, struct span bound, uint8_t sealed[SEALED], char *plain)
{
	int n;

	return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, sealed) &&
	       EVP_DecryptUpdate(c, NULL, &n, (const uint8_t *)bound.p, (int)bound.n) &&
	       EVP_DecryptUpdate(c, (uint8_t *)plain, &n, sealed + NONCE, PLAIN) &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, sealed + NONCE + PLAIN) &&
	       EVP_DecryptFinal_ex(c, (uint8_t *)plain + PLAIN, &n) > 0;
}

bool seal_close(const struct ticket *ticket, const uint8_t key[SESSION_KEY_SIZE], struct span bound,
    char out[SEAL_TEXT_MAX])
{
	uint8_t derived[EVP_MAX_MD_SIZE], sealed[SEALED];
	char plain[PLAIN];
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();

	put_ticket(ticket, plain);
	bool done = c && derive(key, derived) && RAND_bytes(sealed, NONCE) == 1 &&
		    encrypt(c, derived, bound, plain, sealed);
	EVP_CIPHER_CTX_free(c);
	if (done)
		EVP_EncodeBlock((uint8_t *)out, sealed, SEALED);
	return done;
}

bool seal_open(
    struct span text, const uint8_t key[SESSION_KEY_SIZE], struct span bound, struct ticket *out)
{
	uint8_t derived[EVP_MAX_MD_SIZE], sealed[SEALED];
	char plain[PLAIN + TAG];

	if (text.n != CODED || EVP_DecodeBlock(sealed, (const uint8_t *)text.p, CODED) != SEALED ||
	    !derive(key, derived))
		return false;
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	bool done = c && decrypt(c, derived, bound, sealed, plain);
	EVP_CIPHER_CTX_free(c);
	return done && get_ticket(plain, out);
}
