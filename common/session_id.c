/* session_id: see session_id.h. 27 bytes make 36 base64url characters with no bit to spare, so
 * every text that parses is the only text of its id. */
#include "common/session_id.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

enum {
	SESSION_RAW = SESSION_ID_BYTES + SESSION_MAC,
	SESSION_RANDOM = SESSION_ID_BYTES - SESSION_ID_HEAD
};

_Static_assert(
    SESSION_RAW % 3 == 0 && SESSION_RAW / 3 * 4 == SESSION_ID_TEXT, "no padding and no spare bits");

/* RFC 4648, section 5. */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool session_mac(const uint8_t id[SESSION_ID_BYTES], const uint8_t key[SESSION_KEY_SIZE],
    uint8_t out[SESSION_MAC])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	if (!HMAC(EVP_sha256(), key, SESSION_KEY_SIZE, id, SESSION_ID_BYTES, digest, &length) ||
	    length < SESSION_MAC)
		return false;
	memcpy(out, digest, SESSION_MAC);
	return true;
}

int session_id_create(uint16_t node, uint8_t epoch, struct session_id *out)
{
	out->bytes[0] = (uint8_t)(node >> 8);
	out->bytes[1] = (uint8_t)node;
	out->bytes[2] = epoch;
	if (getrandom(out->bytes + SESSION_ID_HEAD, SESSION_RANDOM, GRND_NONBLOCK) !=
	    SESSION_RANDOM)
		return -EIO;
	return 0;
}

static void session_encode(const uint8_t *raw, size_t groups, char *out)
{
	for (size_t i = 0; i < groups; i++) {
		uint32_t bits =
		    (uint32_t)raw[3 * i] << 16 | (uint32_t)raw[3 * i + 1] << 8 | raw[3 * i + 2];
		for (size_t j = 0; j < 4; j++)
			out[4 * i + j] = alphabet[bits >> (18 - 6 * j) & 63];
	}
	out[4 * groups] = '\0';
}

void session_id_format(
    const struct session_id *id, const uint8_t key[SESSION_KEY_SIZE], char out[SESSION_ID_TEXT + 1])
{
	uint8_t raw[SESSION_RAW];

	out[0] = '\0';
	memcpy(raw, id->bytes, SESSION_ID_BYTES);
	if (session_mac(id->bytes, key, raw + SESSION_ID_BYTES))
		session_encode(raw, SESSION_RAW / 3, out);
}

void session_id_shorten(const struct session_id *id, char out[SESSION_ID_SHORT + 1])
{
	session_encode(id->bytes, SESSION_ID_SHORT / 4, out);
}

static bool session_decode(struct span text, uint8_t raw[SESSION_RAW])
{
	if (text.n != SESSION_ID_TEXT)
		return false;
	for (size_t i = 0; i < SESSION_RAW / 3; i++) {
		uint32_t bits = 0;
		for (size_t j = 0; j < 4; j++) {
			const char *at = memchr(alphabet, text.p[4 * i + j], sizeof(alphabet) - 1);
			if (!at)
				return false;
			bits = bits << 6 | (uint32_t)(at - alphabet);
		}
		raw[3 * i] = (uint8_t)(bits >> 16);
		raw[3 * i + 1] = (uint8_t)(bits >> 8);
		raw[3 * i + 2] = (uint8_t)bits;
	}
	return true;
}

bool session_id_decode(struct span text, struct session_id *out, uint8_t mac[SESSION_MAC])
{
	uint8_t raw[SESSION_RAW];

	if (!session_decode(text, raw))
		return false;
	memcpy(out->bytes, raw, SESSION_ID_BYTES);
	memcpy(mac, raw + SESSION_ID_BYTES, SESSION_MAC);
	return true;
}

bool session_id_is_ours(const struct session_id *id, const uint8_t mac[SESSION_MAC],
    const uint8_t key[SESSION_KEY_SIZE])
{
	uint8_t ours[SESSION_MAC];

	return session_mac(id->bytes, key, ours) && CRYPTO_memcmp(ours, mac, SESSION_MAC) == 0;
}

bool session_id_parse(struct span text, const uint8_t key[SESSION_KEY_SIZE], struct session_id *out)
{
	uint8_t mac[SESSION_MAC];

	return session_id_decode(text, out, mac) && session_id_is_ours(out, mac, key);
}
