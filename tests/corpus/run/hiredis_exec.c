/* A connection of hiredis is inherited by a command of `system` (redis/hiredis#555).
 *
 * build: -lhiredis
 * needs: cc -lhiredis
 * run:
 * expect: exec-leak error @connect
 */
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 8) != 0)
        return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    redisContext *context = redisConnect("127.0.0.1", ntohs(address.sin_port)); /* @connect */
    if (context == NULL || context->err != 0)
        return 2;
    int result = system("true");
    redisFree(context);
    close(listener);
    return result;
}
