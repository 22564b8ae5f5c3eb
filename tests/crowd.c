/*
 * A crowd of idle peers: crowd SOCKET N connects N times to a Unix socket and
 * then does nothing until it is killed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (argc != 3)
		return 64;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
	for (int i = atoi(argv[2]); i > 0; i--) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
			perror("crowd");
			return 71;
		}
	}
	pause();
	return 0;
}
