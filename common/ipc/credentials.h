/* credentials: who is at the other end of a Unix socket (unix(7), SO_PEERCRED). */
#ifndef MARGAY_COMMON_IPC_CREDENTIALS_H
#define MARGAY_COMMON_IPC_CREDENTIALS_H

#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

/* Only root, and the user that this process runs as, have any business on our sockets. */
static inline bool credentials_trusted(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

/* The process that connected; 0: not known. */
static inline pid_t credentials_pid(int fd)
{
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

#endif
