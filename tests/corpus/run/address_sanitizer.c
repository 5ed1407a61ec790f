/* A program with AddressSanitizer, whose leak check cannot run under a tracer: it is turned off, and the
 * report says so.
 *
 * build: -fsanitize=address
 * needs: cc -fsanitize=address
 * run:
 * expect: double-close error fd=3 @open @first @second
 * says: detect_leaks
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    close(fd); /* @first */
    close(fd); /* @second */
    return 0;
}
