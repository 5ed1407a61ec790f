/* A server that closes most connections, but keeps one of ten for its whole life.
 *
 * run:
 * expect: leak warning x6 @accept
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 8) != 0)
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    for (int i = 0; i < 60; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(client, (struct sockaddr *)&address, size) != 0)
            return 1;
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC); /* @accept */
        if (i % 10 != 5)
            close(connection);
        close(client);
    }
    close(listener);
    return 0;
}
