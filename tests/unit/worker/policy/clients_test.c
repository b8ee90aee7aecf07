/* clients: counted per address, whatever the port. */
#include "worker/policy/clients.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>

static struct sockaddr_storage peer(const char *text, int port)
{
	struct sockaddr_storage storage = {.ss_family = AF_INET};
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)&storage;

	in->sin_port = htons((uint16_t)port);
	inet_pton(AF_INET, text, &in->sin_addr);
	return storage;
}

Test(clients, one_address_is_bounded_and_others_are_not_touched)
{
	struct client_counts *counts;
	struct sockaddr_storage a = peer("127.0.0.1", 1), b = peer("127.0.0.1", 2),
				c = peer("127.0.0.2", 1);

	cr_assert_eq(clients_open(&counts), 0);
	struct client_count *first = clients_acquire(counts, &a, 2);
	struct client_count *second = clients_acquire(counts, &b, 2);
	cr_assert_eq(first, second);
	cr_assert_str_eq(clients_name(first), "127.0.0.1");
	cr_assert_null(clients_acquire(counts, &a, 2));
	struct client_count *other = clients_acquire(counts, &c, 2);
	cr_assert_not_null(other);
	clients_release(counts, first);
	cr_assert_not_null(clients_acquire(counts, &a, 2));
	clients_release(counts, other);
	struct sockaddr_storage again = clients_peer(first);
	cr_assert_eq(clients_acquire(counts, &again, 0), first);
	clients_close(counts);
}
