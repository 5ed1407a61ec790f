/* A file that is opened in a loop and never closed.
 *
 * run:
 * expect: leak warning x5 @open
 */
#include <fcntl.h>

int main(void) {
    for (int i = 0; i < 5; i++)
        open("/dev/null", O_RDONLY | O_CLOEXEC); /* @open */
    return 0;
}
