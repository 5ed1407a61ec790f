/* A static program with musl, whose C library has no unwind tables: the functions above it are guessed.
 *
 * build: musl-gcc -static
 * needs: musl-gcc
 * run:
 * expect: double-close error fd=3 @open @first @second
 * expect: leak warning @leak x3
 */
#include <fcntl.h>
#include <unistd.h>

static int opened(void) {
    return open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
}

int main(void) {
    int fd = opened();
    close(fd); /* @first */
    close(fd); /* @second */
    for (int i = 0; i < 3; i++)
        open("/dev/zero", O_RDONLY | O_CLOEXEC); /* @leak */
    return 0;
}
