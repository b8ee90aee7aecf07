/* sse: events and boundaries are the same, whole and byte by byte. */
#include <stdint.h>
#include <stdlib.h>

#include "worker/http/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t sum;

static int on_event(struct sse_data *d, struct span data)
{
	(void)d;
	for (size_t i = 0; i < data.n; i++)
		sum = sum * 31 + (unsigned char)data.p[i];
	sum = sum * 31 + 256;
	return 0;
}

static uint32_t run(const char *p, size_t n, size_t step, bool *boundary)
{
	struct sse_marks marks = {0};
	struct sse_data events = {.marks = &marks};
	struct sse follow = {0};

	sum = 0;
	for (size_t at = 0; at < n; at += step) {
		size_t piece = n - at < step ? n - at : step;
		sse_feed(&follow, p + at, piece);
		if (sse_data_feed(&events, p + at, piece, 65536, on_event))
			break;
	}
	sse_data_release(&events);
	*boundary = sse_at_boundary(&follow);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	bool whole, cut;

	if (size == 0 || size > 4096)
		return 0;
	if (run(p, size, size, &whole) != run(p, size, 1, &cut) || whole != cut)
		abort();
	return 0;
}
