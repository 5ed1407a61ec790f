/* A read through a closed number, which belongs to another file by now: the reader gets the other file's
 * content.
 *
 * run:
 * expect: nothing
 * prints: secret
 * run: --quarantine
 * expect: use-after-close error @open @close @read
 * prints: EBADF
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    char text[16] = "";
    int secret = open("secret", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (write(secret, "secret\n", 7) != 7)
        return 1;
    close(secret);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    close(file); /* @close */
    int other = open("secret", O_RDONLY | O_CLOEXEC);
    ssize_t length = read(file, text, sizeof text - 1); /* @read */
    printf("%s\n", length < 0 && errno == EBADF ? "EBADF" : text);
    close(other);
    return 0;
}
