/*
 * frame: one message on a SEQPACKET socket between two Margay processes.
 *
 * A frame is a 32-byte header and a payload of at most FRAME_PAYLOAD_MAX bytes, in host order (both
 * ends are on one machine), with at most one file descriptor. Framing is shared by the master's
 * channels and the broker, and by the keeper's streams (stream.h); what a type means is said in
 * channel.h, broker_proto.h and keeper_proto.h. Receiving checks magic, version, length and
 * truncation; a descriptor that came with a bad frame is closed.
 */
#ifndef MARGAY_COMMON_IPC_FRAME_H
#define MARGAY_COMMON_IPC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "common/attributes.h"

enum { FRAME_MAGIC = 0x4d47, FRAME_VERSION = 1, FRAME_PAYLOAD_MAX = 65536 - 32 };

struct frame {
	uint16_t magic;
	uint16_t version;
	uint16_t type;
	uint16_t flags;
	uint32_t request; /* chosen by the asker, echoed by the reply; 0: no reply wanted */
	uint32_t length;  /* of the payload */
	uint64_t target;  /* what it is about, where a type says so; else 0 */
	uint64_t reserved;
};

_Static_assert(sizeof(struct frame) == 32, "the frame header is part of the protocol");

enum { FRAME_REPLY = 1 };    /* flags */
enum { FRAME_FDS_MAX = 32 }; /* as many as an address has listeners */

/*
 * Send one frame without blocking; magic and version are filled in here. `fd` is -1 or a descriptor
 * to pass (stays the caller's). 0, -EAGAIN when the peer's queue is full, -EPIPE/-ECONNRESET when
 * it is gone, -EMSGSIZE.
 */
int frame_send(int socket, const struct frame *frame, const void *payload, int fd) MUST_CHECK;
/*
 * Receive one frame without blocking into `header` and `payload` (FRAME_PAYLOAD_MAX bytes). *fd is
 * -1 or a descriptor that is now the caller's. 1 for a frame, 0 when the peer is gone, -EAGAIN,
 * -EPROTO for a bad frame, else -errno.
 */
int frame_receive(int socket, struct frame *header, void *payload, int *fd) MUST_CHECK;
/* The same with up to FRAME_FDS_MAX descriptors; those received are in the order they were sent. */
int frame_send_fds(int socket, const struct frame *frame, const void *payload, const int *fds,
    unsigned count) MUST_CHECK;
int frame_receive_fds(int socket, struct frame *header, void *payload, int fds[FRAME_FDS_MAX],
    unsigned *count) MUST_CHECK;

#endif
