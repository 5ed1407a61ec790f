/* A connection that the peer has closed and this side has not: it stays in CLOSE_WAIT.
 *
 * run:
 * expect: leak warning x1 @accept
 * says: CLOSE_WAIT
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    char byte;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 8) != 0)
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client, (struct sockaddr *)&address, size) != 0)
        return 1;
    int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* @accept */
    close(client);
    return read(connection, &byte, 1) == 0 && close(listener) == 0 ? 0 : 1;
}
