/* `fdopen` and `fclose`: the stream owns the descriptor, and the program closes it once more.
 *
 * run:
 * expect: double-close error fd=3 @open @first @second
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int fd = open("data", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); /* @open */
    FILE *stream = fdopen(fd, "w");
    fputs("text\n", stream);
    fclose(stream); /* @first */
    close(fd); /* @second */
    return 0;
}
