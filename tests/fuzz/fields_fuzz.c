/* fields_fuzz: a field's value says one text at most, and its own base64 always. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "worker/mcp/fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char value[4096] = "=?base64?";
	size_t cut = size > 0 ? data[0] % size : 0;
	struct span text = {(const char *)data, size}, one = {(const char *)data, cut},
		    other = {(const char *)data + cut, size - cut};

	if (size > 2048)
		return 0;
	int n = EVP_EncodeBlock((unsigned char *)value + 9, data, (int)size);
	memcpy(value + 9 + n, "?=", 2);
	if (!field_says((struct span){value, (size_t)n + 11}, text))
		abort();
	/* The input as a value, against its own parts: no crash, and itself unless it is marked. */
	if (field_says(one, other) && field_says(one, text) && other.n != text.n)
		abort();
	return 0;
}
