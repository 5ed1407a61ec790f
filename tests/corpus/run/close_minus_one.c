/* `close(-1)`: a descriptor that was never opened is closed in a common exit path.
 *
 * run:
 * expect: nothing
 * run: --check-uses
 * expect: nothing
 */
#include <fcntl.h>
#include <unistd.h>

int main(void) {
    for (int i = 0; i < 3; i++) {
        int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int output = open("no/such/directory", O_WRONLY | O_CLOEXEC);
        close(output);
        close(input);
    }
    return 0;
}
