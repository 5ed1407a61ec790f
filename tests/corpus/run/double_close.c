/* A descriptor that one thread closes twice.
 *
 * build: -O2
 * run:
 * expect: double-close error fd=3 @open @first @second
 * run: --quarantine
 * expect: double-close error @open @first @second
 * run: --check-uses
 * expect: double-close error fd=3 @open @first @second
 */
#include <fcntl.h>
#include <unistd.h>

static void finish(int fd) {
    close(fd); /* @second */
}

int main(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    close(fd); /* @first */
    finish(fd);
    return 0;
}
