/* A 32-bit program, whose system calls have other numbers: the report says so.
 *
 * build: gcc -m32
 * needs: gcc -m32
 * run:
 * expect: nothing
 * says: calls32
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    for (int i = 0; i < 3; i++) {
        if (close(open("/dev/null", O_RDONLY | O_CLOEXEC)) != 0)
            return 1;
    }
    return 0;
}
