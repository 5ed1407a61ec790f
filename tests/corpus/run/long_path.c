/* A double close of a file whose path is longer than the kernel can say: it is that file, not the one that
 * had the number before.
 *
 * build: -O0
 * run:
 * expect: double-close error fd=3 @open @first @second
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH 21

int main(void) {
    char name[201];
    memset(name, 'd', 200);
    name[200] = 0;
    for (int i = 0; i < DEPTH; i++)
        if (mkdir(name, 0700) || chdir(name))
            return 1;
    int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* @open */
    close(fd); /* @first */
    close(fd); /* @second */
    unlink("file");
    for (int i = 0; i < DEPTH; i++)
        if (chdir("..") || rmdir(name))
            return 1;
    return 0;
}
