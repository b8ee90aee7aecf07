/*
 * wire: fixed-width integers and length-prefixed strings in a frame's payload.
 *
 * A cursor latches its first error: write or read everything, then check `error` once. Readers get
 * spans into the payload; nothing is copied and nothing is trusted.
 */
#ifndef MARGAY_COMMON_IPC_WIRE_H
#define MARGAY_COMMON_IPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/span.h"

struct wire_writer {
	char *p;
	size_t length, capacity;
	bool error; /* something did not fit */
};

struct wire_reader {
	const char *p;
	size_t length, offset;
	bool error; /* something was missing or too long */
};

void wire_put_u8(struct wire_writer *w, uint8_t value);
void wire_put_u16(struct wire_writer *w, uint16_t value);
void wire_put_u32(struct wire_writer *w, uint32_t value);
void wire_put_u64(struct wire_writer *w, uint64_t value);
void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t n); /* no length */
void wire_put_string(struct wire_writer *w, struct span string);         /* u16 length first */

uint8_t wire_get_u8(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);
void wire_get_bytes(struct wire_reader *r, void *bytes, size_t n);
struct span wire_get_string(struct wire_reader *r);
/* Everything was read and nothing was missing. */
bool wire_complete(const struct wire_reader *r);

#endif
