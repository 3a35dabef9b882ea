/* SPDX-License-Identifier: Apache-2.0 */
/* A device without a poll operation is ready at once for everything, and not for epoll. Compared with a device. */
#include "sgx.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

int main(int argc, char **argv)
{
	int fd = (int)WORKS(open(argc > 1 ? argv[1] : SGX_ENCLAVE, O_RDWR)), epoll = (int)WORKS(epoll_create1(0));
	static const short asked[] = { 0, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM };
	struct timespec soon = { 0, 1000000 };
	struct timeval later = { 0, 1000 };
	struct epoll_event event = { EPOLLIN, { 0 } };
	fd_set in, out, except;

	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++) {
		struct pollfd one = { fd, asked[i], 0 };
		int count = poll(&one, 1, 1);

		printf("poll %#x: %d %#x", asked[i], count, one.revents);
		count = ppoll(&one, 1, &soon, NULL);
		printf(", ppoll %d %#x\n", count, one.revents);
	}
	FD_ZERO(&in);
	FD_SET(fd, &in);
	out = except = in;
	printf("select %d", select(fd + 1, &in, &out, &except, &later));
	printf(": %d %d %d\n", FD_ISSET(fd, &in), FD_ISSET(fd, &out), FD_ISSET(fd, &except));
	SAY(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	SAY(epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event));
	SAY(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
	close(fd);
	SAY(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	return success();
}
