/* Descriptors that arrive by SCM_RIGHTS and are never closed.
 *
 * run:
 * expect: leak warning x4 @receive
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

static int transfer(int socket, int fd) {
    char byte = 0;
    union control control = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    if (fd < 0)
        return recvmsg(socket, &message, MSG_CMSG_CLOEXEC); /* @receive */
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(socket, &message, 0);
}

int main(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return 1;
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 4; i++) {
        if (transfer(ends[0], file) != 1 || transfer(ends[1], -1) != 1)
            return 1;
    }
    close(file);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
